"""normd's wire in numpy's words: what the conformance tests share.

Import it after `add_stubs` has put the generated stubs on the path.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "testing"))


def parse_arguments(description, add_more=lambda parser: None):
    """The arguments every test takes; puts the stubs on the path."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", required=True, help="path of normd")
    parser.add_argument("--stubs", required=True, help="folder of the generated Python stubs")
    add_more(parser)
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.stubs)
    return arguments


class Wire:
    """A connection to a server, with tensors as numpy arrays."""

    def __init__(self, address):
        # Not before parse_arguments() has put the stubs on the path.
        import grpc
        from normd.v1 import normalization_service_pb2 as data_pb2
        from normd.v1 import normalization_service_pb2_grpc as data_grpc
        from normd.v1 import state_pb2, tensor_pb2
        from normd.v1 import state_service_pb2 as control_pb2
        from normd.v1 import state_service_pb2_grpc as control_grpc
        self.data, self.control, self.state, self.tensors = (
            data_pb2, control_pb2, state_pb2, tensor_pb2)
        self.RpcError = grpc.RpcError
        self.channel = grpc.insecure_channel(address)
        self.states = control_grpc.StateServiceStub(self.channel)
        self.norms = data_grpc.NormalizationServiceStub(self.channel)

    def tensor(self, array, channels_last=False):
        """A float32 or float64 array whose axis 1 is the channel."""
        if channels_last:
            array = array.transpose([0, *range(2, array.ndim), 1])
        wire = self.tensors
        return wire.Tensor(
            dtype=wire.FLOAT64 if array.dtype == "float64" else wire.FLOAT32,
            layout=wire.CHANNELS_LAST if channels_last else wire.CHANNELS_FIRST,
            shape=array.shape, data=array.astype(array.dtype.newbyteorder("<")).tobytes("C"))

    def array(self, tensor):
        """The float64 array of a tensor, with axis 1 as the channel."""
        import numpy
        wire = self.tensors
        dtype = {wire.FLOAT32: "<f4", wire.FLOAT64: "<f8"}[tensor.dtype]
        array = numpy.frombuffer(tensor.data, dtype).reshape(tuple(tensor.shape))
        if tensor.layout == wire.CHANNELS_LAST and array.ndim > 2:
            array = numpy.moveaxis(array, -1, 1)
        return array.astype("float64")

    def moments(self, array):
        """The moments of a batch whose axis 1 is the channel, by two passes in float64."""
        values = array.astype("float64").swapaxes(0, 1).reshape(array.shape[1], -1)
        mean = values.mean(axis=1)
        return self.tensors.Moments(count=values.shape[1], mean=mean,
                                    m2=((values - mean[:, None]) ** 2).sum(axis=1))

    def config(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True,
               propagate=False):
        """A NormConfig; momentum None is the cumulative average."""
        kind = self.state.NormConfig
        config = kind(kind=kind.BATCH_NORM, num_features=num_features, eps=eps, affine=affine,
                      track_running_stats=track_running_stats,
                      non_finite=kind.PROPAGATE if propagate else kind.REFUSE)
        if momentum is None:
            config.cumulative_average = True
        else:
            config.momentum = momentum
        return config

    def create(self, name, config, module=None):
        """Creates a state; with a torch module, from its parameters and buffers."""
        state = self.state.State(name=name, config=config)
        if module is not None:
            state.parameters.CopyFrom(self.parameters(module))
            stats = self.state.RunningStats(
                running_mean=self.tensor(module.running_mean.numpy().astype("float64")),
                running_var=self.tensor(module.running_var.numpy().astype("float64")),
                num_batches_tracked=module.num_batches_tracked.item())
            state.running_stats.CopyFrom(stats)
        return self.states.CreateState(self.control.CreateStateRequest(state=state))

    def parameters(self, module):
        """weight and bias of a torch module, as float32."""
        return self.state.Parameters(
            weight=self.tensor(module.weight.detach().numpy().astype("float32")),
            bias=self.tensor(module.bias.detach().numpy().astype("float32")))

    def get(self, name):
        return self.states.GetState(self.control.GetStateRequest(name=name))

    def train(self, name, array, **fields):
        """Trains with a batch, wanting the output back."""
        return self.norms.Train(self.data.TrainRequest(
            state=name, input=self.tensor(array), return_output=True, **fields))

    def normalize(self, name, array, channels_last=False):
        response = self.norms.Normalize(self.data.NormalizeRequest(
            state=name, input=self.tensor(array, channels_last)))
        return self.array(response.output)
