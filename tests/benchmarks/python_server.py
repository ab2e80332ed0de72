"""A server as one would write it with grpcio and PyTorch: torch.nn.BatchNorm1d behind normd's wire.

Batches are [N, C] of float32. States are made when they are first named, and forgotten at the end.

usage: python_server.py --stubs FOLDER [--listen ADDRESS]... [--port-file FILE]
"""

import argparse
import concurrent.futures
import os
import signal
import sys
import threading
import warnings

import grpc
import numpy
import torch

WORKERS = 16


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--stubs", required=True, help="folder of the generated Python stubs")
    parser.add_argument("--listen", action="append", help="HOST:PORT or unix:PATH")
    parser.add_argument("--port-file", help="written with the addresses, one a line")
    return parser.parse_args()


class States:
    """BatchNorm1d modules by name."""

    def __init__(self):
        self._lock = threading.Lock()
        self._modules = {}

    def module(self, name, num_features):
        with self._lock:
            if name not in self._modules:
                self._modules[name] = (torch.nn.BatchNorm1d(num_features), threading.Lock())
            return self._modules[name]


def make_service():
    """The service; its stubs must be on the path."""
    from normd.v1 import normalization_service_pb2 as wire
    from normd.v1 import normalization_service_pb2_grpc as wire_grpc
    from normd.v1 import tensor_pb2

    def to_torch(tensor):
        values = numpy.frombuffer(tensor.data, dtype="<f4").reshape(tuple(tensor.shape))
        return torch.from_numpy(values)

    def to_wire(values):
        return tensor_pb2.Tensor(dtype=tensor_pb2.FLOAT32, shape=values.shape,
                                 layout=tensor_pb2.CHANNELS_FIRST, data=values.numpy().tobytes())

    class Service(wire_grpc.NormalizationServiceServicer):
        def __init__(self):
            self._states = States()

        def StreamNormalize(self, requests, context):
            for request in requests:
                values = to_torch(request.input)
                module, _ = self._states.module(request.state, values.shape[1])
                with torch.inference_mode():
                    output = torch.nn.functional.batch_norm(
                        values, module.running_mean, module.running_var, module.weight,
                        module.bias, training=False, eps=module.eps)
                yield wire.NormalizeResponse(sequence=request.sequence, output=to_wire(output))

        def StreamTrain(self, requests, context):
            for request in requests:
                values = to_torch(request.input)
                module, lock = self._states.module(request.state, values.shape[1])
                with lock, torch.inference_mode():
                    output = module(values)
                    tracked = module.num_batches_tracked.item()
                yield wire.TrainResponse(
                    sequence=request.sequence, disposition=wire.APPLIED,
                    num_batches_tracked=tracked,
                    output=to_wire(output) if request.return_output else None)

    return wire_grpc, Service()


def main():
    arguments = parse_arguments()
    sys.path.insert(0, arguments.stubs)
    # Nothing writes to the bytes of a message.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    wire_grpc, service = make_service()
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(max_workers=WORKERS),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                 ("grpc.so_reuseport", 0)])
    wire_grpc.add_NormalizationServiceServicer_to_server(service, server)
    addresses = []
    for listen in arguments.listen or ["127.0.0.1:0"]:
        port = server.add_insecure_port(listen)
        is_unix = listen.startswith("unix:")
        addresses.append(listen if is_unix else f"{listen.rpartition(':')[0]}:{port}")
    server.start()
    if arguments.port_file:
        with open(arguments.port_file + ".tmp", "w", encoding="utf-8") as file:
            file.writelines(address + "\n" for address in addresses)
        os.rename(arguments.port_file + ".tmp", arguments.port_file)
    signal.sigwait(signals)
    server.stop(grace=None).wait()


if __name__ == "__main__":
    main()
