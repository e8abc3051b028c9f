"""Networks of public shapes with seeded random weights, as ONNX files: for comparing speed, not answers.

    python models.py resnet50 OUT.onnx        (also mobilenetv2, minilm)

ResNet-50 (He et al. 2015, arXiv:1512.03385) and MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) on 224 x 224 pixels, batch
normalisation folded into the convolutions as exporters for inference do; MiniLM-L6-H384 (Wang et al. 2020, arXiv:2002.10957) on 128 tokens.
"""
import sys
import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    def __init__(self):
        self.nodes, self.weights = [], []
        self.random = numpy.random.default_rng(0)

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(numpy.ascontiguousarray(array), name))
        return name

    def normal(self, *dims, fan_in):
        return self.weight(self.random.standard_normal(dims, dtype=numpy.float32) * numpy.float32((2.0 / fan_in) ** 0.5))

    def op(self, kind, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{kind}_{len(self.nodes)}", **attributes))
        return name

    def save(self, path, inputs, output, shape):
        self.nodes[-1].output[0] = output
        ports = [helper.make_tensor_value_info(name, kind, dims) for name, kind, dims in inputs]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "main", ports, [result], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)

    def conv(self, x, inputs, outputs, kernel, stride=1, groups=1, activation=None, gain=1.0):
        depth = inputs // groups * kernel * kernel
        w = self.normal(outputs, inputs // groups, kernel, kernel, fan_in=depth / gain**2)
        bias = self.weight(numpy.zeros(outputs, numpy.float32))
        pad = (kernel - 1) // 2
        y = self.op("Conv", x, w, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups)
        if activation == "relu":
            return self.op("Relu", y)
        if activation == "relu6":
            low, high = (self.weight(numpy.float32(value)) for value in (0, 6))
            return self.op("Clip", y, low, high)
        return y


def classifier(graph, x, channels, path):
    x = graph.op("Flatten", graph.op("GlobalAveragePool", x))
    bias = graph.weight(numpy.zeros(1000, numpy.float32))
    graph.op("Gemm", x, graph.normal(1000, channels, fan_in=channels), bias, transB=1)
    graph.save(path, [("x", TensorProto.FLOAT, [1, 3, 224, 224])], "y", [1, 1000])


def resnet50(path):
    graph = Graph()
    x = graph.conv("x", 3, 64, 7, 2, activation="relu")
    x = graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = graph.conv(x, channels, width, 1, activation="relu")
            y = graph.conv(y, width, width, 3, stride, activation="relu")
            y = graph.conv(y, width, 4 * width, 1, gain=0.5)
            if block == 0:
                x = graph.conv(x, channels, 4 * width, 1, stride, gain=0.5)
            x = graph.op("Relu", graph.op("Add", y, x))
            channels = 4 * width
    classifier(graph, x, channels, path)


def mobilenetv2(path):
    graph = Graph()
    x, channels = graph.conv("x", 3, 32, 3, 2, activation="relu6"), 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outputs, blocks, first_stride in stages:
        for block in range(blocks):
            stride, hidden = first_stride if block == 0 else 1, channels * expansion
            y = x if expansion == 1 else graph.conv(x, channels, hidden, 1, activation="relu6")
            y = graph.conv(y, hidden, hidden, 3, stride, groups=hidden, activation="relu6")
            y = graph.conv(y, hidden, outputs, 1)
            x = graph.op("Add", x, y) if stride == 1 and channels == outputs else y
            channels = outputs
    classifier(graph, graph.conv(x, channels, 1280, 1, activation="relu6"), 1280, path)


def minilm(path, layers=6, hidden=384, heads=12, inner=1536, vocabulary=30522, tokens=128):
    graph = Graph()
    number = lambda value: graph.weight(numpy.float32(value))
    dims = lambda *values: graph.weight(numpy.array(values, numpy.int64))
    head = hidden // heads

    def norm(x):
        gain, bias = (graph.weight(numpy.full(hidden, value, numpy.float32)) for value in (1, 0))
        return graph.op("LayerNormalization", x, gain, bias, axis=-1, epsilon=1e-12)

    def linear(x, inputs, outputs):
        product = graph.op("MatMul", x, graph.normal(inputs, outputs, fan_in=2 * inputs))
        return graph.op("Add", product, graph.weight(numpy.zeros(outputs, numpy.float32)))

    def split(x, order):
        return graph.op("Transpose", graph.op("Reshape", x, dims(1, tokens, heads, head)), perm=order)

    def gelu(x):
        half = graph.op("Mul", x, number(0.5))
        error = graph.op("Erf", graph.op("Div", x, number(2**0.5)))
        return graph.op("Mul", half, graph.op("Add", error, number(1)))

    mask = graph.op("Cast", graph.op("Unsqueeze", "mask", dims(1, 2)), to=TensorProto.FLOAT)
    bias = graph.op("Mul", graph.op("Sub", number(1), mask), number(-10000))
    words = graph.op("Gather", graph.normal(vocabulary, hidden, fan_in=2), "ids", axis=0)
    x = norm(graph.op("Add", words, graph.normal(1, tokens, hidden, fan_in=2)))
    for _ in range(layers):
        q, v = (split(linear(x, hidden, hidden), [0, 2, 1, 3]) for _ in range(2))
        k = split(linear(x, hidden, hidden), [0, 2, 3, 1])
        scores = graph.op("Add", graph.op("Mul", graph.op("MatMul", q, k), number(head**-0.5)), bias)
        mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), v)
        mixed = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), dims(1, tokens, hidden))
        x = norm(graph.op("Add", x, linear(mixed, hidden, hidden)))
        x = norm(graph.op("Add", x, linear(gelu(linear(x, hidden, inner)), inner, hidden)))
    graph.op("ReduceMean", x, axes=[1], keepdims=0)
    inputs = [(name, TensorProto.INT64, [1, tokens]) for name in ("ids", "mask")]
    graph.save(path, inputs, "embedding", [1, hidden])


if __name__ == "__main__":
    {"resnet50": resnet50, "mobilenetv2": mobilenetv2, "minilm": minilm}[sys.argv[1]](sys.argv[2])
