"""normctl bench against a real normd: what it sends arrives, what it tells is so."""

import json
import os
import pty
import re
import signal
import subprocess

from normctl_process import (ALREADY_EXISTS, ERROR, NOT_FOUND, REFUSED, UNAVAILABLE,
                             USAGE)
from normctl_with_server import NormdServer, ServerTest, cpu_seconds, main


class BenchTest(ServerTest):

    def setUp(self):
        super().setUp()
        self.prefix = f"{self.name}/"

    def bench(self, *arguments):
        return self.json("bench", "--prefix", self.prefix, *arguments)

    def states(self):
        return [state["name"] for state in self.json("list", self.prefix)["states"]]

    def tracked(self, index=0):
        return self.json("get", f"{self.prefix}{index}")["running_stats"]["num_batches_tracked"]

    def test_every_mode_is_answered_and_counted(self):
        for mode, durability in [("train", "durable"), ("train", "relaxed"),
                                 ("train-moments", "durable"), ("train-moments", "relaxed"),
                                 ("normalize", "durable")]:
            with self.subTest(mode=mode, durability=durability):
                result = self.bench("--mode", mode, "--durability", durability, "--messages", "300",
                                    "--states", "3", "--streams", "2", "--channels", "2",
                                    "--threads", "2")
                self.assertEqual((result["messages"], result["answered"], result["acknowledged"],
                                  result["unanswered"], result["errors"]), (300, 300, 300, 0, 0))
                self.assertEqual(result.get("num_batches_tracked_growth"),
                                 None if mode == "normalize" else 300)
                latency = [result["latency_us"][name]
                           for name in ("p50", "p90", "p99", "p99.9", "max")]
                self.assertEqual(latency, sorted(latency))
                self.assertGreater(latency[0], 0)
                self.assertGreater(result["messages_per_second"], 0)
                self.assertEqual(self.states(), [])

    def test_tells_what_processor_time_the_server_took(self):
        before = cpu_seconds(self.server.process)
        result = self.bench("--mode", "normalize", "--messages", "20000", "--streams", "2")
        taken = cpu_seconds(self.server.process) - before
        told = result["server_cpu_us_per_message"] * result["answered"] / 1e6
        # The kernel tells hundredths of what was taken, and some of it before the streams.
        self.assertGreater(told, taken / 2 - 0.02)
        self.assertLessEqual(told, taken + 0.02)

    def test_messages_are_as_large_as_the_options_say(self):
        values = 8 * 16 * 5
        for dtype, size in [("float16", 2), ("bfloat16", 2), ("float32", 4), ("float64", 8)]:
            for mode, flags, answered in [("train", [], True), ("train", ["--no-output"], False),
                                          ("normalize", [], True)]:
                with self.subTest(dtype=dtype, mode=mode, flags=flags):
                    result = self.bench("--mode", mode, "--dtype", dtype, "--shape", "8,16,5",
                                        "--messages", "10", *flags)
                    sent, received = (result[f"{way}_bytes_per_second"] * result["seconds"] / 10
                                      for way in ("sent", "received"))
                    self.assertGreater(sent, values * size)
                    self.assertLess(sent, values * size + 150)
                    self.assertGreater(received, values * size if answered else 0)
                    self.assertLess(received, (values * size if answered else 0) + 100)

    def test_moments_are_sent_for_the_channel_axis_of_the_layout(self):
        for layout, channels in [("channels-first", 3), ("channels-last", 7)]:
            result = self.bench("--mode", "train-moments", "--shape", "5,3,7", "--layout", layout,
                                "--messages", "10", "--keep")
            self.assertEqual(result["acknowledged"], 10)
            state = self.json("get", f"{self.prefix}0")
            self.assertEqual(state["config"]["num_features"], channels)
            self.out("delete", f"{self.prefix}0")

    def test_a_duration_ends_it(self):
        result = self.bench("--warmup", "0.1", "--duration", "0.3", "--durability", "relaxed")
        self.assertAlmostEqual(result["seconds"], 0.3, places=6)
        self.assertGreater(result["answered"], result["messages"])
        self.assertEqual(result["acknowledged"], result["num_batches_tracked_growth"])

    def test_keeps_its_states_when_asked_and_those_of_others_always(self):
        self.out("create", f"{self.prefix}1", "--num-features", "64")
        self.out("create", f"{self.prefix}1x", "--num-features", "64")
        self.bench("--states", "3", "--messages", "30", "--existing")
        self.assertEqual(self.states(), [f"{self.prefix}1", f"{self.prefix}1x"])
        self.bench("--states", "3", "--messages", "300", "--keep", "--existing")
        self.assertEqual(len(self.states()), 4)
        self.assertEqual(self.json("get", f"{self.prefix}1x")["revision"], 1)
        # And again, with the states as they are.
        before = self.tracked()
        self.assertGreater(before, 0)
        result = self.bench("--states", "1", "--messages", "30", "--existing")
        self.assertEqual(result["num_batches_tracked_growth"], 30)
        self.assertEqual(self.tracked(), before + 30)

    def test_trains_no_state_that_was_there_before_unless_asked(self):
        self.out("create", f"{self.prefix}1", "--num-features", "64")
        for mode in ("train", "train-moments"):
            text = self.failure(ALREADY_EXISTS, "bench", "--prefix", self.prefix, "--states", "3",
                                "--messages", "30", "--mode", mode)
            self.assertIn(f"state '{self.prefix}1' exists already, and would be trained", text)
            self.assertIn("--existing", text)
        self.assertEqual(self.states(), [f"{self.prefix}1"])
        self.assertEqual(self.tracked(1), 0)
        self.bench("--states", "3", "--messages", "30", "--mode", "normalize")

    def test_refusals_are_counted_and_end_it_with_their_exit_code(self):
        self.out("create", f"{self.prefix}0", "--num-features", "3")
        out, error = self.run_normctl("bench", "--prefix", self.prefix, "--messages", "20",
                                      "--existing", "--json", code=REFUSED)
        result = json.loads(out)
        self.assertEqual((result["errors"], result["acknowledged"]), (20, 0))
        self.assertIn("num_features is 3", result["first_error"])
        self.assertEqual(json.loads(error)["error"]["reason"], "CHANNEL_COUNT_MISMATCH")

    def test_with_any_peer_nothing_is_created_and_no_answer_looked_into(self):
        result = self.bench("--peer", "any", "--messages", "20")
        self.assertEqual((result["answered"], result["errors"]), (20, 0))
        self.assertNotIn("num_batches_tracked_growth", result)
        self.failure(NOT_FOUND, "get", f"{self.prefix}0")

    def test_tells_people(self):
        text = self.out("bench", "--prefix", self.prefix, "--messages", "20", "--seed", "5")
        self.assertRegex(text, r"^train durable: float32 \[64,64\] to .*; seed 5\n"
                               r"messages  20 in .* s: .* messages/s\n"
                               r"bytes     .* MB/s sent, .* MB/s received\n"
                               r"latency   p50 .*, p90 .*, p99 .*, p99.9 .*, max .*\n"
                               r"client    .* us of CPU a message\n"
                               r"server    .* us of CPU a message\n"
                               r"server    num_batches_tracked grew by 20, "
                               r"20 updates acknowledged: the same\n"
                               r"errors    0\n$")

    def test_seeds_are_as_printed(self):
        self.assertEqual(self.bench("--messages", "1", "--seed", "0")["seed"], 0)
        self.failure(USAGE, "bench", "--prefix", self.prefix, "--messages", "1", "--seed", "-1")

    def test_many_states_that_are_there_are_trained_and_kept(self):
        self.bench("--states", "150", "--messages", "1", "--keep")
        result = self.bench("--states", "160", "--messages", "320", "--existing")
        self.assertEqual((result["acknowledged"], result["num_batches_tracked_growth"]), (320, 320))
        self.assertEqual(len(self.states()), 150)

    def start(self, *arguments, **keywords):
        return subprocess.Popen(
            [self.binary, "bench", "--prefix", self.prefix, "--duration", "3600", *arguments],
            env=self.environment(), **keywords)

    def draw(self, leader):
        """What is drawn on a terminal, piece by piece, until it is closed."""
        while True:
            try:
                yield os.read(leader, 65536)
            except OSError:  # the other end was closed
                return

    def test_draws_a_live_line_and_ends_when_interrupted_with_its_states_deleted(self):
        leader, follower = pty.openpty()
        with self.start("--json", stdout=subprocess.PIPE, stderr=follower) as bench:
            os.close(follower)
            drawn = b""
            for piece in self.draw(leader):
                drawn += piece
                if re.search(rb"bench train .* messages/s  .* MB/s", drawn):
                    bench.send_signal(signal.SIGINT)
                    break
            rest = b"".join(self.draw(leader))
            os.close(leader)
            result = json.loads(bench.stdout.read())
            self.assertEqual(bench.wait(timeout=60), 0, drawn + rest)
        self.assertTrue(result["interrupted"])
        self.assertEqual((result["unanswered"], result["errors"]), (0, 0))
        self.assertEqual(result["acknowledged"], result["num_batches_tracked_growth"])
        self.assertEqual(self.states(), [])

    def test_a_server_that_goes_away_ends_it(self):
        with NormdServer(self.normd) as server:
            with self.start("--mode", "normalize", "--address", server.address, "--timeout", "3",
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
                while not self.json("list", self.prefix, "--address", server.address)["states"]:
                    pass
                server.process.kill()
                _, error = bench.communicate(timeout=60)
                self.assertEqual(bench.returncode, UNAVAILABLE, error)

    def test_what_was_measured_is_told_when_the_server_goes_away(self):
        with NormdServer(self.normd) as server:
            with self.start("--mode", "train", "--address", server.address, "--timeout", "3",
                            "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
                while not any(state["running_stats"]["num_batches_tracked"] for state in self.json(
                        "list", self.prefix, "--address", server.address)["states"]):
                    pass
                server.process.kill()
                out, error = bench.communicate(timeout=60)
                self.assertEqual(bench.returncode, UNAVAILABLE, error)
                result = json.loads(out)
                self.assertGreater(result["acknowledged"], 0)
                self.assertGreater(result["errors"], 0)
                self.assertNotIn("num_batches_tracked_growth", result)

    def test_updates_that_the_server_did_not_acknowledge_to_it_are_told(self):
        self.out("create", f"{self.prefix}0", "--num-features", "64", "--no-track-running-stats")
        error = self.run_normctl("bench", "--prefix", self.prefix, "--messages", "20",
                                 "--existing", "--timeout", "0.5", code=ERROR)[1].decode()
        self.assertIn("counted 0 updates and acknowledged 20", error)


if __name__ == "__main__":
    main()
