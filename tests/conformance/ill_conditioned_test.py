"""Data on which one-pass and float32 variances fail, through a real server.

Every kind, dtype and layout sees data whose mean is huge beside its deviation, which is very large
or very small, whose first value is an outlier, and a channel of 10 million values. Variances, and
the mean squares of RMS norm, are compared with two passes in numpy.longdouble, eval and training
outputs with the same formula there.
"""

import random
import sys
import unittest

import numpy

import wire as wire_module
from reference import sets_of

VALUES = 10_000_000
# Of |variance - exact| / exact, and of mean squares.
VARIANCE_ERROR_MAX = 1e-9
# Of |output - exact| / max(|exact|, 1), where float32 or float64 holds the output.
OUTPUT_ERROR_MAX = 1e-6

CHANNELS = 6
FLOATS = ("float32", "float64")
# name: (mean, std, dtypes that hold the values, eps)
DATA = {
    "mean 1e6, std 0.1": (1e6, 0.1, FLOATS, 1e-5),
    "mean 1e6, std 1": (1e6, 1, FLOATS, 1e-5),
    "mean -1e6, std 0.3": (-1e6, 0.3, FLOATS, 1e-5),
    "mean 1e4, std 1e-3": (1e4, 1e-3, FLOATS, 1e-9),
    "mean 1e4, std 8": (1e4, 8, wire_module.DTYPES, 1e-5),
    "1e30": (3e30, 1e30, (*FLOATS, "bfloat16"), 1e-5),
    # Up to the end of float32, where x - mean would not be finite.
    "1e38": (1e38, 4e37, (*FLOATS, "bfloat16"), 1e-5),
    "-1e38": (-1e38, 4e37, (*FLOATS, "bfloat16"), 0.0),
    # In float32 these are subnormal, and 1 / sqrt(var) would not be finite.
    "1e-40": (3e-40, 1e-40, FLOATS, 1e-5),
    "1e-40, eps 0": (3e-40, 1e-40, FLOATS, 0.0),
    "1e-18, eps 0": (3e-18, 1e-18, FLOATS, 0.0),
    "outlier first": (0, 1, wire_module.DTYPES, 1e-5),
    "outlier first, all else one value": (3, 0, wire_module.DTYPES, 1e-5),
}
# What the first value of every set is where the name says so: within what float16 holds.
OUTLIER = 6e4
# name: (kind, shape, channels last)
LAYOUTS = {
    "batch [N,C]": ("BATCH_NORM", [512, CHANNELS], False),
    "batch [N,C,H,W]": ("BATCH_NORM", [8, CHANNELS, 9, 11], False),
    "batch [N,H,W,C]": ("BATCH_NORM", [8, CHANNELS, 9, 11], True),
    "instance [N,C,H,W]": ("INSTANCE_NORM", [3, CHANNELS, 17, 19], False),
    "instance [N,H,W,C]": ("INSTANCE_NORM", [3, CHANNELS, 17, 19], True),
    "group [N,C,H,W]": ("GROUP_NORM", [3, CHANNELS, 17, 19], False),
    "group [N,H,W,C]": ("GROUP_NORM", [3, CHANNELS, 17, 19], True),
    "layer": ("LAYER_NORM", [7, 513], False),
    "rms": ("RMS_NORM", [7, 513], False),
}
GROUPS = 2

wire = None
seed = None


def put_first(kind, batch, value):
    """Makes the first value of every set `value`."""
    if kind == "BATCH_NORM":
        batch[(0, slice(None), *[0] * (batch.ndim - 2))] = value
    else:
        sets(kind, batch)[:, 0] = value


def sets(kind, array):
    """A view of it, but for BATCH_NORM; see reference.sets_of."""
    return sets_of(kind, array, array.shape[1], GROUPS if kind == "GROUP_NORM" else 0)


def exact(values):
    """Mean and biased variance of each row, by two passes in longdouble."""
    # Piece by piece: a longdouble has 16 bytes.
    def mean_over(of_piece):
        pieces = numpy.array_split(values, max(1, values.shape[1] // 10 ** 6), axis=1)
        return sum(of_piece(piece.astype(numpy.longdouble)).sum(axis=1)
                   for piece in pieces) / values.shape[1]
    mean = mean_over(lambda piece: piece)
    return mean, mean_over(lambda piece: (piece - mean[:, None]) ** 2)


class IllConditionedTest(unittest.TestCase):

    def setUp(self):
        self.generator = numpy.random.default_rng(
            random.Random(f"{seed}/{self.id()}").getrandbits(64))

    def assert_error(self, figure, actual, expected, scale, allowed):
        error = numpy.abs(actual - expected) / scale
        self.assertLessEqual(float(numpy.max(error)), allowed,
                             f"{figure}; largest of {error.size} errors")

    def train(self, name, kind, batch, dtype, channels_last, eps):
        """A state trained by one batch with momentum 1, so that its statistics are the batch's.

        Checks these and returns (sent, response, mean, variance) with the exact ones of each set.
        """
        shape = {"normalized_shape": batch.shape[1:]}
        fields = {"LAYER_NORM": shape, "RMS_NORM": shape,
                  "GROUP_NORM": {"num_groups": GROUPS}}.get(kind, {})
        wire.create(name, wire.config(batch.shape[1], eps, 1.0, kind=kind, affine=False, **fields))
        sent = wire.tensor(batch, channels_last, dtype)
        response = wire.norms.Train(wire.data.TrainRequest(
            state=name, input=sent, return_moments=True,
            return_output=batch.size < VALUES))
        mean, var = exact(sets(kind, batch))
        self.assert_variance("variance", response.moments.m2, var * response.moments.count)
        self.assert_mean("mean", response.moments.mean, mean, var)
        return sent, response, mean, var

    def check_running(self, name, batch, mean, var):
        """Checks the running statistics and returns the exact ones."""
        count = batch.size // var.size
        mean, var = (figure.reshape(-1, batch.shape[1]).mean(axis=0)
                     for figure in (mean, var * count / (count - 1)))
        stats = wire.get(name).running_stats
        self.assert_variance("running_var", wire.array(stats.running_var), var)
        self.assert_mean("running_mean", wire.array(stats.running_mean), mean, var)
        return mean, var

    def assert_variance(self, figure, actual, expected):
        self.assert_error(figure, actual, expected, expected, VARIANCE_ERROR_MAX)

    def assert_mean(self, figure, actual, expected, var):
        # float64 itself keeps a mean to 1e-16.
        scale = numpy.maximum(numpy.sqrt(var), 1e-6 * numpy.abs(expected))
        self.assert_error(figure, actual, expected, scale, VARIANCE_ERROR_MAX)

    def assert_output(self, figure, tensor, expected, dtype):
        """Figures of 16 bits are good to half their step."""
        step = {"float16": 2.0 ** -11, "bfloat16": 2.0 ** -8}.get(dtype, 0)
        self.assert_error(figure, wire.array(tensor), expected,
                          numpy.maximum(numpy.abs(expected), 1), OUTPUT_ERROR_MAX + step)

    def check(self, name, kind, batch, dtype, channels_last, eps):
        sent, response, mean, var = self.train(name, kind, batch, dtype, channels_last, eps)
        if kind == "RMS_NORM":
            # Its moments make the mean square; it subtracts no mean.
            moments = response.moments
            var = var + mean ** 2
            self.assert_variance("mean square", numpy.array(moments.m2) / moments.count +
                                 numpy.array(moments.mean) ** 2, var)
            mean = numpy.zeros_like(mean)
        normalized = (sets(kind, batch) - mean[:, None]) / numpy.sqrt(var + eps)[:, None]
        # Back from sets.
        expected = (normalized.reshape([*batch.swapaxes(0, 1).shape]).swapaxes(0, 1)
                    if kind == "BATCH_NORM" else normalized.reshape(batch.shape))
        self.assert_output("training output", response.output, expected, dtype)
        if kind in ("BATCH_NORM", "INSTANCE_NORM"):
            shape = [1, batch.shape[1]] + [1] * (batch.ndim - 2)
            mean, var = (figure.reshape(shape)
                         for figure in self.check_running(name, batch, mean, var))
            expected = (batch - mean) / numpy.sqrt(var + eps)
        response = wire.norms.Normalize(wire.data.NormalizeRequest(state=name, input=sent))
        self.assert_output("eval output", response.output, expected, dtype)

    def test_every_kind_dtype_and_layout(self):
        for data, (mean, std, dtypes, eps) in DATA.items():
            for layout, (kind, shape, channels_last) in LAYOUTS.items():
                for dtype in dtypes:
                    with self.subTest(data=data, layout=layout, dtype=dtype):
                        batch = self.generator.normal(mean, std, shape)
                        if data.startswith("outlier first"):
                            put_first(kind, batch, OUTLIER)
                        name = "".join(c if c.isalnum() else "_"
                                       for c in f"{data} {layout} {dtype}")
                        self.check(name, kind, wire_module.held(batch, dtype), dtype,
                                   channels_last, eps)

    def test_ten_million_values_a_channel(self):
        for name, shape, channels_last, dtype in (
                ("rows", [VALUES, 1], False, "float32"),
                ("segments", [4, 2, VALUES // 4], False, "bfloat16"),
                ("columns", [5, 2, VALUES // 5], True, "float16")):
            with self.subTest(name=name, dtype=dtype):
                batch = wire_module.held(self.generator.normal(1e3, 10, shape), dtype)
                name = f"ten_million/{name}"
                _, _, mean, var = self.train(name, "BATCH_NORM", batch, dtype, channels_last, 1e-5)
                mean, var = self.check_running(name, batch, mean, var)
                self.assertEqual(batch.size // batch.shape[1], VALUES)
                # Eval of a piece of it, as long as any.
                piece = batch[:1, ..., :1000] if batch.ndim > 2 else batch[:1000]
                response = wire.norms.Normalize(wire.data.NormalizeRequest(
                    state=name, input=wire.tensor(piece, channels_last, dtype)))
                shape = [1, -1] + [1] * (batch.ndim - 2)
                expected = ((piece - mean.reshape(shape)) /
                            numpy.sqrt(var.reshape(shape) + 1e-5))
                self.assert_output("eval output", response.output, expected, dtype)


def set_up(connection, drawn_seed):
    global wire, seed
    wire, seed = connection, drawn_seed


if __name__ == "__main__":
    sys.exit(wire_module.run_tests(__doc__, set_up))
