"""The edges of Batch norm's siblings: the real torch modules and a real server side by side."""

import sys
import unittest

import numpy
import torch

import wire as wire_module
from reference import RmsNorm

wire = None

C = 4
KINDS = {
    "LAYER_NORM": ({"normalized_shape": [C, 3]}, lambda **o: torch.nn.LayerNorm([C, 3], **o)),
    "GROUP_NORM": ({"num_features": C, "num_groups": 2}, lambda **o: torch.nn.GroupNorm(2, C, **o)),
    "INSTANCE_NORM": ({"num_features": C}, lambda **o: torch.nn.InstanceNorm1d(C, **o)),
    "RMS_NORM": ({"normalized_shape": [C, 3]}, lambda eps=1e-5: RmsNorm([C, 3], eps, True)),
}
# Of rank 3, which every kind takes.
BATCH = numpy.random.default_rng(1).normal(2, 3, [2, C, 3]).astype("float32")
GRADIENT = numpy.random.default_rng(2).normal(0, 1, BATCH.shape).astype("float32")


def run_module(module, array):
    return module.double()(torch.from_numpy(array.astype("float64"))).detach().numpy()


class FamilyEdgesTest(unittest.TestCase):
    """Each test makes a module and a state with PyTorch's defaults but for the options given."""

    def make(self, kind, **options):
        """(module, name of the state); the options have the same names on both sides."""
        fields, make_module = KINDS[kind]
        NormConfig = wire.state.NormConfig
        config = NormConfig(kind=NormConfig.Kind.Value(kind), **fields, **options)
        name = f"family_edges/{self.id().rsplit('.', 1)[-1]}/{kind}"
        wire.create(name, config)
        for only_ours in ("non_finite", "parameter_dtype"):
            options.pop(only_ours, None)
        return make_module(**options).double(), name

    def assert_close(self, actual, expected):
        numpy.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)

    def assert_refused(self, reason, words, call, *arguments):
        with self.assertRaisesRegex(wire.RpcError, words) as raised:
            call(*arguments)
        self.assertEqual(wire.reason(raised.exception), reason)

    def test_defaults_are_those_of_the_modules(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                module, name = self.make(kind)
                state = wire.get(name)
                expected = {key: value.numpy() for key, value in module.state_dict().items()}
                actual = {field: wire.array(getattr(state.parameters, field))
                          for field in ("weight", "bias") if state.parameters.HasField(field)}
                self.assertEqual(sorted(actual), sorted(expected))
                for field, values in expected.items():
                    numpy.testing.assert_array_equal(actual[field], values)
                self.assertFalse(state.HasField("running_stats"))
                if kind != "RMS_NORM":
                    self.assertEqual(state.config.eps, module.eps)
                self.assertEqual(state.config.num_features,
                                 C * 3 if state.config.normalized_shape else C)

    def test_train_and_normalize_do_the_same_without_running_statistics(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                module, name = self.make(kind, eps=1e-5)
                expected = run_module(module, BATCH)
                before = wire.get(name)
                self.assert_close(wire.array(wire.train(name, BATCH).output), expected)
                self.assert_close(wire.normalize(name, BATCH), expected)
                self.assertEqual(wire.get(name), before)

    def test_rms_norm_without_eps_takes_the_machine_epsilon_of_the_input(self):
        _, name = self.make("RMS_NORM")
        self.assertFalse(wire.get(name).config.HasField("eps"))
        # So small that eps is what the output is made of.
        small = BATCH * 1e-6
        for dtype in wire_module.DTYPES:
            with self.subTest(dtype=dtype):
                eps = torch.finfo(getattr(torch, dtype)).eps
                values = wire_module.held(small, dtype)
                response = wire.norms.Normalize(wire.data.NormalizeRequest(
                    state=name, input=wire.tensor(values, dtype=dtype)))
                expected = run_module(RmsNorm([C, 3], eps, True), values)
                numpy.testing.assert_allclose(wire.array(response.output), expected, rtol=4e-3,
                                              atol=2.0 ** -25)

    def test_instance_norm_counts_no_batches(self):
        module, name = self.make("INSTANCE_NORM", track_running_stats=True)
        for _ in range(3):
            run_module(module, BATCH)
            wire.train(name, BATCH)
        stats = wire.get(name).running_stats
        self.assertEqual(stats.num_batches_tracked, module.num_batches_tracked.item())
        self.assertEqual(stats.num_batches_tracked, 0)
        self.assert_close(wire.array(stats.running_mean), module.running_mean.numpy())
        self.assert_close(wire.array(stats.running_var), module.running_var.numpy())
        self.assert_close(wire.normalize(name, BATCH), run_module(module.eval(), BATCH))

    def test_one_spatial_element_is_refused_by_instance_norm_in_the_same_words(self):
        module, name = self.make("INSTANCE_NORM", track_running_stats=True)
        words = "Expected more than 1 spatial element when training"
        with self.assertRaisesRegex(ValueError, words):
            run_module(module, BATCH[:, :, :1])
        self.assert_refused("ONE_VALUE_PER_CHANNEL", words, wire.train, name, BATCH[:, :, :1])
        # In eval mode the running statistics do.
        self.assert_close(wire.normalize(name, BATCH[:, :, :1]),
                          run_module(module.eval(), BATCH[:, :, :1]))

    def test_one_value_a_set_is_taken_by_layer_norm(self):
        name = "family_edges/one_value"
        wire.create(name, wire.config(1, kind="LAYER_NORM", normalized_shape=[1]))
        one = BATCH.reshape(-1, 1)
        self.assert_close(wire.array(wire.train(name, one).output),
                          run_module(torch.nn.LayerNorm([1]), one))

    def test_one_value_a_group_is_refused_by_group_norm_in_a_single_sample_alone(self):
        name = "family_edges/one_value_a_group"
        wire.create(name, wire.config(C, kind="GROUP_NORM", num_groups=C))
        module = torch.nn.GroupNorm(C, C)
        words = "Expected more than 1 value per channel when training"
        with self.assertRaisesRegex(ValueError, words):
            run_module(module, BATCH[:1, :, 0])
        self.assert_refused("ONE_VALUE_PER_CHANNEL", words, wire.train, name, BATCH[:1, :, 0])
        self.assert_close(wire.array(wire.train(name, BATCH[:, :, 0]).output),
                          run_module(module, BATCH[:, :, 0]))

    def test_groups_must_divide_the_channels(self):
        with self.assertRaisesRegex(ValueError, "divisible"):
            torch.nn.GroupNorm(3, C)
        self.assert_refused("NUM_GROUPS_INVALID", "", wire.create, "family_edges/groups",
                            wire.config(C, kind="GROUP_NORM", num_groups=3))

    def test_an_input_must_end_in_the_normalized_shape(self):
        for kind in ("LAYER_NORM", "RMS_NORM"):
            with self.subTest(kind=kind):
                _, name = self.make(kind, eps=1e-5)
                for shape in ([C, 2], [3, C], [3], [2, 3, C]):
                    self.assert_refused("NORMALIZED_SHAPE_MISMATCH", "", wire.train, name,
                                        numpy.ones(shape, dtype="float32"))

    def test_ranks_are_those_of_the_modules(self):
        for kind, shape in (("INSTANCE_NORM", [2, C]), ("INSTANCE_NORM", [2, C, 2, 2, 2, 2]),
                            ("GROUP_NORM", [C]), ("GROUP_NORM", [2, C, 2, 2, 2, 2])):
            with self.subTest(kind=kind, shape=shape):
                name = f"family_edges/rank/{kind}/{len(shape)}"
                wire.create(name, wire.config(C, kind=kind, **(
                    {"num_groups": 2} if kind == "GROUP_NORM" else {})))
                self.assert_refused("RANK_UNSUPPORTED", "", wire.train, name,
                                    numpy.ones(shape, dtype="float32"))

    def test_eps_zero_without_variance(self):
        flat = numpy.full_like(BATCH, 1.5)
        for kind in ("LAYER_NORM", "GROUP_NORM", "INSTANCE_NORM"):
            with self.subTest(kind=kind):
                module, name = self.make(kind, eps=0.0)
                expected = run_module(module, flat)
                self.assert_close(wire.array(wire.train(name, flat).output), expected)
                self.assertEqual(numpy.isnan(expected).all(), kind != "INSTANCE_NORM")

    def test_empty_batch_has_an_empty_output(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                _, name = self.make(kind)
                empty = BATCH[:0]
                response = wire.train(name, empty)
                self.assertEqual(wire.array(response.output).shape, empty.shape)
                self.assertEqual(response.disposition, wire.data.APPLIED)
                self.assertEqual(wire.normalize(name, empty).shape, empty.shape)

    def test_not_finite_values_are_refused_in_training_by_default(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                _, name = self.make(kind)
                for value in (numpy.nan, numpy.inf, -numpy.inf):
                    wrong = BATCH.copy()
                    wrong[1, 2, 0] = value
                    self.assert_refused("NON_FINITE_VALUE", "finite", wire.train, name, wrong)

    def test_not_finite_values_stay_in_their_set_when_propagated(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                module, name = self.make(kind, eps=1e-5,
                                         non_finite=wire.state.NormConfig.PROPAGATE)
                for value in (numpy.nan, numpy.inf, -numpy.inf):
                    wrong = BATCH.copy()
                    wrong[1, 2, 0] = value
                    expected = run_module(module, wrong)
                    self.assertTrue(numpy.isfinite(expected[0]).all())
                    self.assert_close(wire.array(wire.train(name, wrong).output), expected)

    def test_infinities_of_both_signs_leave_what_is_finite_zero_in_rms_norm(self):
        module, name = self.make("RMS_NORM", eps=1e-5, non_finite=wire.state.NormConfig.PROPAGATE)
        for values in ([numpy.inf, -numpy.inf, 1], [numpy.inf, numpy.nan, 1]):
            with self.subTest(values=values):
                wrong = BATCH.copy()
                wrong[1, 2] = values
                self.assert_close(wire.array(wire.train(name, wrong).output),
                                  run_module(module, wrong))

    def check_far_from_one(self, batch, gradient, weight=1.0, eps=0.0):
        """Outputs and gradients of every kind are PyTorch's in float64, rounded to float32."""
        for kind in KINDS:
            with self.subTest(kind=kind):
                options = {"affine": True} if kind == "INSTANCE_NORM" else {}
                module, name = self.make(kind, eps=eps, parameter_dtype=wire.tensors.FLOAT64,
                                         **options)
                with torch.no_grad():
                    module.weight *= weight
                wire.states.SetParameters(wire.control.SetParametersRequest(
                    name=name, parameters=wire.parameters(module, "float64")))
                x = torch.from_numpy(batch.astype("float64")).requires_grad_()
                output = module(x)
                output.backward(torch.from_numpy(gradient.astype("float64")))
                response = wire.norms.Backward(wire.data.BackwardRequest(
                    state=name, input=wire.tensor(batch), grad_output=wire.tensor(gradient)))
                with numpy.errstate(over="ignore"):
                    output, grad_input = (values.detach().numpy().astype("float32")
                                          for values in (output, x.grad))
                self.assert_rounded(wire.array(wire.train(name, batch).output), output)
                self.assert_rounded(wire.array(response.grad_input), grad_input)
                self.assert_rounded(wire.array(response.grad_weight), module.weight.grad.numpy())
                wire.states.DeleteState(wire.control.DeleteStateRequest(name=name))

    def assert_rounded(self, actual, expected):
        """Within 1e-6 of the largest finite one, or a step of the smallest floats."""
        finite = numpy.isfinite(expected)
        scale = numpy.abs(expected[finite]).max(initial=0)
        numpy.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6 * scale + 2.0 ** -149)

    def test_values_up_to_the_end_of_float32(self):
        largest = numpy.finfo("float32").max
        batch = (BATCH / numpy.abs(BATCH).max() * largest).astype("float32")
        self.check_far_from_one(batch, GRADIENT)
        self.check_far_from_one(batch, GRADIENT, weight=1e-30, eps=1e-5)

    def test_a_spread_whose_inverse_has_a_cube_beyond_float32(self):
        for factor in (1e-19, 1e-30, 1e-40):
            self.check_far_from_one(BATCH * numpy.float32(factor), GRADIENT * 1e-6)

    def test_weights_beyond_float32(self):
        self.check_far_from_one(BATCH, GRADIENT, weight=1e300, eps=1e-5)
        self.check_far_from_one(BATCH, GRADIENT * numpy.float32(1e-30), weight=1e60, eps=1e-5)

    def test_moments_train_only_what_has_running_statistics(self):
        for kind in ("LAYER_NORM", "GROUP_NORM", "RMS_NORM"):
            with self.subTest(kind=kind):
                _, name = self.make(kind)
                self.assert_refused("MOMENTS_NOT_POSSIBLE", "", wire.norms.Train,
                                    wire.data.TrainRequest(state=name,
                                                           moments=wire.moments(BATCH)))

    def test_fields_of_other_kinds_are_refused(self):
        for kind, fields in (("LAYER_NORM", {"num_groups": 2}), ("GROUP_NORM", {"momentum": 0.1}),
                             ("RMS_NORM", {"track_running_stats": True}),
                             ("INSTANCE_NORM", {"cumulative_average": True}),
                             ("INSTANCE_NORM", {"normalized_shape": [C]})):
            with self.subTest(kind=kind, fields=fields):
                with self.assertRaises(wire.RpcError) as raised:
                    self.make(kind, **fields)
                self.assertEqual(wire.reason(raised.exception), "FIELD_NOT_APPLICABLE")


def set_up(connection, _):
    global wire
    wire = connection


if __name__ == "__main__":
    sys.exit(wire_module.run_tests(__doc__, set_up))
