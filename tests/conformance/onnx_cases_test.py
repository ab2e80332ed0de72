"""ONNX's own test cases of the norm family (Debian's libonnx-testdata) through a real server.

Every case whose model names an operator of the family goes: Train and Normalize give the outputs
that the case expects. The `_expanded` cases name none: they spell the operator out in others. None
of the cases is left out as one that normd cannot express.

ONNX weighs the old value by its momentum and takes the biased variance: normd's momentum is
1 - ONNX's, and running_var_correction is 0.
"""

import collections
import glob
import os
import sys

import numpy
import onnx
import onnx.numpy_helper

import wire as wire_module

FOLDER = "/usr/share/libonnx-testdata/data/node"
# How many there are in libonnx-testdata 1.12. Another number is another package: look at what it
# brought, then change it here.
CASES = {"BatchNormalization": 4, "InstanceNormalization": 2, "LayerNormalization": 19}
# Both sides compute in float32; ONNX's own figures are good to about 2e-6.
ERROR_MAX = 5e-6
MOMENTUM_DEFAULT = 0.9
EPSILON_DEFAULT = 1e-5

wire = None


def family_cases():
    """(name, node, data) of each case; data is a list of (inputs, outputs) by name."""
    for folder in sorted(glob.glob(f"{FOLDER}/*")):
        name = os.path.basename(folder)
        if name.endswith("_expanded"):
            continue
        graph = onnx.load(f"{folder}/model.onnx").graph
        if not any(node.op_type in FAMILY for node in graph.node):
            continue
        node, = graph.node
        data = [(read(files, "input", node.input), read(files, "output", node.output))
                for files in sorted(glob.glob(f"{folder}/test_data_set_*"))]
        if not data:
            raise FileNotFoundError(f"{folder} has no test_data_set_*")
        yield name, node, data


def read(folder, prefix, names):
    """In the order of the operator's inputs or outputs."""
    arrays = []
    for number, _ in enumerate(names):
        with open(f"{folder}/{prefix}_{number}.pb", "rb") as file:
            arrays.append(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(file.read())))
    return arrays


def create(name, config, weight, bias, stats=None):
    state = wire.state.State(name=name, config=config)
    state.parameters.weight.CopyFrom(wire.tensor(weight))
    state.parameters.bias.CopyFrom(wire.tensor(bias))
    if stats is not None:
        state.running_stats.running_mean.CopyFrom(wire.tensor(stats[0].astype("float64")))
        state.running_stats.running_var.CopyFrom(wire.tensor(stats[1].astype("float64")))
    wire.states.CreateState(wire.control.CreateStateRequest(state=state))


def batch_normalization(name, attributes, inputs):
    x, weight, bias, mean, var = inputs
    create(name, wire.config(x.shape[1], attributes.get("epsilon", EPSILON_DEFAULT),
                             1 - attributes.get("momentum", MOMENTUM_DEFAULT),
                             running_var_correction=0), weight, bias, (mean, var))
    if not attributes.get("training_mode", 0):
        return [wire.normalize(name, x)]
    output = wire.array(wire.train(name, x).output)
    stats = wire.get(name).running_stats
    return [output, wire.array(stats.running_mean), wire.array(stats.running_var)]


def instance_normalization(name, attributes, inputs):
    x, weight, bias = inputs
    create(name, wire.config(x.shape[1], attributes.get("epsilon", EPSILON_DEFAULT),
                             kind="INSTANCE_NORM", track_running_stats=False), weight, bias)
    return [wire.normalize(name, x)]


def layer_normalization(name, attributes, inputs):
    x, weight, bias = inputs
    axis = attributes.get("axis", -1) % x.ndim
    epsilon = attributes.get("epsilon", EPSILON_DEFAULT)
    create(name, wire.config(0, epsilon, kind="LAYER_NORM", normalized_shape=x.shape[axis:]),
           weight, bias)
    response = wire.train(name, x, return_moments=True)
    # ONNX keeps the axes that it reduces, with length 1.
    shape = [*x.shape[:axis], *[1] * (x.ndim - axis)]
    var = numpy.array(response.moments.m2) / response.moments.count
    return [wire.array(response.output), numpy.reshape(response.moments.mean, shape),
            numpy.reshape(1 / numpy.sqrt(var + epsilon), shape)]


OPERATORS = {"BatchNormalization": batch_normalization,
             "InstanceNormalization": instance_normalization,
             "LayerNormalization": layer_normalization}
# With those of later versions of ONNX, so that a case of theirs fails and is not passed over.
FAMILY = {*OPERATORS, "GroupNormalization", "RMSNormalization"}


def run(name, node, inputs, outputs):
    """What is wrong with the outputs of a case; None when nothing is."""
    if node.op_type not in OPERATORS:
        return f"{node.op_type} is not known here"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    try:
        return check(OPERATORS[node.op_type](name, attributes, inputs), outputs)
    except wire.RpcError as error:
        return str(error)


def check(actual, expected):
    if len(actual) != len(expected):
        return f"expected {len(expected)} outputs, got {len(actual)}"
    for number, (a, b) in enumerate(zip(actual, expected)):
        if a.shape != b.shape:
            return f"output {number}: expected shape {b.shape}, got {a.shape}"
        error = numpy.abs(a - b) / numpy.maximum(numpy.abs(b), 1)
        if not error.max() <= ERROR_MAX:
            return f"output {number}: error {error.max():.3g}, allowed {ERROR_MAX:.0e}"
    return None


def main():
    global wire
    arguments = wire_module.parse_arguments(__doc__.split("\n", 1)[0])
    from normd_server import NormdServer
    ran = collections.Counter()
    failed = 0
    with NormdServer(arguments.server) as server:
        wire = wire_module.Wire(server.address)
        for name, node, data in family_cases():
            ran[node.op_type] += 1
            for number, (inputs, outputs) in enumerate(data):
                wrong = run(f"onnx/{name}/{number}", node, inputs, outputs)
                if wrong is not None:
                    failed += 1
                    print(f"{name}, data set {number}: {wrong}")
    print(f"onnx {onnx.__version__}, {FOLDER}: {dict(ran)}, {failed} differ; again: "
          f"{wire_module.reproduction(arguments)}")
    if ran != CASES:
        print(f"expected cases {CASES}, got {dict(ran)}")
        failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
