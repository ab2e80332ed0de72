"""What PyTorch makes of a case, in float64: the modules themselves, and autograd."""

import copy

import numpy
import torch

BATCH_NORMS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d,
               5: torch.nn.BatchNorm3d}
INSTANCE_NORMS = {3: torch.nn.InstanceNorm1d, 4: torch.nn.InstanceNorm2d,
                  5: torch.nn.InstanceNorm3d}


class RmsNorm(torch.nn.Module):
    """torch.nn.RMSNorm, which came with PyTorch 2.4, by its formula."""

    def __init__(self, normalized_shape, eps, elementwise_affine):
        super().__init__()
        self.axes = tuple(range(-len(normalized_shape), 0))
        self.eps = eps
        weight = torch.nn.Parameter(torch.ones(normalized_shape)) if elementwise_affine else None
        self.register_parameter("weight", weight)

    def forward(self, x):
        y = x / torch.sqrt(x.square().mean(self.axes, keepdim=True) + self.eps)
        return y if self.weight is None else y * self.weight


def make_module(kind, rank, channels, eps, affine=True, tracked=False, momentum=0.1,
                normalized_shape=(), groups=0):
    """A fresh module in float64."""
    if kind == "BATCH_NORM":
        module = BATCH_NORMS[rank](channels, eps, momentum, affine, tracked)
    elif kind == "INSTANCE_NORM":
        module = INSTANCE_NORMS[rank](channels, eps, momentum, affine, tracked)
    elif kind == "GROUP_NORM":
        module = torch.nn.GroupNorm(groups, channels, eps, affine)
    elif kind == "LAYER_NORM":
        module = torch.nn.LayerNorm(normalized_shape, eps, affine)
    else:
        module = RmsNorm(normalized_shape, eps, affine)
    return module.double()


def sets_of(kind, array, channels, groups=0):
    """The values of each set that is normalized together, [sets, count], in the wire's order."""
    if kind == "BATCH_NORM":
        return array.swapaxes(0, 1).reshape(channels, -1)
    if kind in ("LAYER_NORM", "RMS_NORM"):
        return array.reshape(-1, channels)
    return array.reshape(array.shape[0] * (groups or channels), -1)


class Reference:
    """The module of a case."""

    def __init__(self, case):
        self.case = case
        self.eps = case.eps_used()
        self.module = make_module(case.kind, case.rank, case.channels, self.eps, case.affine,
                                  case.tracked, case.momentum, case.normalized_shape, case.groups)
        if case.affine:
            self._randomize_parameters()
        if case.resumed and case.tracked:
            for _ in range(3):
                self.train(case.batch())

    def _randomize_parameters(self):
        """As parameter_dtype holds them."""
        generator, dtype = self.case.generator, self.case.parameter_dtype
        with torch.no_grad():
            for parameter, mean, std in zip(self.module.parameters(), (1, 0), (1, 2)):
                values = generator.normal(mean, std, tuple(parameter.shape)).astype(dtype)
                parameter.copy_(torch.from_numpy(values.astype("float64")))

    def train(self, batch):
        """The output; running statistics follow, by the case's correction."""
        module, case = self.module, self.case
        before = module.running_var.clone() if case.tracked else None
        output = module.train()(torch.from_numpy(batch)).detach().numpy()
        if case.tracked and case.correction == 0:
            # PyTorch knows only correction 1: the same fold, of the biased variance.
            factor = case.momentum
            if factor is None:
                factor = 1 / module.num_batches_tracked.item()
            biased = self.sets(batch).var(axis=1).reshape(-1, case.channels).mean(axis=0)
            module.running_var.copy_((1 - factor) * before + factor * torch.from_numpy(biased))
        return output

    def normalize(self, batch):
        return self.module.eval()(torch.from_numpy(batch)).detach().numpy()

    def sets(self, array):
        return sets_of(self.case.kind, array, self.case.channels, self.case.groups)

    def output_scale(self):
        """|weight| + |bias|, in a shape that broadcasts against a batch."""
        if not self.case.affine:
            return 1.0
        return self._spread(sum(p.detach().abs() for p in self.module.parameters()).numpy())

    def backward(self, batch, grad_output, training):
        """(grad_input, grad_weight, grad_bias); None for a parameter that there is not."""
        module = copy.deepcopy(self.module).train(training)
        x = torch.from_numpy(batch).requires_grad_()
        module(x).backward(torch.from_numpy(grad_output))
        grads = [p.grad.numpy() for p in module.parameters()]
        return (x.grad.numpy(), *(grads + [None, None])[:2])

    def backward_scales(self, batch, grad_output, training):
        """The scales of what backward() gives; see tolerances.py."""
        weighted = numpy.abs(grad_output)
        if self.case.affine:
            weighted = weighted * self._spread(self.module.weight.detach().abs().numpy())
        if training or not self.case.tracked:
            normalized, grad_input = self._scales_by_itself(batch, weighted)
        else:
            mean, var = (self._spread(buffer.numpy())
                         for buffer in (self.module.running_mean, self.module.running_var))
            invstd = 1 / numpy.sqrt(var + self.eps)
            normalized, grad_input = numpy.abs(batch - mean) * invstd, weighted * invstd
        terms = numpy.abs(grad_output) * numpy.maximum(normalized, 1)
        return (grad_input, self._sum_to_parameter(terms),
                self._sum_to_parameter(numpy.abs(grad_output)))

    def _scales_by_itself(self, batch, weighted):
        sets, terms = self.sets(batch), self.sets(weighted)
        # RMS norm subtracts no mean, so that two terms are left.
        centered = self.case.kind != "RMS_NORM"
        if centered:
            sets = sets - sets.mean(axis=1, keepdims=True)
        invstd = 1 / numpy.sqrt((sets ** 2).mean(axis=1, keepdims=True) + self.eps)
        normalized = numpy.abs(sets) * invstd
        grad_input = invstd * (terms + centered * terms.mean(axis=1, keepdims=True) +
                               normalized * (terms * normalized).mean(axis=1, keepdims=True))
        return self._unset(normalized, batch.shape), self._unset(grad_input, batch.shape)

    def _unset(self, sets, shape):
        """The inverse of sets()."""
        if self.case.kind != "BATCH_NORM":
            return sets.reshape(shape)
        return sets.reshape([shape[1], shape[0], *shape[2:]]).swapaxes(0, 1)

    def _spread(self, parameter):
        """A parameter's values in a shape that broadcasts against a batch."""
        if self.case.rows:
            return parameter
        return parameter.reshape([1, -1] + [1] * (self.case.rank - 2))

    def _sum_to_parameter(self, array):
        if self.case.rows:
            shape = [-1, *self.case.normalized_shape]
            return array.reshape(shape).sum(axis=0)
        return array.swapaxes(0, 1).reshape(self.case.channels, -1).sum(axis=1)
