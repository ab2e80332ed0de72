"""normctl against a real normd: every command, files and pipes, refusals, exit codes."""

import io
import json
import os
import pty
import signal
import subprocess

import numpy as np

from normctl_process import ALREADY_EXISTS, NOT_FOUND, REFUSED, UNAVAILABLE
from normctl_with_server import NormdServer, ServerTest, main


def normalized(values, eps=1e-5):
    """What PyTorch's BatchNorm gives in training for shape (N, C)."""
    values = values.astype("f8")
    return (values - values.mean(0)) / np.sqrt(values.var(0) + eps)


class StateTest(ServerTest):

    def test_creates_and_gets_what_was_asked_for(self):
        self.assertRegex(
            self.out("create", self.name, "--num-features", "3", "--eps", "0.001",
                     "--cumulative-average", "--running-var-correction", "0",
                     "--non-finite", "propagate"),
            rf"^{self.name} created \(revision 1, etag .+\)\n$")
        state = self.json("get", self.name)
        self.assertEqual(state["name"], self.name)
        self.assertEqual(state["config"], {
            "kind": "BATCH_NORM", "num_features": 3, "eps": 0.001, "momentum": None,
            "cumulative_average": True, "affine": True, "track_running_stats": True,
            "running_var_correction": 0, "non_finite": "PROPAGATE",
            "parameter_dtype": "FLOAT32"})
        self.assertEqual(state["parameters"], {"weight": [1, 1, 1], "bias": [0, 0, 0]})
        self.assertEqual(state["running_stats"], {
            "running_mean": [0, 0, 0], "running_var": [1, 1, 1], "num_batches_tracked": 0})
        self.assertEqual((state["frozen"], state["revision"]), (False, 1))

    def test_creates_without_parameters_and_statistics(self):
        state = self.create("--num-features", "2", "--no-affine", "--no-track-running-stats")
        self.assertNotIn("parameters", state)
        self.assertNotIn("running_stats", state)
        self.assertNotIn("channel", self.out("get", self.name))

    def test_writes_arrays_that_a_new_state_begins_with(self):
        self.create("--num-features", "3", "--momentum", "0.3")
        self.out("train", self.name, stdin=b"[[0.1,2,3],[4,5,7]]")
        folder = self.path("dump")
        first = json.loads(self.out("get", self.name, "--json", "--output", folder))
        self.assertEqual(np.load(f"{folder}/weight.npy").dtype, np.float32)
        self.assertEqual(np.load(f"{folder}/running_mean.npy").tolist(),
                         first["running_stats"]["running_mean"])
        second = self.json(
            "create", self.name + "_copy", "--num-features", "3", "--weight",
            f"{folder}/weight.npy", "--bias", f"{folder}/bias.npy", "--running-mean",
            f"{folder}/running_mean.npy", "--running-var", f"{folder}/running_var.npy",
            "--num-batches-tracked", "1")
        for field in ("parameters", "running_stats"):
            self.assertEqual(first[field], second[field])

    def test_prints_a_table_cut_for_many_channels(self):
        self.create("--num-features", "50")
        text = self.out("get", self.name)
        self.assertRegex(text, r"(?m)^num_features +50$")
        self.assertRegex(text, r"(?m)^ +19  1.0000  0.0000 +0.0000 +1.0000$")
        self.assertTrue(text.endswith("and 30 more channels: --all shows them\n"))
        self.assertRegex(self.out("get", self.name, "--all"), r"(?m)^ +49  1.0000")

    def test_lists_by_prefix_and_limit(self):
        for i in range(5):
            self.out("create", f"{self.name}/{i}", "--num-features", "1")
        listed = self.json("list", self.name + "/")
        self.assertEqual([s["name"] for s in listed["states"]],
                         [f"{self.name}/{i}" for i in range(5)])
        self.assertEqual(listed["damaged"], [])
        self.assertEqual(len(self.json("list", self.name + "/", "--limit", "2")["states"]), 2)
        text = self.out("list", self.name + "/")
        self.assertTrue(text.startswith("NAME "))
        self.assertEqual(text.count("\n"), 6)

    def test_lists_more_than_a_page(self):
        names = [f"a/{i:02}" for i in range(23)]
        with NormdServer(self.normd, "--page-size-max=5") as server:
            at = ("--address", server.address)
            for name in names:
                self.out("create", name, "--num-features=1", *at)
            listed = self.json("list", "a/", *at)
        self.assertEqual([s["name"] for s in listed["states"]], names)

    def test_updates_deletes_and_guards_by_etag(self):
        etag = self.create("--num-features", "2")["etag"]
        updated = self.json("update", self.name, "--momentum", "0.5", "--etag", etag)
        self.assertEqual(updated["config"]["momentum"], 0.5)
        text = self.failure(REFUSED, "update", self.name, "--eps", "1", "--etag", etag)
        self.assertIn("(reason ETAG_MISMATCH)", text)
        self.failure(REFUSED, "delete", self.name, "--etag", etag)
        self.assertEqual(self.out("delete", self.name, "--etag", updated["etag"]),
                         f"{self.name} deleted\n")
        self.failure(NOT_FOUND, "get", self.name)

    def test_sets_parameters_from_files_and_standard_input(self):
        self.create("--num-features", "2")
        weight = self.save("w.npy", np.array([2, 3], "f8"))
        state = self.json("set-parameters", self.name, "--weight", weight)
        self.assertEqual(state["parameters"], {"weight": [2, 3], "bias": [0, 0]})
        state = self.json("set-parameters", self.name, "--bias", "-", stdin=b"[0.5, -1]")
        self.assertEqual(state["parameters"], {"weight": [2, 3], "bias": [0.5, -1]})
        self.assertIn("PARAMETERS_LENGTH_MISMATCH",
                      self.failure(REFUSED, "set-parameters", self.name, "--bias", "-",
                                   stdin=b"[1]"))

    def test_freezes_unfreezes_and_resets(self):
        self.create("--num-features", "1")
        self.out("train", self.name, stdin=b"[[1],[3]]")
        self.assertTrue(self.json("freeze", self.name)["frozen"])
        self.assertIn("STATE_FROZEN", self.failure(REFUSED, "reset", self.name))
        self.assertIn("STATE_FROZEN",
                      self.failure(REFUSED, "train", self.name, stdin=b"[[1],[3]]"))
        self.assertFalse(self.json("unfreeze", self.name)["frozen"])
        self.assertEqual(self.json("reset", self.name)["running_stats"],
                         {"running_mean": [0], "running_var": [1], "num_batches_tracked": 0})

    def test_errors_of_the_server_have_their_exit_codes(self):
        text = self.failure(NOT_FOUND, "get", self.name)
        self.assertTrue(text.startswith("normctl: "), text)
        self.assertIn("(reason STATE_NOT_FOUND)", text)
        error = json.loads(self.failure(NOT_FOUND, "get", self.name, "--json"))["error"]
        self.assertEqual((error["code"], error["reason"], error["exit_code"]),
                         ("NOT_FOUND", "STATE_NOT_FOUND", NOT_FOUND))
        self.failure(NOT_FOUND, "train", self.name, stdin=b"[[1],[2]]")
        self.failure(NOT_FOUND, "normalize", self.name, stdin=b"[[1],[2]]")
        self.create("--num-features", "1")
        self.failure(ALREADY_EXISTS, "create", self.name, "--num-features", "1")
        self.failure(REFUSED, "create", self.name + "2", "--num-features", "0")
        self.failure(REFUSED, "create", "a//b", "--num-features", "1")

    def test_trains_in_mini_batches_and_writes_the_outputs(self):
        batch = self.random.normal(5, 3, (10, 4)).astype("f4")
        self.create("--num-features", "4")
        result = self.json("train", self.name, "--input", self.save("in.npy", batch),
                           "--batch-size", "4", "--output", self.path("out.npy"))
        self.assertEqual((result["applied"], result["duplicate"], result["refused"]), (3, 0, 0))
        self.assertEqual((result["rows"], result["num_batches_tracked"]), (10, 3))
        out = np.load(self.path("out.npy"))
        self.assertEqual((out.dtype, out.shape), (np.float32, (10, 4)))
        for begin in (0, 4, 8):
            np.testing.assert_allclose(out[begin:begin + 4], normalized(batch[begin:begin + 4]),
                                       rtol=1e-4, atol=1e-5)
        mean = np.zeros(4)
        for begin in (0, 4, 8):
            mean = 0.9 * mean + 0.1 * batch[begin:begin + 4].astype("f8").mean(0)
        state = self.json("get", self.name)
        np.testing.assert_allclose(state["running_stats"]["running_mean"], mean, rtol=1e-6)

    def test_prints_a_summary_for_people(self):
        self.create("--num-features", "1")
        text = self.out("train", self.name, stdin=b"[[1],[3]]")
        self.assertRegex(text, r"1 mini-batches applied, 0 duplicate, 0 refused \(2 rows\) in .* "
                               r"batches/s, .* MB/s\nrevision 2, num_batches_tracked 1\n$")

    def test_trains_several_arrays_from_a_pipe_to_a_pipe(self):
        self.create("--num-features", "3")
        arrays = [self.random.normal(size=(n, 3)).astype("f4") for n in (2, 5)]
        piped = b"".join(self.bytes_of(array) for array in arrays)
        out, error = self.run_normctl("train", self.name, "--output", "-", stdin=piped)
        self.assertIn(b"2 mini-batches applied", error)
        outputs = io.BytesIO(out)
        for array in arrays:
            np.testing.assert_allclose(np.load(outputs), normalized(array), rtol=1e-4, atol=1e-5)
        self.assertEqual(outputs.read(), b"")

    def test_writes_json_outputs(self):
        self.create("--num-features", "1", "--eps", "0")
        self.out("train", self.name, "--output", self.path("o.json"), stdin=b"[[1],[3]]")
        with open(self.path("o.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file), [[-1], [1]])

    def test_moments_train_as_the_values_do(self):
        batch = self.save("in.npy", self.random.normal(3, 2, (6, 5, 2)).astype("f4"))
        stats = []
        for extra in ([], ["--moments"], ["--moments", "--durability", "relaxed"]):
            name = f"{self.name}{len(stats)}"
            self.out("create", name, "--num-features", "2")
            self.out("train", name, "--input", batch, "--layout", "channels-last",
                     "--batch-size", "2", "--epochs", "2", *extra)
            stats.append(self.json("get", name)["running_stats"])
        self.assertEqual(stats[0]["num_batches_tracked"], 6)
        for other in stats[1:]:
            for field in stats[0]:
                np.testing.assert_allclose(other[field], stats[0][field], rtol=1e-9)

    def test_repeating_a_command_with_a_producer_id_applies_nothing_twice(self):
        self.create("--num-features", "1")
        command = ["train", self.name, "--batch-size", "2", "--producer-id", "p",
                   "--first-sequence", "10"]
        first = self.json(*command, stdin=b"[[1],[3],[5],[9]]")
        self.assertEqual((first["applied"], first["last_sequence"]), (2, 11))
        again = self.json(*command, stdin=b"[[1],[3],[5],[9],[2],[4]]")
        self.assertEqual((again["applied"], again["duplicate"]), (1, 2))
        self.assertEqual(self.json("get", self.name)["running_stats"]["num_batches_tracked"], 3)

    def test_stops_at_the_first_refusal_and_says_where(self):
        self.create("--num-features", "1")
        values = np.arange(20, dtype="f4").reshape(20, 1)
        values[5] = np.nan
        path = self.save("in.npy", values)
        error = self.failure(REFUSED, "train", self.name, "--input", path, "--batch-size", "2",
                             "--window", "1", "--output", self.path("out.npy"))
        self.assertIn("mini-batch 3 (rows 4:6) refused", error)
        self.assertIn("NON_FINITE_VALUE", error)
        self.assertFalse(os.path.exists(self.path("out.npy")))
        tracked = self.json("get", self.name)["running_stats"]["num_batches_tracked"]
        self.assertIn(tracked, (2, 3))  # one may have been on its way

    def test_keeps_going_when_asked_and_marks_the_rows_left_out(self):
        self.create("--num-features", "1")
        values = np.arange(6, dtype="f4").reshape(6, 1)
        values[3] = np.inf
        error = self.failure(REFUSED, "train", self.name, "--keep-going", "--json", "--input",
                             self.save("in.npy", values), "--batch-size", "2", "--output",
                             self.path("out.npy"))
        self.assertEqual(json.loads(error)["error"]["reason"], "NON_FINITE_VALUE")
        out = np.load(self.path("out.npy"))
        self.assertEqual(np.isnan(out[:, 0]).tolist(), [False] * 2 + [True] * 2 + [False] * 2)
        self.assertEqual(self.json("get", self.name)["running_stats"]["num_batches_tracked"], 2)

    def test_a_remainder_without_variance_is_told_before_anything_is_sent(self):
        self.create("--num-features", "1")
        error = self.failure(REFUSED, "train", self.name, "--batch-size", "2",
                             stdin=b"[[1],[2],[3]]")
        self.assertIn("--drop-last", error)
        self.assertIn("(reason ONE_VALUE_PER_CHANNEL)", error)
        self.assertEqual(self.json("get", self.name)["revision"], 1)
        self.out("train", self.name, "--batch-size", "2", "--drop-last", stdin=b"[[1],[2],[3]]")
        self.assertEqual(self.json("get", self.name)["running_stats"]["num_batches_tracked"], 1)

    def test_normalizes_to_files_text_and_json(self):
        self.create("--num-features", "2", "--eps", "0", "--running-mean",
                    self.save("m.npy", np.array([1.0, 2.0])), "--running-var",
                    self.save("v.npy", np.array([4.0, 1.0])))
        values = np.array([[3, 2], [1, 5], [5, 0]], "f4")
        expected = [[1, 0], [0, 3], [2, -2]]
        path = self.save("in.npy", values)
        self.out("normalize", self.name, "--input", path, "--output", self.path("out.npy"),
                 "--batch-size", "2")
        self.assertEqual(np.load(self.path("out.npy")).tolist(), expected)
        self.assertEqual(self.json("normalize", self.name, "--input", path), expected)
        self.assertEqual(self.out("normalize", self.name, "--input", path),
                         "[[ 1.0000,  0.0000],\n [ 0.0000,  3.0000],\n [ 2.0000, -2.0000]]\n")
        out, error = self.run_normctl("normalize", self.name, stdin=b"[[1,2,3]]", code=REFUSED)
        self.assertIn(b"CHANNEL_COUNT_MISMATCH", error)
        self.assertEqual(out, b"")
        self.assertEqual(self.json("get", self.name)["revision"], 1)

    def test_a_mini_batch_that_is_too_large_names_the_cure(self):
        self.create("--num-features", "1")
        path = self.save("in.npy", np.zeros((40 << 20, 1), "f4"))
        error = self.failure(REFUSED, "train", self.name, "--input", path)
        self.assertIn("mini-batch 1 (rows 0:41943040)", error)
        self.assertIn("MESSAGE_TOO_LARGE", error)
        self.assertIn("--batch-size", error)

    def watch(self, *arguments):
        return subprocess.Popen([self.binary, "watch", *arguments], env=self.environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_watches_until_interrupted(self):
        for end in (signal.SIGINT, signal.SIGTERM):
            name = f"{self.name}/{end}"
            with self.watch(name) as watch:
                self.assertIn(b"watching", watch.stderr.readline())
                self.out("create", name, "--num-features", "1")
                self.assertRegex(watch.stdout.readline().decode(),
                                 rf"^CHANGED  {name}  revision 1, num_batches_tracked 0, etag ")
                self.out("delete", name)
                self.assertTrue(watch.stdout.readline().startswith(b"DELETED  "))
                watch.send_signal(end)
                self.assertEqual(watch.wait(timeout=60), 0)

    def test_watch_ends_when_the_server_does(self):
        with NormdServer(self.normd) as server:
            with self.watch("--address", server.address) as watch:
                watch.stderr.readline()
                server.process.terminate()
                self.assertEqual(watch.wait(timeout=60), UNAVAILABLE)
                self.assertTrue(watch.stderr.readline().startswith(b"normctl: "))

    def test_train_gives_up_after_the_retry_timeout_and_says_how_to_go_on(self):
        with NormdServer(self.normd) as server:
            self.out("create", self.name, "--num-features", "1", "--address", server.address)
            train = subprocess.Popen(
                [self.binary, "train", self.name, "--address", server.address,
                 "--retry-timeout", "0.5"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            batch = self.bytes_of(np.array([[1], [3]], "f4"))
            train.stdin.write(batch)
            train.stdin.flush()
            while self.json("get", self.name, "--address", server.address)["revision"] < 2:
                pass
            server.process.kill()
            server.process.wait()
            _, error = train.communicate(batch, timeout=60)
            self.assertEqual(train.returncode, UNAVAILABLE, error)
            self.assertRegex(error.decode(), r"--producer-id \S+ --first-sequence 1")

    def test_draws_progress_on_a_terminal_alone(self):
        self.create("--num-features", "1")
        path = self.save("in.npy", self.random.normal(size=(40000, 1)).astype("f4"))
        command = ["train", self.name, "--input", path, "--batch-size", "2", "--window", "2"]
        _, error = self.run_normctl(*command)
        self.assertEqual(error, b"")
        leader, follower = pty.openpty()
        with subprocess.Popen([self.binary, *command], env=self.environment(),
                              stdout=subprocess.DEVNULL, stderr=follower) as train:
            os.close(follower)
            drawn = b""
            while True:
                try:
                    piece = os.read(leader, 65536)
                except OSError:  # the other end was closed
                    break
                drawn += piece
            os.close(leader)
            self.assertEqual(train.wait(timeout=60), 0)
        self.assertRegex(drawn, rb"% \[#*\.*\]  \d+ batches")
        self.assertTrue(drawn.endswith(b"\r\x1b[K"))


if __name__ == "__main__":
    main()
