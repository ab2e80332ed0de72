"""The edges of BatchNorm: the real torch module and a real server side by side."""

import sys
import unittest

import numpy
import torch

import wire as wire_module

wire = None
C = 3


def batch(*rows):
    return numpy.array(rows, dtype="float32")


BATCH = batch([1, 2, 3], [4, 6, 9], [-2, 0.5, 30])


def run_module(module, array):
    return module(torch.from_numpy(array.astype("float64"))).detach().numpy()


class EdgesTest(unittest.TestCase):
    """Each test makes a module and a state of the test's own name with the same options."""

    def make(self, propagate=False, load=None, **options):
        """(module in float64, name of the state); `load` changes the module before it is copied."""
        module = torch.nn.BatchNorm1d(C, **options).double()
        if load is not None:
            with torch.no_grad():
                load(module)
        name = f"edges/{self.id().rsplit('.', 1)[-1]}"
        wire.create(name, wire.config(C, propagate=propagate, **options),
                    module if load is not None else None)
        return module, name

    def assert_close(self, actual, expected):
        numpy.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)

    def assert_same_stats(self, module, name):
        stats = wire.get(name).running_stats
        self.assert_close(wire.array(stats.running_mean), module.running_mean.numpy())
        self.assert_close(wire.array(stats.running_var), module.running_var.numpy())
        self.assertEqual(stats.num_batches_tracked, module.num_batches_tracked.item())

    def assert_trains_alike(self, module, name, array=BATCH):
        self.assert_close(wire.array(wire.train(name, array).output), run_module(module, array))
        self.assert_same_stats(module, name)

    def test_one_value_per_channel_is_refused_in_the_same_words(self):
        module, name = self.make()
        before = wire.get(name)
        words = "Expected more than 1 value per channel when training"
        with self.assertRaisesRegex(ValueError, words):
            run_module(module, BATCH[:1])
        with self.assertRaisesRegex(wire.RpcError, words):
            wire.train(name, BATCH[:1])
        # PyTorch has counted the batch that it refused; normd changes nothing.
        self.assertEqual(module.num_batches_tracked.item(), 1)
        self.assertEqual(wire.get(name), before)

    def test_one_value_per_channel_is_normalized_in_eval_mode(self):
        module, name = self.make()
        self.assert_trains_alike(module, name)
        self.assert_close(wire.normalize(name, BATCH[:1]), run_module(module.eval(), BATCH[:1]))

    def test_one_value_per_channel_is_refused_in_eval_mode_without_tracking(self):
        module, name = self.make(track_running_stats=False)
        words = "Expected more than 1 value per channel when training"
        with self.assertRaisesRegex(ValueError, words):
            run_module(module.eval(), BATCH[:1])
        with self.assertRaisesRegex(wire.RpcError, words):
            wire.normalize(name, BATCH[:1])

    def test_empty_batch_has_an_empty_output_and_changes_nothing(self):
        module, name = self.make()
        before = wire.get(name)
        empty = numpy.zeros([0, C], dtype="float32")
        self.assertEqual(wire.array(wire.train(name, empty).output).shape,
                         run_module(module, empty).shape)
        self.assertEqual(wire.normalize(name, empty).shape, (0, C))
        # PyTorch counts an empty batch; normd changes nothing.
        self.assertEqual(module.num_batches_tracked.item(), 1)
        self.assertEqual(wire.get(name), before)
        numpy.testing.assert_array_equal(module.running_mean.numpy(), numpy.zeros(C))

    def test_not_finite_values_are_refused_by_default(self):
        _, name = self.make()
        before = wire.get(name)
        for value in (numpy.nan, numpy.inf, -numpy.inf):
            with self.subTest(value=value), self.assertRaisesRegex(wire.RpcError, "finite"):
                wire.train(name, batch([1, 2, 3], [4, value, 6]))
        self.assertEqual(wire.get(name), before)

    def test_not_finite_values_stay_in_their_channel_when_propagated(self):
        for value in (numpy.nan, numpy.inf, -numpy.inf):
            with self.subTest(value=value):
                module = torch.nn.BatchNorm1d(C).double()
                name = f"edges/propagate/{value}".replace("-", "minus_")
                wire.create(name, wire.config(C, propagate=True))
                self.assert_trains_alike(module, name, batch([1, 2, 3], [4, value, 6]))
                # For ever: the next batch, which is finite, heals nothing.
                self.assert_trains_alike(module, name)
                self.assert_close(wire.normalize(name, BATCH), run_module(module.eval(), BATCH))
                self.assertTrue(numpy.isnan(module.running_var.numpy()[1]))

    def test_cumulative_average_goes_on_from_a_loaded_counter(self):
        def load(module):
            module.num_batches_tracked.fill_(7)
            module.running_mean.fill_(5)
            module.running_var.fill_(2)
        module, name = self.make(momentum=None, load=load)
        self.assert_same_stats(module, name)
        for _ in range(3):
            self.assert_trains_alike(module, name)
        self.assertEqual(module.num_batches_tracked.item(), 10)

    def test_momentum_zero_only_counts(self):
        module, name = self.make(momentum=0.0)
        self.assert_trains_alike(module, name)
        numpy.testing.assert_array_equal(module.running_mean.numpy(), numpy.zeros(C))

    def test_momentum_one_keeps_the_last_batch_alone(self):
        module, name = self.make(momentum=1.0)
        self.assert_trains_alike(module, name, BATCH * 100)
        self.assert_trains_alike(module, name)
        self.assert_close(module.running_mean.numpy(), BATCH.astype("float64").mean(axis=0))

    def test_eps_zero_without_variance(self):
        flat = batch([1, 2, 3], [1, 6, 9], [1, 0.5, 30])
        module, name = self.make(eps=0.0, momentum=1.0)
        self.assert_trains_alike(module, name, flat)
        expected = run_module(module.eval(), flat)
        self.assertTrue(numpy.isnan(expected[:, 0]).all())
        self.assert_close(wire.normalize(name, flat), expected)

    def test_without_tracking_eval_mode_uses_the_batch(self):
        module, name = self.make(track_running_stats=False)
        self.assert_close(wire.array(wire.train(name, BATCH).output), run_module(module, BATCH))
        self.assertIsNone(module.running_mean)
        self.assertFalse(wire.get(name).HasField("running_stats"))
        self.assert_close(wire.normalize(name, 2 * BATCH), run_module(module.eval(), 2 * BATCH))

    def test_without_affine_there_are_no_parameters(self):
        module, name = self.make(affine=False)
        self.assert_trains_alike(module, name)
        self.assertIsNone(module.weight)
        self.assertFalse(wire.get(name).HasField("parameters"))

    def test_output_takes_the_biased_variance_and_the_state_the_unbiased_one(self):
        module, name = self.make(momentum=1.0)
        self.assert_trains_alike(module, name)
        values = BATCH.astype("float64")
        stats = wire.get(name).running_stats
        self.assert_close(wire.array(stats.running_var), values.var(axis=0, ddof=1))
        self.assert_close(wire.array(wire.train(name, BATCH).output),
                          (values - values.mean(axis=0)) / numpy.sqrt(values.var(axis=0) + 1e-5))

    def test_reset_does_as_reset_running_stats(self):
        module, name = self.make()
        self.assert_trains_alike(module, name)
        module.reset_running_stats()
        wire.states.ResetRunningStats(wire.control.ResetRunningStatsRequest(name=name))
        self.assert_same_stats(module, name)
        self.assert_trains_alike(module, name)


def set_up(connection, _):
    global wire
    wire = connection


if __name__ == "__main__":
    sys.exit(wire_module.run_tests(__doc__, set_up))
