"""normctl without a server: help, wrong usage, bad inputs, exit codes."""

import json
import socket
import struct

from normctl_process import INPUT, UNAVAILABLE, USAGE, NormctlTest, main

COMMANDS = ["create", "get", "list", "delete", "update", "set-parameters", "reset", "freeze",
            "unfreeze", "train", "normalize", "backward", "apply-gradients", "calibrate", "export",
            "import", "watch", "bench"]


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

    def test_help_of_import_says_what_a_convention_changes(self):
        text = " ".join(self.out("import", "--help").split())
        self.assertIn("Weight of the new value in the running statistics, 0 to 1 (default 0.1); "
                      "with --convention keras and onnx that of the old one (default 0.99, 0.9)",
                      text)
        self.assertIn("(default 1e-5; keras: 1e-3; rms_norm:", text)
        self.assertIn("1 (PyTorch, default) or 0 (default of keras and onnx)", text)
        self.assertNotIn("keras", " ".join(self.out("create", "--help").split()))

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
                ["train", "a", "--epochs", "2", "--save-moments", "x.npy"],
                ["train", "a", "--input", "x", "--save-moments", "-"],
                ["train", "a", "--input", "x", "--output", "y.npy", "--save-moments", "./y.npy"],
                ["train", "a", "--first-sequence", "0"],
                ["normalize", "a", "--layout", "sideways"],
                ["normalize", "a", "--dtype", "float8"],
                ["create", "a", "--kind", "layer_norm"],
                ["create", "a", "--kind", "group_norm", "--num-features", "4"],
                ["create", "a", "--kind", "softmax", "--num-features", "4"],
                ["create", "a", "--kind", "layer_norm", "--normalized-shape", "8,x"],
                ["create", "a", "--num-features", "3", "--affine", "--no-affine"],
                ["create", "a", "--num-features", "3", "--lr", "0.1"],
                ["create", "a", "--num-features", "3", "--optimizer", "sgd"],
                ["create", "a", "--num-features", "3", "--optimizer", "lion"],
                ["create", "a", "--num-features", "3", "--parameter-dtype", "float16"],
                ["update", "a", "--weight-decay", "0.1"],
                ["update", "a", "--optimizer", "none", "--lr", "0.1"],
                ["backward", "a"],
                ["backward", "a", "--grad-output", "-"],
                ["backward", "a", "--grad-output", "g.npy", "--moments", "-"],
                ["backward", "a", "--grad-output", "-", "--input", "x", "--moments", "-"],
                ["backward", "a", "--grad-output", "g.npy", "--producer-id", "p"],
                ["backward", "a", "--grad-output", "g.npy", "--mode", "half"],
                ["backward", "a", "--grad-output", "g.npy", "--grad-input", "-"],
                ["backward", "a", "--grad-output", "g.npy", "--input", "x", "--grad-weight", "-"],
                ["backward", "a", "--grad-output", "g.npy", "--input", "x", "--grad-weight", "w",
                 "--grad-bias", "./w"],
                ["apply-gradients", "a"],
                ["apply-gradients", "a", "--grad-bias", "b.npy", "--producer-id", "p"],
                ["apply-gradients", "a", "--grad-bias", "b.npy", "--sequence", "1"],
                ["calibrate"], ["calibrate", "begin"], ["calibrate", "end", "a"],
                ["calibrate", "begin", "a", "--method", "guess"],
                ["calibrate", "commit", "a", "--method", "pooled"],
                ["calibrate", "begin", "a", "--calibration-id", "1-2"],
                ["train", "a", "--calibration-id", "1-2"],
                ["export", "a/"], ["export", "--output", "x"],
                ["export", "a/", "--output", "x", "--dtype", "float16"],
                ["import"], ["import", "x", "--convention", "caffe"],
                ["bench", "--mode", "guess"], ["bench", "--shape", "64"],
                ["bench", "--shape", "64,0"], ["bench", "--shape", "64,x"],
                ["bench", "--shape", "65536,65536"], ["bench", "--dtype", "float8"],
                ["bench", "--window", "0"], ["bench", "--streams", "0"],
                ["bench", "--messages", "0"], ["bench", "--duration", "0"],
                ["bench", "--duration", "nan"], ["bench", "--warmup", "nan"],
                ["list", "--timeout", "nan"], ["train", "a", "--retry-timeout", "nan"],
                ["bench", "--messages", "5", "--duration", "1"],
                ["bench", "--messages", "5", "--warmup", "1"], ["bench", "--peer", "redis"],
                ["list", "--limit", "0"], ["list", "--timeout", "0"],
                ["list", "--address", ""]]:
            with self.subTest(arguments=arguments):
                text = self.failure(USAGE, *arguments)
                self.assertTrue(text.startswith("normctl: "), text)
                self.assertEqual(text.count("\n"), 1, text)

    def test_an_unknown_command_or_option_is_named(self):
        for arguments, expected in [
                (["bogus"], "unknown command 'bogus'"),
                (["bogus", "--json-lines"], "unknown command 'bogus'"),
                (["calibrate", "bogus", "a"], "unknown command 'bogus'"),
                (["--bogus"], "unknown option '--bogus'"),
                (["get", "a", "bogus"], "bogus"),
                ([], "subcommand is required")]:
            with self.subTest(arguments=arguments):
                self.assertIn(expected, self.failure(USAGE, *arguments))

    def test_a_number_that_does_not_fit_is_told_as_it_was_given(self):
        huge = "99999999999999999999"
        for option in ["--num-features", "--num-groups", "--num-batches-tracked"]:
            for value in [huge, "-" + huge, "1.5"]:
                with self.subTest(option=option, value=value):
                    text = self.failure(USAGE, "create", "a", f"{option}={value}")
                    self.assertIn(f"{option}: '{value}' is not a whole number that fits in 64 bits",
                                  text)
        text = self.failure(USAGE, "train", "a", "--batch-size", huge)
        self.assertIn(f"--batch-size: '{huge}' is not a whole number of 1 or more that fits", text)

    def test_wrong_usage_is_json_with_json(self):
        error = json.loads(self.failure(USAGE, "get", "--json"))["error"]
        self.assertEqual(error["exit_code"], USAGE)
        self.assertIn("NAME", error["message"])

    def test_input_that_cannot_be_read_ends_with_7(self):
        for command in [["train", "a", "--input"], ["normalize", "a", "--input"],
                        ["create", "a", "--num-features", "3", "--weight"],
                        ["set-parameters", "a", "--bias"],
                        ["backward", "a", "--grad-output"],
                        ["apply-gradients", "a", "--grad-weight"], ["import"]]:
            with self.subTest(command=command):
                self.assertIn("No such file", self.failure(INPUT, *command, self.path("none"),
                                                           stdin=b"[[1]]"))

    def test_malformed_standard_input_ends_with_7(self):
        self.assertIn("standard input", self.failure(INPUT, "train", "a", stdin=b"\x93NUMP"))
        error = json.loads(self.failure(INPUT, "normalize", "a", "--json", stdin=b"[[1],[2,3]]"))
        self.assertIn("not rectangular", error["error"]["message"])
        self.assertEqual(error["error"]["exit_code"], INPUT)

    def test_a_model_file_that_is_none_ends_with_7(self):
        with open(self.path("model"), "wb") as file:
            file.write(b"PK\x03\x04 zip file")
        error = json.loads(self.failure(INPUT, "import", self.path("model"), "--json"))["error"]
        self.assertIn("expected a safetensors file", error["message"])
        self.assertEqual(error["exit_code"], INPUT)

    def test_deeply_nested_metadata_do_not_end_the_process(self):
        deep = "[" * 3_000_000 + "]" * 3_000_000
        states = '{"version": 1, "states": [%s]}'
        for metadata in ['{"version": %s, "states": []}' % deep,
                         '{"version": 1, "states": %s}' % deep,
                         states % deep,
                         states % '{"module": %s}' % deep,
                         states % '{"module": "a", "config": %s}' % deep,
                         states % '{"module": "a", "config": {"kind": %s}}' % deep]:
            header = json.dumps({"__metadata__": {"normd": metadata}}).encode()
            with open(self.path("model"), "wb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
            self.assertIn("arrays and objects at most 32 deep",
                          self.failure(INPUT, "import", self.path("model")))
        for header in [deep.encode(), b'{"a": ' + deep.encode() + b"}",
                       b'{"__metadata__": {"normd": ' + deep.encode() + b"}}"]:
            with open(self.path("model"), "wb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
            self.assertIn("header is malformed",
                          self.failure(INPUT, "import", self.path("model")))

    def test_a_sparse_file_of_60_gb_is_refused_before_it_is_read(self):
        values = 15 << 30
        tensor = {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}
        header = json.dumps({"bn.running_mean": tensor}).encode()
        with open(self.path("model"), "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + 4 * values)
        self.assertIn(f"'bn.running_mean' has shape ({values},), {values} values, expected at most "
                      "1048576", self.failure(INPUT, "import", self.path("model")))

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
