"""What a random case draws: a shape, a config, how it is sent, and data."""

import itertools
import random

import numpy

import wire as wire_module
from tolerances import Mismatch

HALF = ("float16", "bfloat16")
ALL = wire_module.DTYPES
# name: (values given a generator and a count, dtypes in which the values may all be the same,
# dtypes that hold them)
DATA = {
    "standard normal": (lambda g, n: g.normal(0, 1, n), (), ALL),
    "mean 1e3, std 1": (lambda g, n: g.normal(1e3, 1, n), HALF, ALL),
    "mean -1e4, std 1": (lambda g, n: g.normal(-1e4, 1, n), HALF, ALL),
    "mean 30, std 1e-2": (lambda g, n: g.normal(30, 1e-2, n), HALF, ALL),
    "std 1e-4": (lambda g, n: g.normal(0, 1e-4, n), (), ALL),
    "std 1e6": (lambda g, n: g.normal(0, 1e6, n), (), ("float32", "float64", "bfloat16")),
    "uniform": (lambda g, n: g.uniform(-3, 5, n), (), ALL),
    "one outlier": (lambda g, n: numpy.where(numpy.arange(n) == n // 2, 1e4, g.normal(0, 1, n)),
                    (), ALL),
    "steps of 1e3": (lambda g, n: 1e3 * (numpy.arange(n) % 3) + g.normal(0, 1, n), (), ALL),
    # Of float32's digits, so that PyTorch's sums in float64 are exact: under a small eps the
    # rounding of a mean is all that its output has.
    "constant": (lambda g, n: numpy.full(n, numpy.float32(g.normal(0, 10)), "float64"), ALL, ALL),
}
ROW_KINDS = ("LAYER_NORM", "RMS_NORM")
# Kind and whether it tracks running statistics, as often as they are drawn.
KINDS = ([("BATCH_NORM", True)] * 3 + [("BATCH_NORM", False)] + [("INSTANCE_NORM", True)] * 2 +
         [("INSTANCE_NORM", False), ("GROUP_NORM", False), ("LAYER_NORM", False),
          ("RMS_NORM", False)])
# What cases go through in turn, so that no chance leaves one out: kind, tracked, dtype, channels
# last, affine.
COMBINATIONS = [(*kind, *others) for kind in KINDS
                for others in itertools.product(ALL, (False, True), (False, True))]

# Two values in a set can be so close that float64 itself has few digits left.
VALUES_PER_SET_MIN = 4
# Above twice the 32 Ki values of a piece, where a server spreads a batch over threads.
VALUES_MAX = 1 << 17


def describe(combination):
    kind, tracked, dtype, channels_last, affine = combination
    return ", ".join([kind, "tracked" if tracked else "not tracked", dtype,
                      "channels last" if channels_last else "channels first",
                      "affine" if affine else "not affine"])


class Case:
    """One case; the same for the same seed and number."""

    def __init__(self, seed, number):
        rng = random.Random(f"{seed}/{number}")
        self.rng = rng
        self.number = number
        self.generator = numpy.random.default_rng(rng.getrandbits(64))
        # How often its combination has come before.
        turn, place = divmod(number, len(COMBINATIONS))
        self.combination = COMBINATIONS[place]
        self.kind, self.tracked, self.dtype, self.channels_last, self.affine = self.combination
        self.rows = self.kind in ROW_KINDS
        self.saves_moments = turn % 2 == 1
        self.omits_grad_input = {"train": turn % 7 == 2, "eval": turn % 7 == 5}
        self.parameter_dtype = rng.choice(["float32", "float32", "float64"])
        self.eps = rng.choice([1e-5, 1e-5, 1e-3, 1e-8, 0.0, 0.5])
        # The machine epsilon of the dtype, which is absent on the wire.
        self.eps_of_dtype = self.kind == "RMS_NORM" and rng.random() < 0.4
        self._draw_shape()
        self._draw_averaging()
        self.steps = rng.randint(1, 4)
        self.streamed = rng.random() < 0.5
        self.relaxed = rng.random() < 0.5
        self.resumed = rng.random() < 0.3
        # A state that does not track has nothing that a second time could change.
        self.repeats = self.tracked and rng.random() < 0.3
        self.kinds = [kind for kind, (_, flat, holds) in DATA.items()
                      if self.dtype in holds and (self.eps > 0 or self.dtype not in flat)]
        # Of a channel, so that running statistics are of its kind; of a row they are drawn anew.
        self.data_of_sets = [rng.choice(self.kinds) for _ in range(self.groups or self.channels)]

    def _draw_shape(self):
        rng = self.rng
        self.groups = 0
        if self.rows:
            while True:
                self.normalized_shape = [rng.choice([1, 2, 3, 5, 8, 16, 17, 64, 129])
                                         for _ in range(rng.choice([1, 1, 2, 3]))]
                self.channels = int(numpy.prod(self.normalized_shape))
                if VALUES_PER_SET_MIN <= self.channels <= 1024:
                    break
            self.rank = len(self.normalized_shape) + rng.choice([0, 1, 1, 2, 3])
            return
        self.normalized_shape = []
        self.rank = rng.choice([3, 4, 5] if self.kind == "INSTANCE_NORM" else [2, 3, 4, 5])
        self.channels = rng.choice([1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 129])
        if self.kind == "GROUP_NORM":
            if self.rank == 2:
                self.channels = rng.choice([5, 8, 15, 16, 33, 64, 129])
            self.groups = rng.choice([
                groups for groups in range(1, self.channels + 1)
                if self.channels % groups == 0 and
                (self.rank > 2 or self.channels // groups >= VALUES_PER_SET_MIN)])

    def _draw_averaging(self):
        rng = self.rng
        self.momentum = rng.choice([0.1, 0.1, None, None, 0.0, 1.0, rng.random()])
        self.correction = rng.choice([1, 1, 0])
        if self.kind == "INSTANCE_NORM" and self.momentum is None:
            # It counts no batches, so it has no cumulative average.
            self.momentum = 0.1

    def __str__(self):
        words = [describe(self.combination), f"parameters {self.parameter_dtype}",
                 f"rank {self.rank}",
                 f"normalized_shape {self.normalized_shape}" if self.rows else f"C {self.channels}",
                 "eps of dtype" if self.eps_of_dtype else f"eps {self.eps}",
                 f"{self.steps} steps"]
        if self.groups:
            words.append(f"{self.groups} groups")
        if self.tracked:
            words += [f"momentum {self.momentum}", f"correction {self.correction}"]
        for word in ("streamed", "relaxed", "resumed", "repeats"):
            words.append(word if getattr(self, word) else f"not {word}")
        return ", ".join(words)

    def eps_used(self):
        """What is added to the variance."""
        if not self.eps_of_dtype:
            return self.eps
        return {"float32": 2.0 ** -23, "float64": 2.0 ** -52,
                "float16": 2.0 ** -10, "bfloat16": 2.0 ** -7}[self.dtype]

    def config(self, wire):
        fields = {}
        if self.rows:
            fields["normalized_shape"] = self.normalized_shape
        if self.groups:
            fields["num_groups"] = self.groups
        if self.tracked:
            fields["running_var_correction"] = self.correction
        config = wire.config(
            self.channels, self.eps, self.momentum, self.affine, self.tracked, kind=self.kind,
            parameter_dtype=wire.tensors.DataType.Value(self.parameter_dtype.upper()), **fields)
        if self.eps_of_dtype:
            config.ClearField("eps")
        return config

    def shape(self):
        rng = self.rng
        while True:
            if self.rows:
                leading = self.rank - len(self.normalized_shape)
                shape = [rng.choice([1, 2, 3, 4, 7, 17]) for _ in range(leading)]
                shape += self.normalized_shape
            else:
                spatial = [rng.choice([1, 2, 3, 4, 7, 9, 16]) for _ in range(self.rank - 2)]
                shape = [rng.choice([1, 2, 3, 4, 8, 17, 32]), self.channels, *spatial]
            if (self.values_per_set(shape) >= VALUES_PER_SET_MIN and
                    numpy.prod(shape) <= VALUES_MAX):
                return shape

    def values_per_set(self, shape):
        count = int(numpy.prod(shape))
        if self.kind == "BATCH_NORM":
            return count // self.channels
        if self.rows:
            return self.channels
        return count // shape[0] // (self.groups or self.channels)

    def batch(self):
        """Values, as the dtype holds them."""
        shape = self.shape()
        if self.rows:
            rows = [self._values(self.rng.choice(self.kinds), self.channels)
                    for _ in range(int(numpy.prod(shape)) // self.channels)]
            return numpy.concatenate(rows).reshape(shape)
        samples, _, *spatial = shape
        width = self.channels // len(self.data_of_sets)
        columns = [self._values(kind, samples * width * int(numpy.prod(spatial)))
                   .reshape([samples, width, *spatial]) for kind in self.data_of_sets]
        return numpy.concatenate(columns, axis=1)

    def grad_output(self, shape):
        mean = self.rng.choice([0.0, 0.0, 3.0])
        return wire_module.held(self.generator.normal(mean, 1, shape), self.dtype)

    def _values(self, kind, count):
        return wire_module.held(DATA[kind][0](self.generator, count), self.dtype)

    def tensor(self, wire, array):
        """A batch on the wire. Where a row is normalized the layout says nothing."""
        tensor = wire.tensor(array, self.channels_last and not self.rows, self.dtype)
        if self.rows and self.channels_last:
            tensor.layout = wire.tensors.CHANNELS_LAST
        return tensor

    def array(self, wire, tensor, sent):
        """The values of a response's tensor, which looks as `sent` did."""
        for field in ("dtype", "shape", "layout"):
            if getattr(tensor, field) != getattr(sent, field):
                raise Mismatch(f"{field}: expected {getattr(sent, field)}, "
                               f"got {getattr(tensor, field)}")
        if self.rows:
            tensor.layout = wire.tensors.CHANNELS_FIRST
        return wire.array(tensor)
