"""normctl export and import: against files written by hand, a real server, and torch."""

import json
import os
import struct

import numpy as np
import torch

from normctl_process import ALREADY_EXISTS, INPUT, NOT_FOUND, REFUSED
from normctl_with_server import ServerTest, main

DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}


def write_file(path, tensors, metadata=None):
    """Writes {name: array} as safetensors, by the format's description."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, array in tensors.items():
        dtype = next(key for key, value in DTYPES.items() if value == array.dtype)
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read_file(path):
    """Reads {name: array} and the metadata."""
    with open(path, "rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(
            entry["shape"])
    return tensors, metadata


class ModelTest(ServerTest):

    def setUp(self):
        super().setUp()
        self.file = self.path("model.safetensors")

    def module_tensors(self, channels=3, tracked=5):
        return {"weight": self.random.normal(size=channels).astype("f4"),
                "bias": self.random.normal(size=channels).astype("f4"),
                "running_mean": self.random.normal(size=channels).astype("f4"),
                "running_var": self.random.uniform(0.1, 9, channels).astype("f4"),
                "num_batches_tracked": np.array(tracked, "i8")}

    def model_tensors(self, modules):
        return {f"{module}.{field}": array for module in modules
                for field, array in self.module_tensors().items()}

    def assert_same_tensors(self, actual, expected):
        self.assertEqual(sorted(actual), sorted(expected))
        for name, array in expected.items():
            self.assertEqual((actual[name].dtype, actual[name].shape),
                             (array.dtype, array.shape), name)
            self.assertEqual(actual[name].tobytes(), array.tobytes(), name)

    def test_a_file_written_by_hand_comes_back_bit_for_bit(self):
        tensors = self.model_tensors(["bn1", "layer1.0.bn1", "layer1.1.bn2"])
        write_file(self.file, {"conv1.weight": np.zeros((2, 3, 1, 1), "f4"), **tensors,
                               "fc.bias": np.zeros(4, "f4")}, {"format": "pt"})
        self.assertEqual(self.out("import", self.file, "--prefix", self.name + "/"),
                         "3 states imported, 2 other tensors left out\n")
        state = self.json("get", f"{self.name}/layer1.0.bn1")
        self.assertEqual(state["config"]["momentum"], 0.1)
        self.assertEqual(state["running_stats"]["num_batches_tracked"], 5)
        out = self.path("out.safetensors")
        self.assertEqual(self.out("export", self.name + "/", "--output", out),
                         f"{out}: 3 states, 15 tensors\n")
        self.assert_same_tensors(read_file(out)[0], tensors)

    def test_an_exported_model_comes_back_with_every_config(self):
        x = self.save("x.npy", self.random.normal(2, 3, (8, 6)))
        for name, arguments in {
                "bn": ["--num-features", "6", "--eps", "0.01", "--cumulative-average",
                       "--optimizer", "adam", "--lr", "0.5"],
                "ln": ["--kind", "layer_norm", "--normalized-shape", "2,3"],
                "gn": ["--kind", "group_norm", "--num-features", "6", "--num-groups", "2",
                       "--parameter-dtype", "float64"],
                "in": ["--kind", "instance_norm", "--num-features", "6", "--track-running-stats"],
                "rms": ["--kind", "rms_norm", "--normalized-shape", "6"],
                "bare": ["--kind", "layer_norm", "--normalized-shape", "6", "--no-affine"],
                "a/b": ["--num-features", "1", "--running-var-correction", "0"]}.items():
            self.out("create", f"{self.name}/{name}", *arguments)
        self.out("train", f"{self.name}/bn", "--input", x, "--batch-size", "4")
        for dtype in ("float64", "float32"):
            self.out("export", self.name + "/", "--output", self.file, "--dtype", dtype)
            copy = f"{self.name}_{dtype}/"
            imported = self.json("import", self.file, "--prefix", copy)
            self.assertEqual(imported["states"], sorted(
                f"{copy}{name}" for name in ("a.b", "bare", "bn", "gn", "in", "ln", "rms")))
            again = self.path("again.safetensors")
            self.out("export", copy, "--output", again, "--dtype", dtype)
            with open(self.file, "rb") as first, open(again, "rb") as second:
                self.assertEqual(first.read(), second.read())
            for name in ("bn", "ln", "gn", "in", "rms", "bare"):
                original = self.json("get", f"{self.name}/{name}")
                read = self.json("get", copy + name)
                self.assertEqual(original["config"], read["config"])
                if dtype == "float64":
                    for field in ("parameters", "running_stats"):
                        self.assertEqual(original.get(field), read.get(field), name)

    def test_torch_loads_what_was_exported_and_normalizes_alike(self):
        modules = {"bn1": 4, "layer1.0.bn1": 2}
        for module, channels in modules.items():
            name = f"{self.name}/{module}"
            self.out("create", name, "--num-features", str(channels), "--weight",
                     self.save("w.npy", self.random.normal(size=channels)))
            x = self.random.normal(1, 2, (5, channels, 2, 2)).astype("f4")
            self.out("train", name, "--input", self.save("x.npy", x))
        self.out("export", self.name + "/", "--output", self.file)
        tensors, _ = read_file(self.file)
        model = torch.nn.Sequential()
        model.add_module("bn1", torch.nn.BatchNorm2d(4))
        model.add_module("layer1", torch.nn.Sequential(torch.nn.Sequential()))
        model.layer1[0].add_module("bn1", torch.nn.BatchNorm2d(2))
        model.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()},
                              strict=True)
        self.assertEqual(int(model.bn1.num_batches_tracked), 1)
        x = self.random.normal(1, 2, (3, 4, 2, 2)).astype("f4")
        self.out("normalize", f"{self.name}/bn1", "--input", self.save("x.npy", x), "--output",
                 self.path("y.npy"))
        model.eval()
        with torch.no_grad():
            expected = model.bn1(torch.tensor(x)).numpy()
        np.testing.assert_allclose(np.load(self.path("y.npy")), expected, rtol=1e-5, atol=1e-5)

    def test_imports_what_torch_has_trained(self):
        module = torch.nn.BatchNorm1d(3, momentum=None)
        module(torch.tensor(self.random.normal(3, 2, (6, 3)).astype("f4")))
        write_file(self.file, {"bn." + name: value.detach().numpy()
                               for name, value in module.state_dict().items()})
        self.out("import", self.file, "--prefix", self.name + "/", "--cumulative-average")
        state = self.json("get", self.name + "/bn")
        self.assertIsNone(state["config"]["momentum"])
        self.assertEqual(state["running_stats"]["running_mean"], module.running_mean.tolist())

    def test_keras_and_onnx_names_momentum_and_correction(self):
        for convention, fields, momentum, eps in (
                ("keras", ("gamma", "beta", "moving_mean", "moving_variance"), 0.01, 0.001),
                ("onnx", ("scale", "B", "input_mean", "input_var"), 0.1, 1e-5)):
            tensors = {f"bn.{field}": self.random.uniform(1, 2, 3).astype("f4")
                       for field in fields}
            write_file(self.file, tensors)
            prefix = f"{self.name}_{convention}/"
            self.out("import", self.file, "--prefix", prefix, "--convention", convention)
            config = self.json("get", prefix + "bn")["config"]
            self.assertAlmostEqual(config["momentum"], momentum, 12)
            self.assertEqual((config["eps"], config["running_var_correction"]), (eps, 0))
            self.out("export", prefix, "--output", self.file, "--convention", convention)
            self.assert_same_tensors(read_file(self.file)[0], tensors)
            self.out("import", self.file, "--prefix", prefix + "b/", "--convention", convention)
            self.assertEqual(self.json("get", prefix + "b/bn")["config"], config)

    def test_says_the_kind_of_other_norms(self):
        write_file(self.file, {"ln.weight": np.full(4, 2, "f4"), "ln.bias": np.ones(4, "f4")})
        self.assertIn("no tensors of a norm found", self.failure(INPUT, "import", self.file))
        self.out("import", self.file, "--prefix", self.name + "/", "--kind", "layer_norm")
        state = self.json("get", self.name + "/ln")
        self.assertEqual(state["config"]["normalized_shape"], [4])
        self.assertEqual(state["parameters"], {"weight": [2] * 4, "bias": [1] * 4})

    def test_imports_nothing_when_a_state_is_there_unless_told_to_overwrite(self):
        tensors = self.model_tensors(["a", "b", "c"])
        write_file(self.file, tensors)
        self.out("create", self.name + "/b", "--num-features", "7")
        command = ["import", self.file, "--prefix", self.name + "/"]
        error = self.failure(ALREADY_EXISTS, *command)
        self.assertIn(f"1 of 3 states are there already: {self.name}/b; nothing was imported",
                      error)
        self.failure(NOT_FOUND, "get", self.name + "/a")
        self.out(*command, "--overwrite")
        self.out("export", self.name + "/", "--output", self.path("out"))
        self.assert_same_tensors(read_file(self.path("out"))[0], tensors)

    def test_a_refused_overwrite_leaves_the_state_as_it_was(self):
        name = self.name + "/bn"
        self.out("create", name, "--num-features", "2", "--optimizer", "adam")
        x, dy = self.random.normal(3, 2, (2, 8, 2))
        self.out("train", name, "--input", self.save("x.npy", x), "--producer-id", "p")
        self.out("backward", name, "--input", self.path("x.npy"), "--grad-output",
                 self.save("dy.npy", dy), "--apply", "--producer-id", "q")
        before = self.json("get", name)
        tensors = {"bn.weight": np.ones(2, "f4"), "bn.bias": np.zeros(2, "f4"),
                   "bn.running_mean": np.zeros(2, "f4"),
                   "bn.running_var": np.array([-1, 1], "f4")}
        write_file(self.file, tensors)
        command = ["import", self.file, "--prefix", self.name + "/", "--overwrite"]
        self.assertIn(f"'{name}': ", self.failure(REFUSED, *command))
        self.assertEqual(self.json("get", name), before)
        again = self.json("backward", name, "--input", self.path("x.npy"), "--grad-output",
                          self.path("dy.npy"), "--apply", "--producer-id", "q")
        self.assertEqual((again["duplicate"], again["optimizer_step"]), (1, 1))

        tensors["bn.running_var"] = np.array([4, 1], "f4")
        write_file(self.file, tensors)
        self.out(*command)
        after = self.json("get", name)
        self.assertEqual(after["running_stats"]["running_var"], [4, 1])
        self.assertEqual(after["parameters"], {"weight": [1, 1], "bias": [0, 0]})
        self.assertGreater(after["revision"], before["revision"])
        self.assertNotEqual(after["etag"], before["etag"])
        self.assertNotIn("optimizer", after["config"])


    def test_a_state_with_a_nan_is_not_exported(self):
        self.out("create", self.name + "/a", "--num-features", "1")
        name = self.name + "/b"
        self.out("create", name, "--num-features", "2", "--non-finite", "propagate")
        self.out("train", name, "--input",
                 self.save("x.npy", np.array([[1, 2], [3, np.nan]], "f4")))
        for dtype in ("float32", "float64"):
            error = self.failure(INPUT, "export", self.name + "/", "--output", self.file,
                                 "--dtype", dtype)
            self.assertIn(f"the state '{name}': running_mean is nan at index 1", error)
        self.assertEqual(os.listdir(self.scratch), ["x.npy"])

    def test_imports_the_widest_state(self):
        channels = 1 << 20
        tensors = {f"bn.{field}": np.full(channels, value, "f4") for field, value in
                   (("weight", 2), ("bias", 3), ("running_mean", 4), ("running_var", 5))}
        write_file(self.file, tensors)
        self.out("import", self.file, "--prefix", self.name + "/")
        self.out("export", self.name + "/", "--output", self.path("out"))
        read, _ = read_file(self.path("out"))
        del read["bn.num_batches_tracked"]
        self.assert_same_tensors(read, tensors)

    def test_many_states_at_once(self):
        tensors = self.model_tensors([f"layer{i}" for i in range(300)])
        write_file(self.file, tensors)
        self.assertIn("300 states", self.out("import", self.file, "--prefix", self.name + "/"))
        self.out("export", self.name + "/", "--output", self.path("out"))
        self.assert_same_tensors(read_file(self.path("out"))[0], tensors)

    def test_a_failed_export_leaves_the_old_file(self):
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("before")
        self.failure(NOT_FOUND, "export", self.name + "/", "--output", self.file)
        for name in ("x/y", "x.y"):
            self.out("create", f"{self.name}/{name}", "--num-features", "1")
        error = self.failure(INPUT, "export", self.name + "/", "--output", self.file)
        self.assertIn("both the module 'x.y'", error)
        with open(self.file, encoding="utf-8") as file:
            self.assertEqual(file.read(), "before")
        self.assertEqual(os.listdir(self.scratch), ["model.safetensors"])

    def test_a_refused_state_is_named_with_how_far_the_import_came(self):
        tensors = self.model_tensors(["a", "b"])
        tensors["b.running_var"] = np.full(3, np.nan, "f4")
        write_file(self.file, tensors)
        out, error = self.run_normctl("import", self.file, "--prefix", self.name + "/", code=5)
        self.assertEqual(out, b"")
        self.assertIn(f"'{self.name}/b': ".encode(), error)
        self.assertIn(b"1 of 2 states were imported before it", error)


if __name__ == "__main__":
    main()
