"""Writes the backend tests of the installed `onnx` package to a folder, for the conformance test.

The node cases exist only as Python; the other suites lie in the package as files. Both become the same thing here:

    OUT/cases.json                      the cases with their tolerances and values (see `Writer.value`)
    OUT/<suite>/<case>/model.onnx       the model
    OUT/<suite>/<case>/values.bin       the bytes of all tensors of all data sets, little-endian, small types packed

Usage: python3 dump.py OUT
"""

import glob
import json
import os
import sys
import warnings

import numpy as np
import onnx
from onnx import OptionalProto, SequenceProto, TensorProto, numpy_helper
from onnx.backend.test.loader import DATA_DIR, load_model_tests

FOLDER_SUITES = ("light", "simple", "pytorch-converted", "pytorch-operator")


class Writer:
    """The values of one case: bytes into one file, what they are into the list of cases."""

    def __init__(self):
        self.bytes = bytearray()

    def tensor(self, tensor):
        kind = TensorProto.DataType.Name(tensor.data_type)
        if tensor.data_type == TensorProto.STRING:
            return self.strings(list(tensor.dims), [text.decode() for text in tensor.string_data])
        if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            return {"kind": "tensor", "type": kind, "shape": list(tensor.dims), "offset": 0, "length": 0}
        if not tensor.HasField("raw_data"):
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor))
        offset = len(self.bytes)
        self.bytes += tensor.raw_data
        return {
            "kind": "tensor",
            "type": kind,
            "shape": list(tensor.dims),
            "offset": offset,
            "length": len(tensor.raw_data),
        }

    def strings(self, shape, texts):
        return {"kind": "strings", "shape": shape, "texts": texts}

    def value(self, value):
        """A numpy array, a tensor, a list (sequence), or None (an empty optional)."""
        if value is None:
            return {"kind": "none"}
        if isinstance(value, (list, tuple)):
            return {"kind": "sequence", "items": [self.value(item) for item in value]}
        if isinstance(value, TensorProto):
            return self.tensor(value)
        array = np.asarray(value)
        if array.dtype.kind in "OUS":
            return self.strings(list(array.shape), [str(text) for text in array.flatten()])
        return self.tensor(numpy_helper.from_array(array))


def write_case(out, suite, name, model, data_sets, rtol, atol):
    folder = os.path.join(out, suite, name)
    os.makedirs(folder, exist_ok=True)
    writer = Writer()
    sets = [
        {"inputs": [writer.value(one) for one in inputs], "outputs": [writer.value(one) for one in outputs]}
        for inputs, outputs in data_sets
    ]
    with open(os.path.join(folder, "model.onnx"), "wb") as file:
        file.write(model)
    with open(os.path.join(folder, "values.bin"), "wb") as file:
        file.write(writer.bytes)
    return {"suite": suite, "name": name, "rtol": rtol, "atol": atol, "sets": sets}


def read_value(path, type_proto):
    """One stored value, by the type that the model gives it."""
    with open(path, "rb") as file:
        data = file.read()
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(OptionalProto.FromString(data))
    return TensorProto.FromString(data)


def folder_case(out, suite, folder):
    with open(os.path.join(folder, "model.onnx"), "rb") as file:
        model = file.read()
    graph = onnx.ModelProto.FromString(model).graph
    stored = {tensor.name for tensor in graph.initializer}
    fed = [one for one in graph.input if one.name not in stored]
    sets = []
    for one in sorted(glob.glob(os.path.join(folder, "test_data_set_*"))):
        count = lambda stem: len(glob.glob(os.path.join(one, f"{stem}_*.pb")))
        read = lambda stem, ports: [
            read_value(os.path.join(one, f"{stem}_{at}.pb"), ports[at].type) for at in range(count(stem))
        ]
        inputs = read("input", graph.input if count("input") == len(graph.input) else fed)
        sets.append((inputs, read("output", graph.output)))
    return write_case(out, suite, os.path.basename(folder), model, sets, 1e-3, 1e-7)


def light_case(out, path):
    """A light model is one file, with its expected output beside it; its input is arange(n) / n."""
    with open(path, "rb") as file:
        model = file.read()
    graph = onnx.ModelProto.FromString(model).graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = []
    for port in graph.input:
        if port.name not in stored:
            shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).astype(np.float32) / count).reshape(shape))
    stem = path[: -len(".onnx")]
    outputs = [read_value(stem + "_output_0.pb", graph.output[0].type)]
    name = os.path.basename(stem)
    # ONNX's own runner compares this one with twice the tolerance.
    rtol = 2e-3 if "densenet121" in name else 1e-3
    return write_case(out, "light", name, model, [(inputs, outputs)], rtol, 1e-7)


def main(out):
    warnings.filterwarnings("ignore")
    cases = []
    for case in load_model_tests(kind="node"):
        sets = case.data_sets
        cases.append(write_case(out, "node", case.name, case.model.SerializeToString(), sets, case.rtol, case.atol))
    for suite in FOLDER_SUITES:
        root = os.path.join(DATA_DIR, suite)
        if suite == "light":
            cases += [light_case(out, path) for path in sorted(glob.glob(os.path.join(root, "*.onnx")))]
        else:
            cases += [folder_case(out, suite, folder) for folder in sorted(glob.glob(os.path.join(root, "*")))]
    with open(os.path.join(out, "cases.json"), "w") as file:
        json.dump({"onnx": onnx.__version__, "cases": cases}, file)


if __name__ == "__main__":
    main(sys.argv[1])
