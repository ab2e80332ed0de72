"""normctl against a real normd: kinds, dtypes, gradients, learning, calibration."""

import json
import os
import re

import numpy as np

from normctl_process import INPUT, NOT_FOUND, REFUSED, USAGE
from normctl_with_server import ServerTest, main

EPS = 1e-5


def normalized(values, axes):
    """`values` in float64, each set over `axes` with mean 0 and variance 1."""
    values = values.astype("f8")
    return ((values - values.mean(axes, keepdims=True))
            / np.sqrt(values.var(axes, keepdims=True) + EPS))


class KindTest(ServerTest):

    def test_creates_every_kind_with_its_defaults(self):
        for arguments, expected in [
                (["--kind", "layer_norm", "--normalized-shape", "2,3"],
                 {"kind": "LAYER_NORM", "num_features": 6, "normalized_shape": [2, 3],
                  "affine": True, "track_running_stats": False}),
                (["--kind", "group_norm", "--num-features", "4", "--num-groups", "2"],
                 {"kind": "GROUP_NORM", "num_groups": 2, "affine": True}),
                (["--kind", "instance_norm", "--num-features", "4"],
                 {"affine": False, "track_running_stats": False, "momentum": 0.1}),
                (["--kind", "instance_norm", "--num-features", "4", "--affine",
                  "--track-running-stats"], {"affine": True, "track_running_stats": True}),
                (["--kind", "rms_norm", "--normalized-shape", "5", "--parameter-dtype",
                  "float64"], {"eps": None, "parameter_dtype": "FLOAT64"}),
                (["--num-features", "2", "--optimizer", "adamw", "--lr", "0.5", "--amsgrad"],
                 {"kind": "BATCH_NORM",
                  "optimizer": {"algorithm": "ADAMW", "lr": 0.5, "weight_decay": 0.01,
                                "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": True,
                                "maximize": False}})]:
            with self.subTest(arguments=arguments):
                name = f"{self.name}/{self.random.integers(1 << 40)}"
                config = self.json("create", name, *arguments)["config"]
                self.assertEqual({key: config[key] for key in expected}, expected)
                self.assertEqual(self.json("get", name)["config"], config)

    def test_a_field_that_the_kind_does_not_have_is_refused(self):
        self.assertIn("FIELD_NOT_APPLICABLE", self.failure(
            REFUSED, "create", self.name, "--kind", "layer_norm", "--normalized-shape", "4",
            "--track-running-stats"))
        self.assertIn("OPTIMIZER_INVALID", self.failure(
            REFUSED, "create", self.name, "--num-features", "1", "--optimizer", "adam",
            "--dampening", "0.5"))

    def test_shows_kind_and_optimizer_to_people(self):
        self.out("create", self.name, "--kind", "group_norm", "--num-features", "4",
                 "--num-groups", "2", "--optimizer", "sgd", "--lr", "0.1")
        text = self.out("get", self.name)
        self.assertRegex(text, r"(?m)^kind +GROUP_NORM$")
        self.assertRegex(text, r"(?m)^num_groups +2$")
        self.assertRegex(text, r"(?m)^optimizer +SGD, lr 0.1, momentum 0.0, ")
        self.assertRegex(text, r"(?m)^optimizer_step +0$")
        self.assertRegex(self.out("list", self.name), r"(?m) GROUP_NORM +4 +- +1  SGD ")

    def test_updates_the_optimizer_and_its_learning_rate(self):
        self.create("--num-features", "1", "--optimizer", "sgd", "--lr", "1",
                    "--optimizer-momentum", "0.5")
        optimizer = self.json("update", self.name, "--lr", "0.25")["config"]["optimizer"]
        self.assertEqual((optimizer["lr"], optimizer["momentum"]), (0.25, 0.5))
        optimizer = self.json("update", self.name, "--optimizer", "adam")["config"]["optimizer"]
        self.assertEqual((optimizer["algorithm"], optimizer["lr"]), ("ADAM", 0.001))
        config = self.json("update", self.name, "--optimizer", "none")["config"]
        self.assertNotIn("optimizer", config)

    def test_trains_every_kind_without_a_check_for_batch_norm(self):
        values = self.random.normal(3, 2, (1, 4, 6)).astype("f4")
        path = self.save("x.npy", values)
        for arguments, axes in [
                (["--kind", "layer_norm", "--normalized-shape", "6"], (2,)),
                (["--kind", "instance_norm", "--num-features", "4"], (2,)),
                (["--kind", "group_norm", "--num-groups", "1", "--num-features", "4"], (1, 2))]:
            name = self.name + arguments[1]
            self.out("create", name, *arguments)
            self.out("train", name, "--input", path, "--output", self.path("y.npy"))
            np.testing.assert_allclose(np.load(self.path("y.npy")), normalized(values, axes),
                                       rtol=1e-4, atol=1e-5)
            self.out("normalize", name, "--input", path, "--output", self.path("z.npy"))
            np.testing.assert_array_equal(np.load(self.path("z.npy")), np.load(self.path("y.npy")))

    def test_writes_and_reads_parameters_in_the_shape_of_the_norm(self):
        self.create("--kind", "layer_norm", "--normalized-shape", "2,3", "--parameter-dtype",
                    "float64")
        weight = self.random.normal(size=(2, 3))
        self.out("set-parameters", self.name, "--weight", self.save("w.npy", weight))
        self.out("get", self.name, "--output", self.path("dump"))
        read = np.load(self.path("dump/weight.npy"))
        self.assertEqual((read.dtype, read.shape), (np.float64, (2, 3)))
        np.testing.assert_array_equal(read, weight)


class DtypeTest(ServerTest):

    def test_npy_files_keep_their_dtype(self):
        self.create("--num-features", "3")
        values = self.random.normal(5, 2, (8, 3))
        for dtype, tolerance in (("f2", 2e-3), ("f4", 1e-5), ("f8", 1e-12)):
            batch = values.astype(dtype)
            path = self.save("x.npy", batch)
            _, error = self.run_normctl("train", self.name, "--input", path, "--batch-size", "4",
                                        "--output", self.path("y.npy"))
            self.assertEqual(error, b"")
            out = np.load(self.path("y.npy"))
            self.assertEqual(out.dtype, np.dtype(dtype))
            for begin in (0, 4):
                np.testing.assert_allclose(out[begin:begin + 4].astype("f8"),
                                           normalized(batch[begin:begin + 4], (0,)),
                                           rtol=tolerance, atol=tolerance)

    def test_dtype_rounds_before_sending(self):
        self.create("--num-features", "1", "--eps", "0")
        text = b"[[1], [3.01]]"  # 3.01 is 3.015625 in bfloat16
        for dtype, rounded, out_dtype in (
                ("bfloat16", 3.015625, "f4"), ("float16", np.float16(3.01), "f2"),
                ("float32", np.float32(3.01), "f4"), ("float64", 3.01, "f8")):
            self.out("reset", self.name)
            self.out("train", self.name, "--dtype", dtype, "--output", self.path("y.npy"),
                     stdin=text)
            mean = self.json("get", self.name)["running_stats"]["running_mean"][0]
            self.assertAlmostEqual(mean, 0.1 * (1 + float(rounded)) / 2, 12)
            self.assertEqual(np.load(self.path("y.npy")).dtype, np.dtype(out_dtype))

    def test_a_value_that_does_not_fit_is_refused_here(self):
        self.create("--num-features", "1")
        error = self.failure(INPUT, "train", self.name, "--dtype", "float16",
                             stdin=b"[[1], [70000]]")
        self.assertIn("70000 does not fit in float16", error)

    def test_json_has_the_digits_of_the_dtype(self):
        self.create("--num-features", "1", "--eps", "0", "--running-mean",
                    self.save("m.npy", np.array([0.0])))
        path = self.save("x.npy", np.array([[0.1]], "f8"))
        self.assertEqual(self.out("normalize", self.name, "--input", path, "--json"), "[[0.1]]\n")


class BackwardTest(ServerTest):

    def reference(self, x, dy, weight):
        """Gradients of batch norm of shape (N, C) in training, in float64."""
        invstd = 1 / np.sqrt(x.var(0) + EPS)
        xhat = (x - x.mean(0)) * invstd
        grad_weight, grad_bias = (dy * xhat).sum(0), dy.sum(0)
        dx = (dy - grad_bias / len(x) - xhat * grad_weight / len(x)) * invstd * weight
        return dx, grad_weight, grad_bias

    def test_gives_gradients_summed_over_mini_batches(self):
        weight = np.array([2.0, 0.5, -1.0])
        self.create("--num-features", "3", "--weight", self.save("w.npy", weight))
        x, dy = self.random.normal(2, 3, (2, 12, 3))
        arguments = ["backward", self.name, "--input", self.save("x.npy", x), "--grad-output",
                     self.save("dy.npy", dy), "--batch-size", "4"]
        self.assertEqual(self.out(*arguments, "--grad-input", self.path("dx.npy"),
                                  "--grad-weight", self.path("dw.npy"), "--grad-bias",
                                  self.path("db.npy")),
                         f"{self.name}: gradients of 3 mini-batches (12 rows), 0 refused\n")
        parts = [self.reference(x[i:i + 4], dy[i:i + 4], weight) for i in (0, 4, 8)]
        np.testing.assert_allclose(np.load(self.path("dx.npy")),
                                   np.concatenate([part[0] for part in parts]), rtol=1e-9,
                                   atol=1e-9)
        # Each mini-batch's gradient comes in the float32 of the parameters.
        for name, index in (("dw", 1), ("db", 2)):
            read = np.load(self.path(name + ".npy"))
            self.assertEqual(read.dtype, np.float64)
            np.testing.assert_allclose(read, sum(part[index] for part in parts), rtol=1e-5,
                                       atol=1e-5)
        summary = self.json(*arguments)
        np.testing.assert_allclose(summary["grad_bias"], dy.sum(0), rtol=1e-5, atol=1e-5)
        self.assertNotIn("optimizer_step", summary)

    def test_eval_mode_uses_the_running_statistics(self):
        self.create("--num-features", "1", "--eps", "0", "--running-var",
                    self.save("v.npy", np.array([4.0])))
        self.out("backward", self.name, "--mode", "eval", "--grad-output",
                 self.save("dy.npy", np.array([[1], [3]], "f4")), "--grad-input",
                 self.path("dx.npy"), stdin=b"[[5], [6]]")
        np.testing.assert_allclose(np.load(self.path("dx.npy")), [[0.5], [1.5]])

    def test_applies_once_by_producer_and_sequence(self):
        self.create("--num-features", "1", "--optimizer", "sgd", "--lr", "1")
        command = ["backward", self.name, "--batch-size", "2", "--apply", "--producer-id", "p",
                   "--grad-output", self.save("dy.npy", np.array([[0], [1], [0], [1]], "f4"))]
        x = b"[[-1], [1], [-1], [1]]"
        first = self.json(*command, stdin=x)
        self.assertEqual((first["applied"], first["duplicate"], first["optimizer_step"]), (2, 0, 2))
        self.assertEqual(self.json("get", self.name)["parameters"]["bias"], [-2])
        again = self.json(*command, stdin=x)
        self.assertEqual((again["applied"], again["duplicate"]), (0, 2))
        more = self.json(*command, "--first-sequence", "3", stdin=x)
        self.assertEqual((more["applied"], more["optimizer_step"]), (2, 4))
        self.assertEqual(self.json("get", self.name)["optimizer_step"], 4)

    def test_steps_nothing_when_an_output_cannot_be_written(self):
        self.create("--num-features", "1", "--optimizer", "sgd", "--lr", "1")
        dy = self.save("dy.npy", np.array([[0], [1]], "f4"))
        for flag in ("--grad-weight", "--grad-bias", "--grad-input"):
            error = self.failure(INPUT, "backward", self.name, "--grad-output", dy, "--apply",
                                 flag, self.path("no/such/folder.npy"), stdin=b"[[-1], [1]]")
            self.assertIn("cannot write", error)
            self.assertEqual(self.json("get", self.name)["optimizer_step"], 0)
        self.assertEqual(os.listdir(self.scratch), ["dy.npy"])

    def test_says_how_to_go_on_when_it_fails_after_a_step(self):
        self.create("--num-features", "1", "--optimizer", "sgd", "--lr", "1")
        dy = self.save("dy.npy", np.array([[0], [1], [0], [1]], "f4"))
        command = ["backward", self.name, "--grad-output", dy, "--batch-size", "2", "--apply"]
        error = self.failure(INPUT, *command, stdin=b"[[-1], [1]]")
        match = re.search(r"to go on: the same command with --producer-id (\S+) "
                          r"--first-sequence 1 applies only what was not applied", error)
        self.assertTrue(match, error)
        self.assertEqual(self.json("get", self.name)["optimizer_step"], 1)
        rest = self.json(*command, "--producer-id", match[1], stdin=b"[[-1], [1], [-1], [1]]")
        self.assertEqual((rest["applied"], rest["duplicate"], rest["optimizer_step"]), (1, 1, 2))
        # Without a step there is nothing to go on with.
        error = self.failure(INPUT, "backward", self.name, "--grad-output", dy, "--batch-size",
                             "2", stdin=b"[[-1], [1]]")
        self.assertNotIn("to go on", error)

    def test_duplicates_have_no_gradients(self):
        self.create("--num-features", "1", "--optimizer", "sgd", "--lr", "1")
        x, dy = self.random.normal(0, 1, (2, 6, 1))
        command = ["backward", self.name, "--apply", "--producer-id", "p", "--batch-size", "2",
                   "--input", self.save("x.npy", x), "--grad-output", self.save("dy.npy", dy)]
        self.out("backward", self.name, "--apply", "--producer-id", "p", "--input",
                 self.save("x0.npy", x[:2]), "--grad-output", self.save("dy0.npy", dy[:2]))
        dx = self.path("dx.npy")
        error = self.failure(REFUSED, *command, "--grad-input", dx)
        self.assertIn("mini-batch 1 (rows 0:2) refused: it was applied before, and the parameters "
                      "that its grad_input is taken by are gone; leave out --grad-input", error)
        self.assertIn("the same command without --grad-input, and with --producer-id p ", error)
        self.assertFalse(os.path.exists(dx))

        self.out("delete", self.name)
        self.create("--num-features", "1", "--optimizer", "sgd", "--lr", "1")
        self.out("backward", self.name, "--apply", "--producer-id", "p", "--input",
                 self.path("x0.npy"), "--grad-output", self.path("dy0.npy"))
        self.failure(REFUSED, *command, "--grad-input", dx, "--keep-going")
        self.assertEqual(np.isnan(np.load(dx))[:, 0].tolist(), [True] * 2 + [False] * 4)

        self.out("delete", self.name)
        self.create("--num-features", "1", "--optimizer", "sgd", "--lr", "1")
        self.out("backward", self.name, "--apply", "--producer-id", "p", "--input",
                 self.path("x0.npy"), "--grad-output", self.path("dy0.npy"))
        text = self.out(*command, "--grad-bias", self.path("db.npy"))
        self.assertIn("2 applied, 1 duplicate: optimizer_step 3", text)
        self.assertIn("without those of the 1 duplicate", text)
        np.testing.assert_allclose(np.load(self.path("db.npy")), dy[2:].sum(0), rtol=1e-5,
                                   atol=1e-5)

    def test_inputs_and_gradients_must_agree(self):
        self.create("--num-features", "1")
        dy = self.save("dy.npy", np.zeros((2, 1), "f4"))
        error = self.failure(INPUT, "backward", self.name, "--grad-output", dy,
                             stdin=b"[[1], [2], [3]]")
        self.assertIn("has shape (2, 1), expected that of standard input, (3, 1)", error)
        error = self.failure(INPUT, "backward", self.name, "--grad-output", dy, "--batch-size",
                             "1", stdin=b"[[1]]")
        self.assertIn("standard input ends before", error)

    def test_refuses_what_the_state_does_not_have(self):
        self.create("--kind", "rms_norm", "--normalized-shape", "2")
        dy = self.save("dy.npy", np.ones((1, 2), "f4"))
        error = self.failure(REFUSED, "backward", self.name, "--grad-output", dy, "--grad-bias",
                             self.path("db.npy"), stdin=b"[[1, 2]]")
        self.assertIn("no bias to take a gradient of", error)
        self.assertIn("OPTIMIZER_ABSENT", self.failure(
            REFUSED, "backward", self.name, "--grad-output", dy, "--apply", stdin=b"[[1, 2]]"))
        self.failure(NOT_FOUND, "backward", self.name + "none", "--grad-output", dy,
                     stdin=b"[[1, 2]]")

    def test_takes_the_moments_that_train_has_saved(self):
        # Of a mini-batch x, the axes of its sets, whose order is that of the moments.
        shape = (5, 3, 7)
        for arguments, axes in [
                (["--num-features", "3"], (0, 2)),
                (["--kind", "instance_norm", "--num-features", "3", "--affine",
                  "--track-running-stats"], (2,)),
                (["--kind", "group_norm", "--num-features", "3", "--num-groups", "1"], (1, 2)),
                (["--kind", "layer_norm", "--normalized-shape", "7"], (2,)),
                (["--kind", "rms_norm", "--normalized-shape", "3,7"], (1, 2))]:
            for dtype in ("f2", "f4", "f8"):
                with self.subTest(arguments=arguments, dtype=dtype):
                    name = f"{self.name}/{self.random.integers(1 << 40)}"
                    self.out("create", name, *arguments)
                    x = self.random.normal(3, 2, shape).astype(dtype)
                    files = ["--input", self.save("x.npy", x), "--batch-size", "2"]
                    self.out("train", name, *files, "--save-moments", self.path("m.npy"))
                    with open(self.path("m.npy"), "rb") as file:
                        for batch in (x[:2].astype("f8"), x[2:4].astype("f8"), x[4:].astype("f8")):
                            saved = np.load(file)
                            self.assertEqual(saved.dtype, np.float64)
                            mean = batch.mean(axes).reshape(-1)
                            count = batch.size // mean.size
                            np.testing.assert_array_equal(saved[0], [count] * mean.size)
                            np.testing.assert_allclose(saved[1], mean, rtol=1e-12)
                            np.testing.assert_allclose(saved[2], batch.var(axes).reshape(-1) *
                                                       count, rtol=1e-12)
                        self.assertEqual(file.read(), b"")
                    backward = ["backward", name, *files, "--grad-output",
                                self.save("dy.npy", self.random.normal(0, 1, shape).astype(dtype)),
                                "--grad-input"]
                    anew = self.json(*backward, self.path("anew.npy"))
                    by_saved = self.json(*backward, self.path("saved.npy"), "--moments",
                                         self.path("m.npy"))
                    self.assertEqual(by_saved, anew)
                    np.testing.assert_array_equal(np.load(self.path("saved.npy")),
                                                  np.load(self.path("anew.npy")))

    def test_uses_the_moments_and_not_the_input(self):
        self.create("--num-features", "1", "--eps", "0")
        command = ["backward", self.name, "--grad-output",
                   self.save("dy.npy", np.array([[0], [3]], "f4")), "--grad-input",
                   self.path("dx.npy"), "--grad-weight", self.path("dw.npy"), "--moments"]
        # As of -2 and 6: mean 2 and m2 32, so that invstd is 1/4.
        self.out(*command, self.save("m.npy", np.array([[2], [2], [32]], "f4")), stdin=b"[[2],[6]]")
        self.assertEqual(np.load(self.path("dw.npy")), 3)
        # invstd (dy - 1.5 - 1.5 xhat) with xhat of 0 and 1.
        np.testing.assert_array_equal(np.load(self.path("dx.npy")), [[-0.375], [0]])
        # JSON, and what the server says of moments that are not the input's.
        self.assertIn("MOMENTS_LENGTH_MISMATCH", self.failure(
            REFUSED, *command, "-", "--input", self.save("x.npy", np.array([[2], [6]], "f4")),
            stdin=b"[[3], [2], [32]]"))

    def test_a_refused_mini_batch_has_no_moments_and_they_are_computed_anew(self):
        self.create("--num-features", "1")
        x = np.array([[1], [np.inf], [3], [4]], "f4")
        self.failure(REFUSED, "train", self.name, "--input", self.save("x.npy", x), "--batch-size",
                     "2", "--keep-going", "--save-moments", self.path("m.npy"))
        with open(self.path("m.npy"), "rb") as file:
            self.assertEqual(np.load(file).shape, (3, 0))
            np.testing.assert_array_equal(np.load(file), [[2], [3.5], [0.5]])
        files = ["--grad-output", self.save("dy.npy", np.ones((4, 1), "f4")), "--batch-size", "2",
                 "--moments", self.path("m.npy")]
        self.assertIn("NON_FINITE_VALUE", self.failure(
            REFUSED, "backward", self.name, "--input", self.path("x.npy"), *files))
        summary = self.json("backward", self.name, "--input", self.save("y.npy", x[[0, 2, 2, 3]]),
                            *files)
        self.assertEqual((summary["batches"], summary["grad_bias"]), (2, [4]))

    def test_refuses_moments_that_are_none_or_of_other_mini_batches(self):
        self.create("--num-features", "1")
        dy = self.save("dy.npy", np.ones((4, 1), "f4"))
        self.assertIn("--save-moments writes .npy", self.failure(
            USAGE, "train", self.name, "--input", dy, "--save-moments", self.path("m.json")))
        self.out("train", self.name, "--input", dy, "--batch-size", "2", "--save-moments",
                 self.path("m.npy"))
        command = ["backward", self.name, "--input", dy, "--grad-output", dy, "--moments"]
        error = self.failure(INPUT, *command, self.path("m.npy"), "--batch-size", "1")
        self.assertIn("/m.npy' ends before ", error)
        self.assertIn("cut the input as it was when the moments were saved (--batch-size)", error)
        self.assertIn("/dy.npy' ends before ", self.failure(
            INPUT, *command, self.path("m.npy"), "--batch-size", "4"))
        for array, text in [([[1, 2]], "got shape (1, 2)"), ([1, 2, 3], "got shape (3,)"),
                            ([[4, 5], [0, 0], [1, 1]], "got the counts 4 and 5"),
                            ([[2.5], [0], [1]], "got the count 2.5"),
                            ([[-1], [0], [1]], "got the count -1")]:
            error = self.failure(INPUT, *command, self.save("none.npy", np.array(array, "f8")))
            self.assertIn("expected moments, an array of shape (3, M)", error)
            self.assertIn(text, error)

    def test_applies_gradients_from_files(self):
        self.create("--num-features", "2", "--optimizer", "sgd", "--lr", "0.5")
        command = ["apply-gradients", self.name, "--grad-weight",
                   self.save("dw.npy", np.array([1.0, -2.0])), "--producer-id", "p", "--sequence"]
        self.assertEqual(self.out(*command, "1"),
                         f"{self.name} gradients applied (optimizer_step 1, revision 2)\n")
        self.assertEqual(self.json(*command, "1")["disposition"], "duplicate")
        self.assertEqual(self.json(*command, "2")["optimizer_step"], 2)
        self.json("apply-gradients", self.name, "--grad-bias", "-", stdin=b"[1, 0]")
        self.assertEqual(self.json("get", self.name)["parameters"],
                         {"weight": [0, 3], "bias": [-0.5, 0]})
        self.assertIn("PARAMETERS_LENGTH_MISMATCH", self.failure(
            REFUSED, "apply-gradients", self.name, "--grad-bias", "-", stdin=b"[1]"))


class CalibrateTest(ServerTest):

    def test_commits_pooled_statistics(self):
        self.create("--num-features", "2")
        x = self.random.normal(4, 2, (10, 2))
        begun = self.json("calibrate", "begin", self.name, "--method", "pooled")
        calibration_id = begun["calibration"].pop("calibration_id")
        self.assertEqual(begun["calibration"], {"method": "POOLED", "num_batches": 0, "count": 0})
        self.out("train", self.name, "--calibrate", "--batch-size", "4", "--input",
                 self.save("x.npy", x))
        self.out("train", self.name, "--calibrate", "--moments", "--input",
                 self.save("x.npy", x + 1))
        state = self.json("get", self.name)
        self.assertEqual(state["running_stats"]["running_mean"], [0, 0])
        self.assertEqual(state["calibration"]["count"], 20)
        self.assertIn(f"id {calibration_id}", self.out("get", self.name))
        self.assertRegex(self.out("calibrate", "commit", self.name, "--calibration-id",
                                  calibration_id, "--etag", begun["etag"]),
                         "calibration committed")
        stats = self.json("get", self.name)["running_stats"]
        both = np.concatenate([x, x + 1])
        np.testing.assert_allclose(stats["running_mean"], both.mean(0), rtol=1e-12)
        np.testing.assert_allclose(stats["running_var"], both.var(0, ddof=1), rtol=1e-12)

    def test_aborts_and_refuses_out_of_turn(self):
        etag = self.create("--num-features", "1")["etag"]
        for arguments in (["calibrate", "commit", self.name], ["calibrate", "abort", self.name]):
            self.assertIn("CALIBRATION_NOT_ACTIVE", self.failure(REFUSED, *arguments))
        self.assertIn("ETAG_MISMATCH", self.failure(REFUSED, "calibrate", "begin", self.name,
                                                    "--etag", "stale"))
        begun = self.out("calibrate", "begin", self.name, "--etag", etag)
        state = self.json("get", self.name)
        calibration_id = state["calibration"]["calibration_id"]
        self.assertEqual(begun, f"{self.name} calibration begun, id {calibration_id} (revision "
                                f"{state['revision']}, etag {state['etag']})\n")
        error = self.failure(REFUSED, "calibrate", "begin", self.name)
        self.assertIn("CALIBRATION_ACTIVE", error)
        self.assertIn(f"the calibration '{calibration_id}' of 0 batches is under way", error)
        self.assertIn("CALIBRATION_EMPTY", self.failure(REFUSED, "calibrate", "commit", self.name))
        for verb in ("commit", "abort"):
            self.assertIn("ETAG_MISMATCH", self.failure(REFUSED, "calibrate", verb, self.name,
                                                        "--etag", "stale"))
            self.assertIn("CALIBRATION_MISMATCH", self.failure(
                REFUSED, "calibrate", verb, self.name, "--calibration-id", "other"))
        self.assertIn("CALIBRATION_MISMATCH", self.failure(
            REFUSED, "train", self.name, "--calibrate", "--calibration-id", "other",
            stdin=b"[[1], [2]]"))
        self.out("calibrate", "abort", self.name)
        error = json.loads(self.failure(REFUSED, "train", self.name, "--calibrate", "--json",
                                        stdin=b"[[1], [2]]"))
        self.assertEqual(error["error"]["reason"], "CALIBRATION_NOT_ACTIVE")


if __name__ == "__main__":
    main()
