"""Random cases through a real server against torch.nn.BatchNorm1d, 2d and 3d in float64.

Each case draws a shape, layout, config and data, trains a few steps over the unary method or a
stream, as values or as moments, durable or relaxed, then normalizes in eval mode, and compares
every output, running_mean, running_var and num_batches_tracked.

The error of a figure a against PyTorch's b is |a - b| / max(|b|, scale):
- output: scale = |weight| + |bias| of the channel, the size of what is added up for a value one
  standard deviation off the mean. Where the two cancel, no float32 arithmetic keeps more digits.
- running_mean: scale = sqrt(running_var + eps). A mean is used as x - mean over that unit, so an
  error is as large as what it does to an output.
- running_var: scale = eps. It is only ever used as running_var + eps.
"""

import random
import sys

import numpy
import torch

import wire as wire_module

OUTPUT_ERROR_MAX = 2e-6
STATS_ERROR_MAX = 1e-6

# name: (values of one channel given a generator and a count, whether the variance may be 0)
DATA = {
    "standard normal": (lambda g, n: g.normal(0, 1, n), False),
    "mean 1e3, std 1": (lambda g, n: g.normal(1e3, 1, n), False),
    "mean -1e4, std 1": (lambda g, n: g.normal(-1e4, 1, n), False),
    "mean 30, std 1e-2": (lambda g, n: g.normal(30, 1e-2, n), False),
    "std 1e-4": (lambda g, n: g.normal(0, 1e-4, n), False),
    "std 1e6": (lambda g, n: g.normal(0, 1e6, n), False),
    "uniform": (lambda g, n: g.uniform(-3, 5, n), False),
    "one outlier": (lambda g, n: numpy.where(numpy.arange(n) == n // 2, 1e4, g.normal(0, 1, n)),
                    False),
    "steps of 1e3": (lambda g, n: 1e3 * (numpy.arange(n) % 3) + g.normal(0, 1, n), False),
    "constant": (lambda g, n: numpy.full(n, g.normal(0, 10)), True),
}
MODULES = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d,
           5: torch.nn.BatchNorm3d}


class Mismatch(Exception):
    """A figure that is off."""


class Case:
    """What one case draws; the same for the same seed and number."""

    def __init__(self, seed, number):
        rng = random.Random(f"{seed}/{number}")
        self.rng = rng
        self.generator = numpy.random.default_rng(rng.getrandbits(64))
        self.rank = rng.choice([2, 3, 4, 5])
        self.channels = rng.choice([1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 129])
        self.channels_last = rng.random() < 0.4
        self.eps = rng.choice([1e-5, 1e-5, 1e-3, 1e-8, 0.0, 0.5])
        self.momentum = rng.choice([0.1, 0.1, None, None, 0.0, 1.0, rng.random()])
        self.affine = rng.random() < 0.7
        self.tracked = rng.random() < 0.85
        self.steps = rng.randint(1, 6)
        self.streamed = rng.random() < 0.5
        self.relaxed = rng.random() < 0.3
        self.resumed = self.affine and self.tracked and rng.random() < 0.3
        # A state that does not track has nothing that a second time could change.
        self.repeats = self.tracked and rng.random() < 0.3
        kinds = [kind for kind, (_, flat) in DATA.items() if self.eps > 0 or not flat]
        self.kinds = [rng.choice(kinds) for _ in range(self.channels)]

    def __str__(self):
        words = [f"rank {self.rank}", f"C {self.channels}",
                 "channels last" if self.channels_last else "channels first",
                 f"eps {self.eps}", f"momentum {self.momentum}", f"{self.steps} steps"]
        for word in ("affine", "tracked", "streamed", "relaxed", "resumed", "repeats"):
            words.append(word if getattr(self, word) else f"not {word}")
        return ", ".join(words)

    def shape(self):
        while True:
            spatial = [self.rng.choice([1, 2, 3, 4, 7, 9]) for _ in range(self.rank - 2)]
            shape = [self.rng.choice([1, 2, 3, 4, 8, 17, 32]), self.channels, *spatial]
            # Two values a channel can be so close that float64 itself has few digits left.
            if 4 <= numpy.prod(shape) // self.channels <= 4096:
                return shape

    def batch(self):
        shape = self.shape()
        rows = [shape[0], *shape[2:]]
        columns = [DATA[kind][0](self.generator, numpy.prod(rows)).reshape(rows)
                   for kind in self.kinds]
        return numpy.stack(columns, axis=1).astype("float32")

    def module(self):
        """A fresh torch module in float64, with random parameters (as float32 holds them)."""
        module = MODULES[self.rank](self.channels, eps=self.eps, momentum=self.momentum,
                                    affine=self.affine, track_running_stats=self.tracked)
        if self.affine:
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(
                    self.generator.normal(1, 1, self.channels).astype("float32")))
                module.bias.copy_(torch.from_numpy(
                    self.generator.normal(0, 2, self.channels).astype("float32")))
        module = module.double()
        if self.resumed:
            for _ in range(3):
                module(torch.from_numpy(self.batch().astype("float64")))
        return module


class Worst:
    """The largest error of each figure so far, and where it was."""

    LIMITS = {"train output": OUTPUT_ERROR_MAX, "eval output": OUTPUT_ERROR_MAX,
              "running_mean": STATS_ERROR_MAX, "running_var": STATS_ERROR_MAX}

    def __init__(self):
        self.errors = {figure: (0.0, None) for figure in self.LIMITS}

    def compare(self, figure, number, actual, expected, scale):
        if actual.shape != expected.shape:
            raise Mismatch(f"{figure}: expected shape {expected.shape}, got {actual.shape}")
        error = numpy.abs(actual - expected) / numpy.maximum(numpy.abs(expected), scale)
        # 0 / 0 is a figure that agrees where there is no unit.
        error = numpy.where(actual == expected, 0.0, error)
        place = numpy.unravel_index(numpy.argmax(error), error.shape)
        if not error[place] <= self.LIMITS[figure]:
            raise Mismatch(f"{figure} at {[int(i) for i in place]}: expected {expected[place]!r}, "
                           f"got {actual[place]!r}, error {error[place]:.3g}, "
                           f"allowed {self.LIMITS[figure]:.0e}")
        if error[place] > self.errors[figure][0]:
            self.errors[figure] = (float(error[place]), number)

    def print(self):
        for figure, (error, number) in self.errors.items():
            print(f"  {figure:13} {error:.2e}  (allowed {self.LIMITS[figure]:.0e}, case {number})")


def output_scale(module, rank):
    """|weight| + |bias| per channel, in the shape that broadcasts against a batch."""
    if module.weight is None:
        return 1.0
    scale = (module.weight.abs() + module.bias.abs()).detach().numpy()
    return scale.reshape([1, -1] + [1] * (rank - 2))


def train_requests(case, wire, name, batches):
    """One request a batch; some come twice, as after a lost connection."""
    requests = []
    for step, batch in enumerate(batches, start=1):
        request = wire.data.TrainRequest(state=name, producer_id="conformance", sequence=step)
        if case.rng.random() < 0.3:
            request.moments.CopyFrom(wire.moments(batch))
        else:
            request.input.CopyFrom(wire.tensor(batch, case.channels_last))
            request.return_output = True
        # Readers see what is on disk: the last one waits for it.
        request.durability = (wire.data.RELAXED if case.relaxed and step < len(batches)
                              else wire.data.DURABLE)
        requests += [request] * (2 if case.repeats else 1)
    return requests


def run_case(case, number, wire, worst):
    name = f"conformance/{number}"
    module = case.module()
    config = wire.config(case.channels, case.eps, case.momentum, case.affine, case.tracked)
    wire.create(name, config, module if case.resumed else None)
    if case.affine and not case.resumed:
        wire.states.SetParameters(
            wire.control.SetParametersRequest(name=name, parameters=wire.parameters(module)))
    scale = output_scale(module, case.rank)

    batches = [case.batch() for _ in range(case.steps)]
    requests = train_requests(case, wire, name, batches)
    if case.streamed:
        responses = list(wire.norms.StreamTrain(iter(requests)))
    else:
        responses = [wire.norms.Train(request) for request in requests]
    if len(responses) != len(requests):
        raise Mismatch(f"expected {len(requests)} responses, got {len(responses)}")
    decided = 0
    for request, response in zip(requests, responses):
        if response.HasField("error"):
            raise Mismatch(f"sequence {request.sequence} refused: {response.error.message}")
        fresh = request.sequence > decided
        decided = request.sequence
        expected = wire.data.APPLIED if fresh else wire.data.DUPLICATE
        if response.disposition != expected:
            raise Mismatch(f"sequence {request.sequence}: expected disposition {expected}, "
                           f"got {response.disposition}")
        if not fresh:
            continue
        reference = module(torch.from_numpy(batches[request.sequence - 1].astype("float64")))
        if request.return_output:
            worst.compare("train output", number, wire.array(response.output),
                          reference.detach().numpy(), scale)

    state = wire.get(name)
    if case.tracked:
        stats = state.running_stats
        variance = module.running_var.numpy()
        worst.compare("running_mean", number, wire.array(stats.running_mean),
                      module.running_mean.numpy(), numpy.sqrt(variance + case.eps))
        worst.compare("running_var", number, wire.array(stats.running_var), variance, case.eps)
        if stats.num_batches_tracked != module.num_batches_tracked.item():
            raise Mismatch(f"num_batches_tracked: expected {module.num_batches_tracked.item()}, "
                           f"got {stats.num_batches_tracked}")
    elif state.HasField("running_stats"):
        raise Mismatch("a state that does not track has running_stats")

    module.eval()
    batch = case.batch()
    worst.compare("eval output", number, wire.normalize(name, batch, case.channels_last),
                  module(torch.from_numpy(batch.astype("float64"))).detach().numpy(), scale)


def main():
    def add_more(parser):
        parser.add_argument("--cases", type=int, default=300)
        parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
        parser.add_argument("--case", type=int, help="run this case alone")

    arguments = wire_module.parse_arguments(__doc__.split("\n", 1)[0], add_more)
    from normd_server import NormdServer

    numbers = range(arguments.cases) if arguments.case is None else [arguments.case]
    print(f"seed {arguments.seed}, {len(numbers)} cases, torch {torch.__version__}", flush=True)
    torch.set_num_threads(1)
    worst = Worst()
    failed = 0
    with NormdServer(arguments.server) as server:
        wire = wire_module.Wire(server.address)
        for number in numbers:
            case = Case(arguments.seed, number)
            try:
                with numpy.errstate(divide="ignore", invalid="ignore"):
                    run_case(case, number, wire, worst)
            except (Mismatch, wire.RpcError) as error:
                failed += 1
                print(f"case {number} ({case}):\n  {error}\n  again: {sys.executable} "
                      f"{sys.argv[0]} --server {arguments.server} --stubs {arguments.stubs} "
                      f"--seed {arguments.seed} --case {number}")
    print("largest errors:")
    worst.print()
    print(f"{len(numbers) - failed} cases agree, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
