"""Random cases of the norm family through a real server against PyTorch in float64.

Each case takes its turn of the combinations of kind, dtype, layout, affine and tracking, draws a
shape, config and data (cases.py), trains a few steps over the unary method or a stream, as values
or as moments, durable or relaxed, normalizes in eval mode, and runs backward in both modes, with
the moments of the forward call or without. It compares every output, moment, running statistic and
gradient with the modules of PyTorch (reference.py) within the tolerances of tolerances.py. At the
end each figure of each combination must have agreed in so many cases at least.
"""

import collections
import random
import sys

import numpy
import torch

import cases
import tolerances
import wire as wire_module
from reference import Reference
from tolerances import Mismatch


CASES = 15 * len(cases.COMBINATIONS)
# Of the CASES, those of a combination in which a figure has agreed. Gradients by the moments of the
# forward call and by those computed anew are two figures, with 7 and 8 turns each; in 2 of the 15
# grad_input is left out.
CASES_OF_FIGURE_MIN = 5


class Run:
    """One case against a server."""

    def __init__(self, case, wire, worst):
        self.case, self.wire, self.worst = case, wire, worst
        self.name = f"conformance/{case.number}"
        self.reference = Reference(case)
        # The last batch that was trained with, and its moments as the server returned them.
        self.trained = None
        self.figures = set()  # that have agreed

    def run(self):
        self.create()
        self.train()
        self.check_state()
        self.normalize()
        self.backward()

    def compare_values(self, figure, actual, expected, scale):
        self.worst.compare_values(figure, self.case.dtype, self.case.number, actual, expected,
                                  scale)
        self.figures.add(figure)

    def compare_stats(self, figure, actual, expected, scale):
        self.worst.compare_stats(figure, self.case.dtype, self.case.number, actual, expected,
                                 scale)
        self.figures.add(figure)

    def create(self):
        case, wire = self.case, self.wire
        module = self.reference.module
        wire.create(self.name, case.config(wire), module if case.resumed else None)
        if case.affine and not case.resumed:
            wire.states.SetParameters(wire.control.SetParametersRequest(
                name=self.name, parameters=wire.parameters(module, case.parameter_dtype)))

    def train(self):
        batches = [self.case.batch() for _ in range(self.case.steps)]
        requests = self.train_requests(batches)
        decided = 0
        for request, response in zip(requests, self.call("Train", requests)):
            fresh = request.sequence > decided
            decided = request.sequence
            expected = self.wire.data.APPLIED if fresh else self.wire.data.DUPLICATE
            if response.disposition != expected:
                raise Mismatch(f"sequence {request.sequence}: expected disposition {expected}, "
                               f"got {response.disposition}")
            if fresh:
                self.check_trained(request, response, batches[request.sequence - 1])

    def train_requests(self, batches):
        """One request a batch; some come twice, as after a lost connection."""
        case, wire = self.case, self.wire
        requests = []
        for step, batch in enumerate(batches, start=1):
            request = wire.data.TrainRequest(state=self.name, producer_id="conformance",
                                             sequence=step)
            # The last one is values: its moments go back with the gradients.
            if case.tracked and step < len(batches) and case.rng.random() < 0.3:
                request.moments.CopyFrom(wire.moments_of_sets(self.reference.sets(batch)))
            else:
                request.input.CopyFrom(case.tensor(wire, batch))
                request.return_output = True
            request.return_moments = True
            # Readers see what is on disk: the last one waits for it.
            request.durability = (wire.data.RELAXED if case.relaxed and step < len(batches)
                                  else wire.data.DURABLE)
            requests += [request] * (2 if case.repeats else 1)
        return requests

    def check_trained(self, request, response, batch):
        output = self.reference.train(batch)
        if request.return_output:
            self.compare_values("train output",
                                self.case.array(self.wire, response.output, request.input),
                                output, self.reference.output_scale())
            self.check_moments(response.moments, batch)
            self.trained = batch, response.moments
        counted = self.case.tracked and self.case.kind == "BATCH_NORM"
        expected = self.reference.module.num_batches_tracked.item() if counted else 0
        if response.num_batches_tracked != expected:
            raise Mismatch(f"num_batches_tracked of sequence {request.sequence}: "
                           f"expected {expected}, got {response.num_batches_tracked}")

    def check_moments(self, moments, batch):
        sets = self.reference.sets(batch)
        if moments.count != sets.shape[1]:
            raise Mismatch(f"moments.count: expected {sets.shape[1]}, got {moments.count}")
        var = sets.var(axis=1)
        self.compare_stats("moments mean", numpy.array(moments.mean), sets.mean(axis=1),
                           numpy.sqrt(var + self.reference.eps))
        self.compare_stats("moments var", numpy.array(moments.m2) / moments.count, var,
                           self.reference.eps)

    def check_state(self):
        state = self.wire.get(self.name)
        if not self.case.tracked:
            if state.HasField("running_stats"):
                raise Mismatch("a state that does not track has running_stats")
            return
        stats, module = state.running_stats, self.reference.module
        var = module.running_var.numpy()
        self.compare_stats("running_mean", self.wire.array(stats.running_mean),
                           module.running_mean.numpy(), numpy.sqrt(var + self.reference.eps))
        self.compare_stats("running_var", self.wire.array(stats.running_var), var,
                           self.reference.eps)
        if stats.num_batches_tracked != module.num_batches_tracked.item():
            raise Mismatch(f"num_batches_tracked: expected {module.num_batches_tracked.item()}, "
                           f"got {stats.num_batches_tracked}")

    def normalize(self):
        batches = [self.case.batch() for _ in range(self.case.rng.randint(1, 2))]
        requests = [self.wire.data.NormalizeRequest(
            state=self.name, input=self.case.tensor(self.wire, batch), sequence=number)
            for number, batch in enumerate(batches)]
        for request, response, batch in zip(requests, self.call("Normalize", requests), batches):
            self.compare_values("eval output",
                                self.case.array(self.wire, response.output, request.input),
                                self.reference.normalize(batch), self.reference.output_scale())

    def backward(self):
        case, wire = self.case, self.wire
        batch, moments = self.trained
        asked = [("train", batch), ("eval", case.batch())]
        requests, gradients = [], []
        for number, (mode, batch) in enumerate(asked):
            gradients.append(case.grad_output(batch.shape))
            request = wire.data.BackwardRequest(
                state=self.name, sequence=number, input=case.tensor(wire, batch),
                mode=wire.data.BackwardRequest.Mode.Value(mode.upper()),
                grad_output=case.tensor(wire, gradients[-1]),
                omit_grad_input=case.omits_grad_input[mode])
            if mode == "train" and case.saves_moments:
                request.moments.CopyFrom(moments)
            requests.append(request)
        for request, response, grad_output, (mode, batch) in zip(
                requests, self.call("Backward", requests), gradients, asked):
            self.check_gradients(request, response, batch, grad_output, mode)

    def check_gradients(self, request, response, batch, grad_output, mode):
        case = self.case
        training = mode == "train"
        expected = self.reference.backward(batch, grad_output, training)
        scales = self.reference.backward_scales(batch, grad_output, training)
        figure = mode + (" by saved moments" if request.HasField("moments") else "")
        if response.HasField("grad_input") == request.omit_grad_input:
            raise Mismatch(f"omit_grad_input {request.omit_grad_input} and "
                           f"grad_input {response.HasField('grad_input')}")
        if not request.omit_grad_input:
            self.compare_values(f"{figure} grad_input",
                                case.array(self.wire, response.grad_input, request.input),
                                expected[0], scales[0])
        for place, field in enumerate(("grad_weight", "grad_bias"), start=1):
            if response.HasField(field) != (expected[place] is not None):
                raise Mismatch(f"{mode} {field}: expected {expected[place] is not None}, "
                               f"got {response.HasField(field)}")
            if expected[place] is not None:
                self.worst.compare_parameter_gradients(
                    f"{figure} {field}", case.parameter_dtype, case.number,
                    self.wire.array(getattr(response, field)), expected[place], scales[place])
                self.figures.add(f"{figure} {field}")

    def call(self, method, requests):
        """The responses to all requests, by the unary method or its stream."""
        if not self.case.streamed:
            return [getattr(self.wire.norms, method)(request) for request in requests]
        responses = list(getattr(self.wire.norms, f"Stream{method}")(iter(requests)))
        if len(responses) != len(requests):
            raise Mismatch(f"{method}: expected {len(requests)} responses, got {len(responses)}")
        for request, response in zip(requests, responses):
            if response.sequence != request.sequence:
                raise Mismatch(f"{method}: expected sequence {request.sequence}, "
                               f"got {response.sequence}")
            if response.HasField("error"):
                raise Mismatch(f"{method} {request.sequence} refused: {response.error.message}")
        return responses


def main():
    def add_more(parser):
        parser.add_argument("--cases", type=int, default=CASES)
        parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
        parser.add_argument("--case", type=int, help="run this case alone")

    arguments = wire_module.parse_arguments(__doc__.split("\n", 1)[0], add_more)
    from normd_server import NormdServer

    numbers = range(arguments.cases) if arguments.case is None else [arguments.case]
    print(f"seed {arguments.seed}, {len(numbers)} cases, torch {torch.__version__}", flush=True)
    torch.set_num_threads(1)
    worst = tolerances.Worst()
    failed = 0
    # Cases that agreed, by combination and figure.
    covered = collections.Counter()
    with NormdServer(arguments.server) as server:
        wire = wire_module.Wire(server.address)
        for number in numbers:
            case = cases.Case(arguments.seed, number)
            try:
                with numpy.errstate(divide="ignore", invalid="ignore"):
                    run = Run(case, wire, worst)
                    run.run()
                covered.update((case.combination, figure) for figure in run.figures)
            except (Mismatch, wire.RpcError) as error:
                failed += 1
                again = wire_module.reproduction(arguments, "--seed", arguments.seed,
                                                 "--case", number)
                print(f"case {number} ({case}):\n  {error}\n  again: {again}", flush=True)
    print("largest errors:")
    worst.print()
    print(f"{len(numbers) - failed} cases agree, {failed} differ")
    gaps = check_coverage(covered) if len(numbers) >= CASES else []
    for line in gaps:
        print(line)
    return 1 if failed or gaps else 0


def figures_of(combination):
    """What is compared in the cases of a combination."""
    kind, tracked, _, _, affine = combination
    figures = ["train output", "eval output", "moments mean", "moments var"]
    if tracked:
        figures += ["running_mean", "running_var"]
    gradients = ["grad_input"]
    if affine:
        gradients += ["grad_weight"] + ["grad_bias"] * (kind != "RMS_NORM")
    return figures + [f"{mode} {gradient}" for gradient in gradients
                      for mode in ("train", "train by saved moments", "eval")]


def check_coverage(covered):
    """Prints a summary; returns a line for each figure of a combination with too few cases."""
    expected = [(combination, figure) for combination in dict.fromkeys(cases.COMBINATIONS)
                for figure in figures_of(combination)]
    fewest = min(expected, key=lambda place: covered[place])
    print(f"{len(expected)} figures of combinations; the fewest cases, {covered[fewest]}, have "
          f"{fewest[1]} of {cases.describe(fewest[0])}")
    return [f"{cases.describe(combination)}: expected {figure} to agree in at least "
            f"{CASES_OF_FIGURE_MIN} cases, got {covered[combination, figure]}"
            for combination, figure in expected
            if covered[combination, figure] < CASES_OF_FIGURE_MIN]


if __name__ == "__main__":
    sys.exit(main())
