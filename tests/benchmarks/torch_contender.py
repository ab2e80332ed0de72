"""PyTorch's side of kernels_bench: a process that reads commands and answers each with a line.

  prepare KIND DIRECTION SHAPE first|last GROUPS   sets the operation up; answers its checksum
  run TIMES                                        answers the seconds of CPU that one took

SHAPE is as the values lie in memory: 32,56,56,64. The values are those of bench_case.cc.
"""

import sys
import time

import numpy
import torch

EPS = 1e-5


def values(salt, count):
    mixed = (numpy.arange(count, dtype="uint32") + numpy.uint32(salt)) * numpy.uint32(2654435761)
    return torch.from_numpy((mixed >> 8).astype("float32") * numpy.float32(2 ** -23) - 1)


def prepare(kind, direction, shape, layout, groups):
    """A function that does the operation and returns its result."""
    shape = [int(axis) for axis in shape.split(",")]
    count = int(numpy.prod(shape))
    x, grad_output = (values(salt, count).reshape(shape) for salt in (1, 2))
    if layout == "last":
        # Still channels last in memory.
        x, grad_output = x.permute(0, 3, 1, 2), grad_output.permute(0, 3, 1, 2)
    features = shape[-1] if kind == "LAYER_NORM" else x.shape[1]
    weight, bias = values(4, features) + 1, values(5, features)
    make = {"BATCH_NORM": batch_norm, "LAYER_NORM": layer_norm, "INSTANCE_NORM": instance_norm,
            "GROUP_NORM": group_norm}[kind]
    return make(direction, x, grad_output, weight, bias, int(groups))


def batch_norm(direction, x, grad_output, weight, bias, _):
    mean, var = (torch.full([x.shape[1]], value) for value in (0.125, 0.75))
    if direction != "backward":
        training = direction == "train"
        return lambda: torch.native_batch_norm(x, weight, bias, mean, var, training, 0.1, EPS)[0]
    _, saved_mean, saved_invstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1,
                                                          EPS)
    return lambda: torch.ops.aten.native_batch_norm_backward(
        grad_output, x, weight, None, None, saved_mean, saved_invstd, True, EPS, [True] * 3)[0]


def layer_norm(direction, x, grad_output, weight, bias, _):
    shape = [x.shape[-1]]
    if direction == "train":
        return lambda: torch.native_layer_norm(x, shape, weight, bias, EPS)[0]
    _, mean, invstd = torch.native_layer_norm(x, shape, weight, bias, EPS)
    return lambda: torch.ops.aten.native_layer_norm_backward(
        grad_output, x, shape, mean, invstd, weight, bias, [True] * 3)[0]


def instance_norm(direction, x, grad_output, weight, bias, _):
    if direction == "train":
        return lambda: torch.nn.functional.instance_norm(x, None, None, weight, bias, True, 0.1,
                                                         EPS)
    # It has no backward function of its own.
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    with torch.enable_grad():
        output = torch.nn.functional.instance_norm(x, None, None, weight, bias, True, 0.1, EPS)
    return lambda: torch.autograd.grad(output, inputs, grad_output, retain_graph=True)[0]


def group_norm(direction, x, grad_output, weight, bias, groups):
    samples, channels, *spatial = x.shape
    sizes = samples, channels, int(numpy.prod(spatial)), groups
    if direction == "train":
        return lambda: torch.native_group_norm(x, weight, bias, *sizes, EPS)[0]
    _, mean, invstd = torch.native_group_norm(x, weight, bias, *sizes, EPS)
    return lambda: torch.ops.aten.native_group_norm_backward(
        grad_output, x, mean, invstd, weight, *sizes, [True] * 3)[0]


def measure(operation, times):
    start = time.process_time_ns()
    for _ in range(times):
        operation()
    return (time.process_time_ns() - start) * 1e-9 / times


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    operation = None
    for line in sys.stdin:
        command, *words = line.split()
        if command == "prepare":
            operation = prepare(*words)
            answer = operation().double().abs().sum().item()
        else:
            answer = measure(operation, int(words[0]))
        print(repr(answer), flush=True)


if __name__ == "__main__":
    main()
