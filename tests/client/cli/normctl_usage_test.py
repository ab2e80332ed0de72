"""normctl without a server: help, wrong usage, bad inputs, exit codes."""

import json
import socket

from normctl_process import INPUT, UNAVAILABLE, USAGE, NormctlTest, main

COMMANDS = ["create", "get", "list", "delete", "update", "set-parameters", "reset", "freeze",
            "unfreeze", "train", "normalize", "watch"]


class UsageTest(NormctlTest):

    def test_help_names_every_command_and_exit_code(self):
        text = self.out("--help")
        for command in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {command} ")
        for code in range(8):
            self.assertRegex(text, rf"(?m)^  {code}  \w")

    def test_help_of_every_command_has_an_example(self):
        for command in COMMANDS:
            text = self.out(command, "--help")
            self.assertRegex(text, rf"Example:\n(.*\n)*.*normctl {command}")

    def test_version(self):
        self.assertRegex(self.out("--version"), r"^normctl \d+\.\d+\.\d+\n$")

    def test_wrong_usage_ends_with_2(self):
        for arguments in [
                [], ["frobnicate"], ["get"], ["get", "a", "b"], ["create", "a"],
                ["create", "a", "--num-features", "x"],
                ["create", "a", "--num-features", "3", "--momentum", "0.1",
                 "--cumulative-average"],
                ["create", "a", "--num-features", "3", "--non-finite", "maybe"],
                ["update", "a"], ["set-parameters", "a"],
                ["train", "a", "--batch-size", "0"], ["train", "a", "--window", "0"],
                ["train", "a", "--durability", "never"],
                ["train", "a", "--moments", "--output", "x.npy"],
                ["train", "a", "--epochs", "2", "--output", "x.npy"],
                ["train", "a", "--first-sequence", "0"],
                ["normalize", "a", "--layout", "sideways"],
                ["list", "--limit", "0"], ["list", "--timeout", "0"],
                ["list", "--address", ""]]:
            with self.subTest(arguments=arguments):
                text = self.failure(USAGE, *arguments)
                self.assertTrue(text.startswith("normctl: "), text)
                self.assertEqual(text.count("\n"), 1, text)

    def test_wrong_usage_is_json_with_json(self):
        error = json.loads(self.failure(USAGE, "get", "--json"))["error"]
        self.assertEqual(error["exit_code"], USAGE)
        self.assertIn("NAME", error["message"])

    def test_input_that_cannot_be_read_ends_with_7(self):
        for command in [["train", "a", "--input"], ["normalize", "a", "--input"],
                        ["create", "a", "--num-features", "3", "--weight"],
                        ["set-parameters", "a", "--bias"]]:
            with self.subTest(command=command):
                self.assertIn("No such file", self.failure(INPUT, *command, self.path("none")))

    def test_malformed_standard_input_ends_with_7(self):
        self.assertIn("standard input", self.failure(INPUT, "train", "a", stdin=b"\x93NUMP"))
        error = json.loads(self.failure(INPUT, "normalize", "a", "--json", stdin=b"[[1],[2,3]]"))
        self.assertIn("not rectangular", error["error"]["message"])
        self.assertEqual(error["error"]["exit_code"], INPUT)

    def test_output_that_cannot_be_written_ends_with_7(self):
        path = self.path("no/such/folder.npy")
        self.assertIn("cannot write",
                      self.failure(INPUT, "train", "a", "--output", path, stdin=b"[[1],[2]]"))

    def test_server_that_is_not_there_ends_with_6(self):
        with socket.socket() as taken:  # bound and not listening: refused
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            text = self.failure(UNAVAILABLE, "get", "a", "--address", address, "--timeout", "0.5")
            self.assertIn(address, text)
            error = json.loads(self.failure(UNAVAILABLE, "list", "--json", "--address", address,
                                            "--timeout", "0.5"))
            self.assertEqual(error["error"]["code"], "UNAVAILABLE")

    def test_server_that_does_not_answer_ends_with_6(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            self.failure(UNAVAILABLE, "list", "--address", address, "--timeout", "0.5")


if __name__ == "__main__":
    main()
