"""Runs of 200 steps of the optimizers through a real server against torch.optim in float64.

Each run draws a kind, an algorithm with some of its fields, and how gradients come: ready ones over
ApplyGradients, or an input and its grad_output over Backward and StreamBackward with `apply`. On
the way some updates come twice and must not step twice, lr or the whole optimizer is changed
through UpdateState, and parameters are set. Every few steps weight and bias are compared.

With parameter_dtype FLOAT32 the parameters of torch.optim are rounded to float32 after every step,
as those of a float32 module are.
"""

import random
import sys

import numpy
import torch

import wire as wire_module
from reference import make_module
from tolerances import Mismatch

STEPS = 200
COMPARED_EVERY = 20
# The error of a parameter a against PyTorch's b is |a - b| / max(|b|, 1): 1 is what weights start
# from.
ERROR_MAX = {
    # Both round the same figure to 24 bits: one step (1.2e-7) where it lies between two, and what
    # 200 steps with weight decay make of that.
    "float32": 3e-7,
    # The order of operations is torch's; gradients that a server computes are float64 sums in
    # another order, and Adam divides by their root.
    "float64": 1e-11,
}
FIELDS_OF_ADAM = {"weight_decay": (0.01, 0.1), "beta1": (0.5, 0.95), "beta2": (0.9, 0.9999),
                  "eps": (1e-10, 1e-4), "amsgrad": None, "maximize": None}
FIELDS = {"SGD": {"momentum": (0.5, 0.95), "dampening": (0.0, 0.9), "nesterov": None,
                  "weight_decay": (0.0, 0.1), "maximize": None},
          "ADAM": FIELDS_OF_ADAM, "ADAMW": FIELDS_OF_ADAM}
OPTIMIZERS = {"SGD": torch.optim.SGD, "ADAM": torch.optim.Adam, "ADAMW": torch.optim.AdamW}


class OptimizerCase:
    """One run; the same for the same seed and number."""

    def __init__(self, seed, number):
        rng = random.Random(f"{seed}/{number}")
        self.rng = rng
        self.number = number
        self.generator = numpy.random.default_rng(rng.getrandbits(64))
        self.kind = rng.choice(["BATCH_NORM", "BATCH_NORM", "LAYER_NORM", "GROUP_NORM",
                                "INSTANCE_NORM", "RMS_NORM"])
        self.parameter_dtype = rng.choice(["float32", "float64"])
        self.method = rng.choice(["ApplyGradients", "Backward", "StreamBackward"])
        # A parameter without a gradient does not move, and its slots stand still.
        self.absent_gradients = self.method == "ApplyGradients" and rng.random() < 0.3
        self.channels = rng.choice([1, 2, 4, 5, 8, 17, 64])
        self.shape = [self.channels]
        if self.kind in ("LAYER_NORM", "RMS_NORM"):
            self.shape = rng.choice([[8], [3, 5], [2, 3, 4], [33]])
            self.channels = int(numpy.prod(self.shape))
        self.algorithm = rng.choice(["SGD", "SGD", "ADAM", "ADAMW"])
        self.fields = self._draw_fields()

    def _draw_fields(self):
        """Some of the algorithm's fields, so that the defaults of the others count too."""
        rng = self.rng
        fields = {name: rng.random() < 0.5 if span is None else rng.uniform(*span)
                  for name, span in FIELDS[self.algorithm].items() if rng.random() < 0.5}
        if fields.get("nesterov"):
            fields.setdefault("momentum", 0.9)
            fields.pop("dampening", None)
        if self.algorithm == "SGD" or rng.random() < 0.7:
            fields["lr"] = 10 ** rng.uniform(-4, -1)
        return fields

    def __str__(self):
        fields = ", ".join(f"{name} {value}" for name, value in sorted(self.fields.items()))
        return (f"{self.kind}, shape {self.shape}, parameters {self.parameter_dtype}, "
                f"{self.method}, {self.algorithm}: {fields}")

    def config(self, wire):
        fields = {}
        if self.kind in ("LAYER_NORM", "RMS_NORM"):
            fields["normalized_shape"] = self.shape
        if self.kind == "GROUP_NORM":
            fields["num_groups"] = 1
        return wire.config(
            self.channels, kind=self.kind, track_running_stats=self.kind == "BATCH_NORM",
            parameter_dtype=wire.tensors.DataType.Value(self.parameter_dtype.upper()),
            optimizer=self.optimizer(wire), **fields)

    def optimizer(self, wire):
        message = wire.state.Optimizer
        return message(algorithm=message.Algorithm.Value(self.algorithm), **self.fields)

    def module(self):
        return make_module(self.kind, 3, self.channels, 1e-5, normalized_shape=self.shape,
                           groups=1)

    def torch_optimizer(self, parameters):
        fields = dict(self.fields)
        if self.algorithm != "SGD":
            fields["betas"] = fields.pop("beta1", 0.9), fields.pop("beta2", 0.999)
        return OPTIMIZERS[self.algorithm](parameters, **fields)

    def input_shape(self):
        leading = [self.rng.choice([2, 3, 5])]
        return leading + (self.shape if self.kind in ("LAYER_NORM", "RMS_NORM")
                          else [self.channels, 7])


class Run:
    """One run against a server."""

    def __init__(self, case, wire):
        self.case, self.wire = case, wire
        self.name = f"optimizer/{case.number}"
        self.module = case.module()
        self.optimizer = case.torch_optimizer(self.module.parameters())
        self.sequence = 0
        self.steps = 0
        self.error = 0.0

    def run(self):
        self.wire.create(self.name, self.case.config(self.wire))
        self.set_parameters()
        for _ in range(STEPS // COMPARED_EVERY):
            self.step_some()
            self.compare()
            self.change_something()

    def set_parameters(self):
        dtype, generator = self.case.parameter_dtype, self.case.generator
        with torch.no_grad():
            for parameter in self.module.parameters():
                values = generator.normal(1, 1, tuple(parameter.shape)).astype(dtype)
                parameter.copy_(torch.from_numpy(values.astype("float64")))
        self.wire.states.SetParameters(self.wire.control.SetParametersRequest(
            name=self.name, parameters=self.wire.parameters(self.module, dtype)))

    def change_something(self):
        """lr alone, the whole optimizer, or the parameters; the optimizer's slots stay."""
        case, wire, rng = self.case, self.wire, self.case.rng
        change = rng.choice(["lr", "lr", "optimizer", "parameters", "nothing"])
        group = self.optimizer.param_groups[0]
        if change == "parameters":
            self.set_parameters()
        elif change == "lr":
            case.fields["lr"] = group["lr"] = group["lr"] * rng.choice([0.5, 0.9, 1.5])
            config = wire.state.NormConfig()
            config.optimizer.lr = group["lr"]
            wire.update(self.name, config, "config.optimizer.lr")
        elif change == "optimizer":
            case.fields["lr"] = group["lr"] = 10 ** rng.uniform(-4, -1)
            case.fields["weight_decay"] = group["weight_decay"] = rng.uniform(0, 0.1)
            wire.update(self.name, wire.state.NormConfig(optimizer=case.optimizer(wire)),
                        "config.optimizer")

    def step_some(self):
        requests, fresh = [], []
        for _ in range(COMPARED_EVERY):
            self.sequence += self.case.rng.choice([1, 1, 1, 5])
            requests.append(self.apply_gradients() if self.case.method == "ApplyGradients"
                            else self.backward())
            fresh.append(True)
            if self.case.rng.random() < 0.15:
                requests.append(self.case.rng.choice(requests))
                fresh.append(False)
        # GetState reads what is on disk: the last step waits for it.
        max(requests, key=lambda request: request.sequence).durability = self.wire.data.DURABLE
        for response, is_fresh in zip(self.call(requests), fresh):
            self.steps += is_fresh
            expected = self.wire.data.APPLIED if is_fresh else self.wire.data.DUPLICATE
            if (response.disposition, response.optimizer_step) != (expected, self.steps):
                raise Mismatch(f"expected disposition {expected} and step {self.steps}, got "
                               f"{response.disposition} and {response.optimizer_step}")

    def call(self, requests):
        if self.case.method != "StreamBackward":
            return [getattr(self.wire.norms, self.case.method)(request) for request in requests]
        responses = list(self.wire.norms.StreamBackward(iter(requests)))
        refused = [response.error.message for response in responses if response.HasField("error")]
        if refused or len(responses) != len(requests):
            raise Mismatch(f"{len(responses)} responses to {len(requests)} requests, "
                           f"refused: {refused[:1]}")
        return responses

    def apply_gradients(self):
        """The request, and the same step of torch's optimizer."""
        case, wire = self.case, self.wire
        parameters = dict(self.module.named_parameters())
        absent = (case.rng.choice(sorted(parameters))
                  if case.absent_gradients and len(parameters) > 1 else None)
        request = wire.data.ApplyGradientsRequest(
            state=self.name, producer_id="conformance", sequence=self.sequence,
            durability=wire.data.RELAXED)
        dtype = case.rng.choice(["float32", "float64"])
        for name, parameter in parameters.items():
            parameter.grad = None
            if name == absent:
                continue
            values = wire_module.held(
                case.generator.normal(0.1, 1, tuple(parameter.shape)), dtype)
            parameter.grad = torch.from_numpy(values)
            if case.rng.random() < 0.5:
                values = values.reshape(-1)
            getattr(request, f"grad_{name}").CopyFrom(wire.tensor(values, dtype=dtype))
        self.step()
        return request

    def backward(self):
        case, wire = self.case, self.wire
        shape = case.input_shape()
        dtype = case.rng.choice(["float32", "float64", "bfloat16"])
        batch, grad_output = (wire_module.held(case.generator.normal(mean, 1, shape), dtype)
                              for mean in (2, 0.1))
        self.optimizer.zero_grad()
        self.module(torch.from_numpy(batch)).backward(torch.from_numpy(grad_output))
        self.step()
        return wire.data.BackwardRequest(
            state=self.name, producer_id="conformance", sequence=self.sequence, apply=True,
            input=wire.tensor(batch, dtype=dtype),
            grad_output=wire.tensor(grad_output, dtype=dtype),
            omit_grad_input=case.rng.random() < 0.5, durability=wire.data.RELAXED)

    def step(self):
        self.optimizer.step()
        with torch.no_grad():
            for parameter in self.module.parameters():
                values = parameter.numpy().astype(self.case.parameter_dtype)
                parameter.copy_(torch.from_numpy(values.astype("float64")))

    def compare(self):
        state = self.wire.get(self.name)
        if state.optimizer_step != self.steps:
            raise Mismatch(f"optimizer_step: expected {self.steps}, got {state.optimizer_step}")
        for name, parameter in self.module.named_parameters():
            expected = parameter.detach().numpy()
            actual = self.wire.array(getattr(state.parameters, name))
            if actual.shape != expected.shape:
                raise Mismatch(f"{name}: expected shape {expected.shape}, got {actual.shape}")
            error = numpy.abs(actual - expected) / numpy.maximum(numpy.abs(expected), 1)
            place = numpy.unravel_index(numpy.argmax(error), error.shape)
            self.error = max(self.error, float(error[place]))
            allowed = ERROR_MAX[self.case.parameter_dtype]
            if not error[place] <= allowed:
                raise Mismatch(f"{name} at {[int(i) for i in place]} after step {self.steps}: "
                               f"expected {expected[place]!r}, got {actual[place]!r}, error "
                               f"{error[place]:.3g}, allowed {allowed:.0e}")


def main():
    def add_more(parser):
        parser.add_argument("--cases", type=int, default=80)
        parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
        parser.add_argument("--case", type=int, help="run this case alone")

    arguments = wire_module.parse_arguments(__doc__.split("\n", 1)[0], add_more)
    from normd_server import NormdServer

    numbers = range(arguments.cases) if arguments.case is None else [arguments.case]
    print(f"seed {arguments.seed}, {len(numbers)} runs of {STEPS} steps, "
          f"torch {torch.__version__}", flush=True)
    torch.set_num_threads(1)
    worst = dict.fromkeys(ERROR_MAX, (-1.0, -1))
    failed = 0
    with NormdServer(arguments.server) as server:
        wire = wire_module.Wire(server.address)
        for number in numbers:
            case = OptimizerCase(arguments.seed, number)
            drawn = str(case)
            try:
                run = Run(case, wire)
                run.run()
                worst[case.parameter_dtype] = max(worst[case.parameter_dtype],
                                                  (run.error, number))
            except (Mismatch, wire.RpcError) as error:
                failed += 1
                again = wire_module.reproduction(arguments, "--seed", arguments.seed,
                                                 "--case", number)
                print(f"case {number} ({drawn}):\n  {error}\n  again: {again}", flush=True)
    for dtype, (error, number) in worst.items():
        print(f"largest error with {dtype} parameters: {error:.2e} (allowed "
              f"{ERROR_MAX[dtype]:.0e}, case {number})")
    print(f"{len(numbers) - failed} runs agree, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
