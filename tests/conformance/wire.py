"""normd's wire in numpy's words: what the conformance tests share.

Import it after `parse_arguments` has put the generated stubs on the path. Arrays of values have
the channel on axis 1 and hold values exactly as the dtype on the wire does; see `held`.
"""

import argparse
import os
import random
import sys
import unittest

import numpy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "testing"))

DTYPES = ("float32", "float64", "float16", "bfloat16")


def parse_arguments(description, add_more=lambda parser: None):
    """The arguments every test takes; puts the stubs on the path."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", required=True, help="path of normd")
    parser.add_argument("--stubs", required=True, help="folder of the generated Python stubs")
    add_more(parser)
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.stubs)
    return arguments


def reproduction(arguments, *flags):
    """The command that runs the same again."""
    return " ".join([sys.executable, sys.argv[0], "--server", arguments.server,
                     "--stubs", arguments.stubs, *map(str, flags)])


def run_tests(description, set_up):
    """The main() of a file of unittest classes: set_up(wire, seed), then its tests; 0 or 1."""
    def add_more(parser):
        parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
        parser.add_argument("--test", help="run this test alone: SomeTest.test_...")

    arguments = parse_arguments(description.split("\n", 1)[0], add_more)
    from normd_server import NormdServer
    print(f"seed {arguments.seed}; again: "
          f"{reproduction(arguments, '--seed', arguments.seed)}", flush=True)
    with NormdServer(arguments.server) as server:
        set_up(Wire(server.address), arguments.seed)
        argv = sys.argv[:1] + ([arguments.test] if arguments.test else [])
        result = unittest.main(argv=argv, exit=False).result
    return 0 if result.wasSuccessful() else 1


def held(array, dtype):
    """`array` rounded to values that `dtype` holds, as float64."""
    if dtype == "bfloat16":
        bits = array.astype("float32").view("uint32")
        return ((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000).view("float32").astype("float64")
    return array.astype(dtype).astype("float64")


def to_bytes(array, dtype):
    """Row-major, little-endian. The array holds values of `dtype`."""
    if dtype == "bfloat16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes("C")
    return array.astype(numpy.dtype(dtype).newbyteorder("<")).tobytes("C")


def from_bytes(data, dtype):
    """The float64 array, with one axis, of what to_bytes made."""
    if dtype == "bfloat16":
        return (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype("float64")
    return numpy.frombuffer(data, numpy.dtype(dtype).newbyteorder("<")).astype("float64")


class Wire:
    """A connection to a server, with tensors as numpy arrays."""

    def __init__(self, address):
        # Not before parse_arguments() has put the stubs on the path.
        import grpc
        from google.protobuf import field_mask_pb2
        from google.rpc import error_details_pb2, status_pb2
        from normd.v1 import normalization_service_pb2 as data_pb2
        from normd.v1 import normalization_service_pb2_grpc as data_grpc
        from normd.v1 import state_pb2, tensor_pb2
        from normd.v1 import state_service_pb2 as control_pb2
        from normd.v1 import state_service_pb2_grpc as control_grpc
        self.data, self.control, self.state, self.tensors = (
            data_pb2, control_pb2, state_pb2, tensor_pb2)
        self.FieldMask = field_mask_pb2.FieldMask
        self.RpcError = grpc.RpcError
        self._ErrorInfo, self._Status = error_details_pb2.ErrorInfo, status_pb2.Status
        # gRPC's own limit of what a client receives is 4 MB.
        self.channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
        self.states = control_grpc.StateServiceStub(self.channel)
        self.norms = data_grpc.NormalizationServiceStub(self.channel)

    def reason(self, error):
        """ErrorInfo.reason of an RpcError; None when it has none."""
        for key, value in error.trailing_metadata():
            if key == "grpc-status-details-bin":
                for detail in self._Status.FromString(value).details:
                    info = self._ErrorInfo()
                    if detail.Unpack(info):
                        return info.reason
        return None

    def tensor(self, array, channels_last=False, dtype=None):
        """An array whose axis 1 is the channel; dtype None is the array's own."""
        if channels_last:
            array = array.transpose([0, *range(2, array.ndim), 1])
        wire = self.tensors
        dtype = dtype or array.dtype.name
        return wire.Tensor(
            dtype=wire.DataType.Value(dtype.upper()),
            layout=wire.CHANNELS_LAST if channels_last else wire.CHANNELS_FIRST,
            shape=array.shape, data=to_bytes(array, dtype))

    def array(self, tensor):
        """The float64 array of a tensor, with axis 1 as the channel."""
        wire = self.tensors
        array = from_bytes(tensor.data, wire.DataType.Name(tensor.dtype).lower())
        array = array.reshape(tuple(tensor.shape))
        if tensor.layout == wire.CHANNELS_LAST and array.ndim > 2:
            array = numpy.moveaxis(array, -1, 1)
        return array

    def moments_of_sets(self, sets):
        """The moments of the rows of [sets, count], by two passes in float64."""
        mean = sets.mean(axis=1)
        return self.tensors.Moments(count=sets.shape[1], mean=mean,
                                    m2=((sets - mean[:, None]) ** 2).sum(axis=1))

    def moments(self, array):
        """The moments of the channels of a batch whose axis 1 is the channel."""
        return self.moments_of_sets(
            array.astype("float64").swapaxes(0, 1).reshape(array.shape[1], -1))

    def config(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True,
               propagate=False, kind="BATCH_NORM", **fields):
        """A NormConfig; momentum None is the cumulative average. `fields` as in the message."""
        NormConfig = self.state.NormConfig
        config = NormConfig(kind=NormConfig.Kind.Value(kind), num_features=num_features, eps=eps,
                            affine=affine,
                            non_finite=NormConfig.PROPAGATE if propagate else NormConfig.REFUSE,
                            **fields)
        # The other kinds have no running statistics.
        if kind in ("BATCH_NORM", "INSTANCE_NORM"):
            config.track_running_stats = track_running_stats
            if momentum is None:
                config.cumulative_average = True
            else:
                config.momentum = momentum
        return config

    def create(self, name, config, module=None):
        """Creates a state; with a torch module, from its parameters and buffers."""
        state = self.state.State(name=name, config=config)
        if module is not None and config.affine:
            state.parameters.CopyFrom(self.parameters(module, self.parameter_dtype(config)))
        if module is not None and config.track_running_stats:
            state.running_stats.CopyFrom(self.state.RunningStats(
                running_mean=self.tensor(module.running_mean.numpy().astype("float64")),
                running_var=self.tensor(module.running_var.numpy().astype("float64")),
                num_batches_tracked=module.num_batches_tracked.item()))
        return self.states.CreateState(self.control.CreateStateRequest(state=state))

    def parameter_dtype(self, config):
        return "float64" if config.parameter_dtype == self.tensors.FLOAT64 else "float32"

    def parameters(self, module, dtype="float32"):
        """weight, and bias where it has one, of a torch module."""
        parameters = self.state.Parameters(
            weight=self.tensor(module.weight.detach().numpy().astype(dtype)))
        if getattr(module, "bias", None) is not None:
            parameters.bias.CopyFrom(self.tensor(module.bias.detach().numpy().astype(dtype)))
        return parameters

    def get(self, name):
        return self.states.GetState(self.control.GetStateRequest(name=name))

    def update(self, name, config, *paths):
        """UpdateState of the given paths, as "config.eps"."""
        return self.states.UpdateState(self.control.UpdateStateRequest(
            state=self.state.State(name=name, config=config),
            update_mask=self.FieldMask(paths=paths)))

    def train(self, name, array, **fields):
        """Trains with a batch, wanting the output back."""
        return self.norms.Train(self.data.TrainRequest(
            state=name, input=self.tensor(array), return_output=True, **fields))

    def normalize(self, name, array, channels_last=False):
        response = self.norms.Normalize(self.data.NormalizeRequest(
            state=name, input=self.tensor(array, channels_last)))
        return self.array(response.output)
