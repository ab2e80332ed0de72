"""What must hold whatever the data are, through a real server and without another implementation.

- Merge order does not matter: batches in any order, cut in any way, from any number of clients.
- Moments equal batches: what a client folds into moments trains a state as the values do.
- Eval after calibration gives the calibrated data mean 0 and standard deviation 1.
- Gradients are the finite differences of the outputs.
"""

import functools
import random
import sys
import unittest

import numpy

import wire as wire_module
from reference import sets_of

ROUNDS = 8
# Two orders of float64 sums.
ORDER_ERROR_MAX = 1e-11
# Mean and deviation of outputs that are each good to this.
NORMALIZED_ERROR_MAX = {"float64": 1e-10, "float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}
# Central differences over 2 h: h^2 of the curve and 1e-16 / h of rounding.
H = 1e-5
DIFFERENCE_ERROR_MAX = 1e-7

wire = None
seed = None


def rounds(*options):
    """A test that runs ROUNDS times, given the name of a new state and one of each option."""
    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for number in range(ROUNDS):
                drawn = [self.rng.choice(option) for option in options]
                with self.subTest(round=number, drawn=drawn):
                    test(self, f"{self.prefix}/{number}", *drawn)
        return run
    return decorate


class PropertiesTest(unittest.TestCase):

    def setUp(self):
        self.rng = random.Random(f"{seed}/{self.id()}")
        self.generator = numpy.random.default_rng(self.rng.getrandbits(64))
        self.prefix = f"properties/{self.id().rsplit('.', 1)[-1]}"

    def batches(self, channels, dtype, count):
        """Of rank 3, with means and deviations that differ from batch to batch and channel."""
        return [wire_module.held(
            self.generator.normal(self.generator.uniform(-20, 20, [1, channels, 1]),
                                  self.generator.uniform(0.1, 5, [1, channels, 1]),
                                  [self.rng.randint(1, 9), channels, self.rng.randint(2, 9)]),
            dtype) for _ in range(count)]

    def assert_same_stats(self, name, other):
        one, two = (wire.get(state).running_stats for state in (name, other))
        for field in ("running_mean", "running_var"):
            expected = wire.array(getattr(two, field))
            numpy.testing.assert_allclose(wire.array(getattr(one, field)), expected,
                                          ORDER_ERROR_MAX, ORDER_ERROR_MAX, err_msg=field)
        self.assertEqual(one.num_batches_tracked, two.num_batches_tracked)

    def calibrate(self, name, method, requests):
        wire.states.BeginCalibration(wire.control.BeginCalibrationRequest(
            name=name, method=wire.state.Calibration.Method.Value(method)))
        for response in wire.norms.StreamTrain(iter(requests)):
            self.assertFalse(response.HasField("error"), response.error.message)
        wire.states.CommitCalibration(wire.control.CommitCalibrationRequest(name=name))

    def contributions(self, name, batches, dtype):
        return [wire.data.TrainRequest(state=name, input=wire.tensor(batch, dtype=dtype),
                                       sequence=number, calibrate=True,
                                       durability=wire.data.RELAXED)
                for number, batch in enumerate(batches, start=1)]

    @rounds(wire_module.DTYPES, ["POOLED", "MEAN_OF_BATCHES"])
    def test_order_of_calibration_does_not_matter(self, name, dtype, method):
        channels = self.rng.randint(1, 9)
        batches = self.batches(channels, dtype, 12)
        shuffled = self.rng.sample(batches, len(batches))
        for state, contributed in ((name, batches), (f"{name}.shuffled", shuffled)):
            wire.create(state, wire.config(channels))
            self.calibrate(state, method, self.contributions(state, contributed, dtype))
        self.assert_same_stats(name, f"{name}.shuffled")

    @rounds(wire_module.DTYPES)
    def test_how_pooled_values_are_cut_does_not_matter(self, name, dtype):
        channels = self.rng.randint(1, 9)
        shape = [self.rng.randint(20, 60), channels, 5]
        values = wire_module.held(self.generator.normal(7, 2, shape), dtype)
        cuts = sorted(self.rng.sample(range(1, shape[0]), 6))
        for state, pieces in ((name, [values]), (f"{name}.cut", numpy.split(values, cuts))):
            wire.create(state, wire.config(channels))
            self.calibrate(state, "POOLED", self.contributions(state, pieces, dtype))
        one, two = (wire.get(state).running_stats for state in (name, f"{name}.cut"))
        for field in ("running_mean", "running_var"):
            numpy.testing.assert_allclose(wire.array(getattr(one, field)),
                                          wire.array(getattr(two, field)), ORDER_ERROR_MAX)

    @rounds(wire_module.DTYPES)
    def test_order_does_not_matter_to_a_cumulative_average(self, name, dtype):
        channels = self.rng.randint(1, 9)
        batches = self.batches(channels, dtype, 12)
        shuffled = self.rng.sample(batches, len(batches))
        for state, trained in ((name, batches), (f"{name}.shuffled", shuffled)):
            wire.create(state, wire.config(channels, momentum=None))
            for batch in trained:
                wire.norms.Train(wire.data.TrainRequest(
                    state=state, input=wire.tensor(batch, dtype=dtype)))
        self.assert_same_stats(name, f"{name}.shuffled")

    @rounds(wire_module.DTYPES, ["BATCH_NORM", "INSTANCE_NORM"], [0.1, 1.0],
            ["computed here", "returned by the server"])
    def test_moments_equal_batches(self, name, dtype, kind, momentum, source):
        channels = self.rng.randint(1, 9)
        for state in (name, f"{name}.moments"):
            wire.create(state, wire.config(channels, momentum=momentum, kind=kind))
        for batch in self.batches(channels, dtype, 5):
            response = wire.norms.Train(wire.data.TrainRequest(
                state=name, input=wire.tensor(batch, dtype=dtype), return_moments=True))
            moments = (response.moments if source == "returned by the server"
                       else wire.moments_of_sets(sets_of(kind, batch, channels)))
            wire.norms.Train(wire.data.TrainRequest(state=f"{name}.moments", moments=moments))
        self.assert_same_stats(f"{name}.moments", name)

    @rounds(wire_module.DTYPES, [False, True])
    def test_eval_after_calibration_gives_mean_0_and_deviation_1(self, name, dtype, channels_last):
        channels = self.rng.randint(1, 9)
        batches = self.batches(channels, dtype, 12)
        # Without eps and correction the deviation is 1 and not nearly so.
        wire.create(name, wire.config(channels, eps=0.0, running_var_correction=0))
        self.calibrate(name, "POOLED", self.contributions(name, batches, dtype))
        outputs = [wire.array(wire.norms.Normalize(wire.data.NormalizeRequest(
            state=name, input=wire.tensor(batch, channels_last, dtype))).output)
            for batch in batches]
        values = numpy.concatenate([sets_of("BATCH_NORM", output, channels)
                                    for output in outputs], axis=1)
        allowed = NORMALIZED_ERROR_MAX[dtype]
        numpy.testing.assert_allclose(values.mean(axis=1), 0, atol=allowed)
        numpy.testing.assert_allclose(values.std(axis=1), 1, atol=allowed)


class Differences:
    """A float64 state and its loss sum(output * grad_output), by the server's outputs."""

    def __init__(self, name, config, shape, mode, generator):
        self.name, self.config, self.mode = name, config, mode
        self.x = generator.normal(3, 2, shape)
        self.grad_output = generator.normal(0, 1, shape)
        wire.create(name, config)
        self.parameters = {}
        if config.affine:
            for parameter in ("weight", "bias")[:1 if self.kind() == "RMS_NORM" else 2]:
                self.parameters[parameter] = generator.normal(
                    1, 1, list(config.normalized_shape) or [config.num_features])
            self.set_parameters()
        # Running statistics that are neither 0 and 1 nor the batch's own.
        for _ in range(3):
            wire.train(name, generator.normal(1, 2, shape))

    def kind(self):
        return wire.state.NormConfig.Kind.Name(self.config.kind)

    def set_parameters(self):
        wire.states.SetParameters(wire.control.SetParametersRequest(
            name=self.name, parameters=wire.state.Parameters(
                **{key: wire.tensor(value) for key, value in self.parameters.items()})))

    def loss(self):
        if self.mode == "EVAL":
            output = wire.normalize(self.name, self.x)
        else:
            output = wire.array(wire.train(self.name, self.x).output)
        return (output * self.grad_output).sum()

    def gradients(self):
        """(grad_input, grad_weight, grad_bias) as the server gives them, those there are."""
        mode = wire.data.BackwardRequest.Mode.Value(self.mode)
        response = wire.norms.Backward(wire.data.BackwardRequest(
            state=self.name, mode=mode, input=wire.tensor(self.x),
            grad_output=wire.tensor(self.grad_output)))
        return {field: wire.array(getattr(response, field))
                for field in ("grad_input", "grad_weight", "grad_bias")
                if response.HasField(field)}

    def differences(self):
        """The same by finite differences."""
        result = {"grad_input": self._differences(self.x, lambda: None)}
        for key, value in self.parameters.items():
            result[f"grad_{key}"] = self._differences(value, self.set_parameters)
        return result

    def _differences(self, array, changed):
        result = numpy.zeros(array.shape)
        for place in numpy.ndindex(array.shape):
            value = array[place]
            losses = []
            for step in (H, -H):
                array[place] = value + step
                changed()
                losses.append(self.loss())
            array[place] = value
            result[place] = (losses[0] - losses[1]) / (2 * H)
        changed()
        return result


class GradientsTest(unittest.TestCase):
    """Each kind, in both modes where they differ."""

    def check(self, mode="TRAIN", shape=(3, 2, 4), **options):
        generator = numpy.random.default_rng(
            random.Random(f"{seed}/{self.id()}").getrandbits(64))
        config = wire.config(parameter_dtype=wire.tensors.FLOAT64, **options)
        state = Differences(f"differences/{self.id().rsplit('.', 1)[-1]}", config, shape, mode,
                            generator)
        gradients, differences = state.gradients(), state.differences()
        self.assertEqual(sorted(gradients), sorted(differences))
        for field, actual in gradients.items():
            numpy.testing.assert_allclose(actual, differences[field], DIFFERENCE_ERROR_MAX,
                                          DIFFERENCE_ERROR_MAX, err_msg=field)

    def test_batch_norm_in_training(self):
        self.check(num_features=2, momentum=0.0)

    def test_batch_norm_in_eval_mode(self):
        self.check("EVAL", num_features=2)

    def test_batch_norm_without_tracking_in_eval_mode(self):
        self.check("EVAL", num_features=2, track_running_stats=False)

    def test_batch_norm_without_affine(self):
        self.check(num_features=2, affine=False)

    def test_instance_norm_in_training(self):
        self.check(num_features=2, kind="INSTANCE_NORM")

    def test_instance_norm_in_eval_mode(self):
        self.check("EVAL", num_features=2, kind="INSTANCE_NORM")

    def test_group_norm(self):
        self.check(shape=(2, 4, 3), num_features=4, kind="GROUP_NORM", num_groups=2)

    def test_layer_norm(self):
        self.check(num_features=8, kind="LAYER_NORM", normalized_shape=[2, 4])

    def test_rms_norm(self):
        self.check(num_features=8, kind="RMS_NORM", normalized_shape=[2, 4])

    def test_rms_norm_without_affine(self):
        self.check(num_features=4, kind="RMS_NORM", normalized_shape=[4], affine=False)


def set_up(connection, drawn_seed):
    global wire, seed
    wire, seed = connection, drawn_seed


if __name__ == "__main__":
    sys.exit(wire_module.run_tests(__doc__, set_up))
