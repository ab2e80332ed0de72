"""How far normd's figures may be from PyTorch's in float64, by dtype, and the largest so far.

The error of a figure a against PyTorch's b is |a - b| / max(|b|, scale), where PyTorch computes in
float64 on the very values that the batch holds in its dtype. Scales are the size of what is added
up, so that a sum whose terms cancel is held to the digits that its terms have:
- output: |weight| + |bias|, which a value one standard deviation off the mean gets. Where the two
  cancel, no arithmetic in the dtype keeps more digits.
- grad_input: its three terms by themselves, each as a magnitude.
- grad_weight, grad_bias: the sum of the terms' magnitudes, a normalized value counting as 1 at
  least: where all values are the same it is nothing but the rounding of their mean.
- means: sqrt(variance + eps). A mean is used as x - mean over that unit, so an error is as large
  as what it does to an output.
- variances: eps. A variance is only ever used as variance + eps.
"""

import collections

import numpy

# values: of output and grad_input. floor: what rounding to the dtype's smallest step may add to any
# error. highest: the dtype's largest value; what is beyond is an infinity, which counts as it.
Row = collections.namedtuple("Row", "values floor highest")

BY_DTYPE = {
    # Arithmetic in float32: up to five roundings of 6e-8 each, to parameters and in the formula.
    "float32": Row(4e-7, 0.0, numpy.inf),
    # Arithmetic in float64: |mean| / sqrt(var + eps) is at most 4e5, which costs PyTorch's side six
    # of 16 digits, and its sums one more.
    "float64": Row(1e-8, 0.0, numpy.inf),
    # Half a step of 11 significant bits (4.9e-4) and the float32 arithmetic before it.
    "float16": Row(5e-4, 2.0 ** -25, 65504.0),
    # Half a step of 8 significant bits (3.9e-3) and the float32 arithmetic before it.
    "bfloat16": Row(4e-3, 0.0, numpy.inf),
}
# Moments and running statistics are float64 sums over what the batch holds, whatever its dtype; a
# unit of eps in 1e-8 beside a mean of 1e4 takes the most of it.
STATS_ERROR_MAX = 1e-10
# Gradients of parameters, too; they are sent in the state's parameter_dtype.
PARAMETER_GRADIENT_ERROR_MAX = {
    # Half a step of 24 significant bits is 6e-8.
    "float32": 1e-7,
    # As outputs in float64: PyTorch's side is the less exact one.
    "float64": 1e-8,
}


class Mismatch(Exception):
    """A figure that is off."""


class Worst:
    """The largest error of each figure so far, and the case where it was."""

    def __init__(self):
        self._errors = {}

    def compare_values(self, figure, dtype, case, actual, expected, scale):
        """Compares output or grad_input."""
        row = BY_DTYPE[dtype]
        actual, expected = (numpy.clip(array, -row.highest, row.highest)
                            for array in (actual, expected))
        self._compare(figure, dtype, case, actual, expected, scale, row.values, row.floor)

    def compare_stats(self, figure, dtype, case, actual, expected, scale):
        self._compare(figure, dtype, case, actual, expected, scale, STATS_ERROR_MAX, 0.0)

    def compare_parameter_gradients(self, figure, dtype, case, actual, expected, scale):
        """`dtype` is the state's parameter_dtype."""
        self._compare(figure, dtype, case, actual, expected, scale,
                      PARAMETER_GRADIENT_ERROR_MAX[dtype], 0.0)

    def _compare(self, figure, dtype, case, actual, expected, scale, allowed, floor):
        if actual.shape != expected.shape:
            raise Mismatch(f"{figure}: expected shape {expected.shape}, got {actual.shape}")
        off = numpy.maximum(numpy.abs(actual - expected) - floor, 0.0)
        error = off / numpy.maximum(numpy.abs(expected), scale)
        # 0 / 0 is a figure that agrees where there is no unit.
        error = numpy.where(actual == expected, 0.0, error)
        place = numpy.unravel_index(numpy.argmax(error), error.shape)
        if not error[place] <= allowed:
            raise Mismatch(f"{figure} at {[int(i) for i in place]}: expected {expected[place]!r}, "
                           f"got {actual[place]!r}, error {error[place]:.3g}, "
                           f"allowed {allowed:.0e}")
        largest, _, _, count = self._errors.get((figure, dtype), (-1.0, allowed, None, 0))
        if error[place] > largest:
            self._errors[figure, dtype] = (float(error[place]), allowed, case, count + 1)
        else:
            self._errors[figure, dtype] = (*self._errors[figure, dtype][:3], count + 1)

    def print(self):
        for (figure, dtype), (error, allowed, case, count) in sorted(self._errors.items()):
            print(f"  {figure:34} {dtype:9} {error:.2e}  (allowed {allowed:.0e}, case {case}, "
                  f"{count} compared)")
