"""Calibration against torch.optim.swa_utils.update_bn and against all values together.

Both methods, over random batches, from several clients at once, as values and as moments; serving
and training go on with the old statistics until the commit.
"""

import random
import sys
import threading
import unittest

import numpy
import torch

import wire as wire_module
from reference import make_module, sets_of

CLIENTS = 3
# Statistics are float64 sums, as in random_cases_test.py.
ERROR_MAX = 1e-9

wire = None
seed = None


class CalibrationTest(unittest.TestCase):
    """Each test makes a state of its own name, trained with two batches."""

    def setUp(self):
        self.generator = numpy.random.default_rng(
            random.Random(f"{seed}/{self.id()}").getrandbits(64))
        self.name = f"calibration/{self.id().rsplit('.', 1)[-1]}"

    def make(self, channels=5, **options):
        self.channels = channels
        self.config = wire.config(channels, **options)
        wire.create(self.name, self.config)
        for batch in self.batches(2):
            wire.train(self.name, batch)

    def batches(self, count, dtype="float32"):
        """Of different sizes and means, so that the methods differ."""
        return [wire_module.held(
            self.generator.normal(self.generator.uniform(-5, 5), self.generator.uniform(0.5, 3),
                                  [int(self.generator.integers(2, 9)), self.channels,
                                   int(self.generator.integers(2, 7))]), dtype)
            for _ in range(count)]

    def begin(self, method):
        return wire.states.BeginCalibration(wire.control.BeginCalibrationRequest(
            name=self.name, method=wire.state.Calibration.Method.Value(method)))

    def commit(self):
        return wire.states.CommitCalibration(
            wire.control.CommitCalibrationRequest(name=self.name))

    def abort(self):
        return wire.states.AbortCalibration(wire.control.AbortCalibrationRequest(name=self.name))

    def contribution(self, batch, producer, sequence, as_moments=False, dtype="float32"):
        request = wire.data.TrainRequest(state=self.name, producer_id=producer, sequence=sequence,
                                         calibrate=True)
        if as_moments:
            request.moments.CopyFrom(wire.moments_of_sets(self.sets(batch)))
        else:
            request.input.CopyFrom(wire.tensor(batch, dtype=dtype))
        return request

    def contribute(self, batches, dtype="float32"):
        """From several clients, each with a stream of its own; every update is sent twice."""
        failures = []

        def run(client, mine):
            requests = [self.contribution(batch, f"client{client}", sequence,
                                          as_moments=sequence % 3 == 0, dtype=dtype)
                        for sequence, batch in enumerate(mine, start=1) for _ in range(2)]
            dispositions = [response.disposition
                            for response in wire.norms.StreamTrain(iter(requests))]
            if dispositions != [wire.data.APPLIED, wire.data.DUPLICATE] * len(mine):
                failures.append((client, dispositions))

        threads = [threading.Thread(target=run, args=(client, batches[client::CLIENTS]))
                   for client in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def sets(self, batch):
        return sets_of(wire.state.NormConfig.Kind.Name(self.config.kind), batch, self.channels)

    def assert_stats(self, stats, mean, var, num_batches):
        numpy.testing.assert_allclose(wire.array(stats.running_mean), mean, ERROR_MAX, ERROR_MAX)
        numpy.testing.assert_allclose(wire.array(stats.running_var), var, ERROR_MAX)
        self.assertEqual(stats.num_batches_tracked, num_batches)

    def assert_refused(self, reason, call, *arguments):
        with self.assertRaises(wire.RpcError) as raised:
            call(*arguments)
        self.assertEqual(wire.reason(raised.exception), reason)

    def mean_of_batches(self, batches, correction=1):
        """Per channel, over the sets of every batch."""
        stats = numpy.array([[getattr(self.sets(batch), figure)(axis=1, **options)
                              .reshape(-1, self.channels).mean(axis=0)
                              for figure, options in (("mean", {}), ("var", {"ddof": correction}))]
                             for batch in batches])
        return stats.mean(axis=0)

    def test_mean_of_batches_is_update_bn(self):
        for dtype in wire_module.DTYPES:
            with self.subTest(dtype=dtype):
                self.name = f"calibration/update_bn/{dtype}"
                self.make()
                batches = self.batches(17, dtype)
                module = make_module("BATCH_NORM", 3, self.channels, 1e-5, tracked=True)
                torch.optim.swa_utils.update_bn([torch.from_numpy(b) for b in batches], module)
                self.begin("MEAN_OF_BATCHES")
                self.contribute(batches, dtype)
                self.assert_stats(self.commit().running_stats, module.running_mean.numpy(),
                                  module.running_var.numpy(), module.num_batches_tracked.item())

    def test_pooled_is_all_values_together(self):
        for dtype in wire_module.DTYPES:
            for correction in (0, 1):
                with self.subTest(dtype=dtype, correction=correction):
                    self.name = f"calibration/pooled/{dtype}/{correction}"
                    self.make(running_var_correction=correction)
                    batches = self.batches(17, dtype)
                    values = numpy.concatenate([self.sets(batch) for batch in batches], axis=1)
                    self.begin("POOLED")
                    self.contribute(batches, dtype)
                    self.assert_stats(self.commit().running_stats, values.mean(axis=1),
                                      values.var(axis=1, ddof=correction), len(batches))

    def test_mean_of_batches_takes_the_correction(self):
        self.make(running_var_correction=0)
        batches = self.batches(7)
        self.begin("MEAN_OF_BATCHES")
        self.contribute(batches)
        self.assert_stats(self.commit().running_stats, *self.mean_of_batches(batches, 0), 7)

    def test_instance_norm_averages_over_samples_and_counts_nothing(self):
        self.make(kind="INSTANCE_NORM")
        batches = self.batches(7)
        self.begin("MEAN_OF_BATCHES")
        self.contribute(batches)
        self.assert_stats(self.commit().running_stats, *self.mean_of_batches(batches), 0)

    def test_instance_norm_is_not_pooled(self):
        self.make(kind="INSTANCE_NORM")
        self.assert_refused("FIELD_NOT_APPLICABLE", self.begin, "POOLED")

    def test_old_statistics_serve_until_the_commit(self):
        self.make()
        before = wire.get(self.name)
        probe = self.batches(1)[0].astype("float32")
        output = wire.normalize(self.name, probe)
        batches = self.batches(6)
        self.begin("POOLED")
        self.contribute(batches)
        state = wire.get(self.name)
        self.assertEqual(state.running_stats, before.running_stats)
        self.assertEqual(state.calibration.num_batches, 6)
        self.assertEqual(state.calibration.count, sum(self.sets(b).shape[1] for b in batches))
        self.assertEqual(state.calibration.method, wire.state.Calibration.POOLED)
        numpy.testing.assert_array_equal(wire.normalize(self.name, probe), output)
        committed = self.commit()
        self.assertFalse(committed.HasField("calibration"))
        self.assertGreater(numpy.abs(wire.normalize(self.name, probe) - output).max(), 1e-3)

    def test_training_goes_on_beside_it(self):
        self.make()
        module = make_module("BATCH_NORM", 3, self.channels, 1e-5, tracked=True)
        stats = wire.get(self.name).running_stats
        module.running_mean.copy_(torch.from_numpy(wire.array(stats.running_mean)))
        module.running_var.copy_(torch.from_numpy(wire.array(stats.running_var)))
        self.begin("MEAN_OF_BATCHES")
        trained, contributed = self.batches(4), self.batches(4)
        for number, (batch, contribution) in enumerate(zip(trained, contributed), start=1):
            wire.train(self.name, batch.astype("float32"))
            wire.norms.Train(self.contribution(contribution, "client", number))
            module(torch.from_numpy(batch))
        self.assert_stats(wire.get(self.name).running_stats, module.running_mean.numpy(),
                          module.running_var.numpy(), 2 + 4)
        self.assert_stats(self.commit().running_stats, *self.mean_of_batches(contributed), 4)

    def test_a_contribution_may_want_its_output_back(self):
        self.make()
        self.begin("POOLED")
        request = self.contribution(self.batches(1)[0], "client", 1)
        request.return_output = request.return_moments = True
        response = wire.norms.Train(request)
        batch = wire.array(request.input)
        module = make_module("BATCH_NORM", 3, self.channels, 1e-5)
        numpy.testing.assert_allclose(wire.array(response.output),
                                      module(torch.from_numpy(batch)).detach().numpy(), atol=2e-6)
        self.assertEqual(response.moments.count, self.sets(batch).shape[1])

    def test_abort_forgets_what_was_gathered(self):
        self.make()
        before = wire.get(self.name).running_stats
        self.begin("POOLED")
        self.contribute(self.batches(6))
        aborted = self.abort()
        self.assertFalse(aborted.HasField("calibration"))
        self.assertEqual(aborted.running_stats, before)
        self.begin("POOLED")
        self.assertEqual(wire.get(self.name).calibration.num_batches, 0)

    def test_what_is_out_of_order_is_refused(self):
        self.make()
        batch = self.batches(1)[0]
        for call in (self.commit, self.abort):
            self.assert_refused("CALIBRATION_NOT_ACTIVE", call)
        self.assert_refused("CALIBRATION_NOT_ACTIVE", wire.norms.Train,
                            self.contribution(batch, "client", 1))
        self.assert_refused("CALIBRATION_METHOD_UNKNOWN", self.begin, "METHOD_UNSPECIFIED")
        self.begin("POOLED")
        self.assert_refused("CALIBRATION_ACTIVE", self.begin, "POOLED")
        self.assert_refused("CALIBRATION_EMPTY", self.commit)

    def test_a_state_without_running_statistics_has_none_to_calibrate(self):
        self.make(track_running_stats=False)
        self.assert_refused("RUNNING_STATS_ABSENT", self.begin, "POOLED")


def set_up(connection, drawn_seed):
    global wire, seed
    wire, seed = connection, drawn_seed


if __name__ == "__main__":
    sys.exit(wire_module.run_tests(__doc__, set_up))
