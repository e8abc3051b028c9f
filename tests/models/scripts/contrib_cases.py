"""Small cases of operators that ONNX's own tests leave out (com.microsoft, much of ai.onnx.ml) with the values of ONNX Runtime.

    pip install onnx==1.23.2 onnxruntime==1.31.1 numpy
    python contrib_cases.py --out ../contrib            # all cases
    python contrib_cases.py --out ../contrib matmul_n   # cases whose names begin so
    python contrib_cases.py --list

Every case is a folder with model.onnx, input_K.npy and output_K.npy in graph order, as `tilewright parity --cases` reads it. An operator that
ONNX Runtime runs on graphics processors only is recorded through standard operators that compute the same (`same_as`).
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import zlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

MICROSOFT, LEARNED = "com.microsoft", "ai.onnx.ml"
VERSIONS = {MICROSOFT: 1, LEARNED: 3}
CASES = {}
TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64, "int32": TensorProto.INT32, "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "uint16": TensorProto.UINT16, "bool": TensorProto.BOOL, "float64": TensorProto.DOUBLE,
}


def element_of(array):
    return TensorProto.STRING if array.dtype.kind in "UO" else TYPES[array.dtype.name]


class Stored:
    """A value that the model stores; `element` names a type that numpy does not have, one number per element of `array`."""

    def __init__(self, array, element=None):
        self.array, self.element = np.asarray(array), element

    def proto(self, name):
        if self.element is None:
            return numpy_helper.from_array(self.array, name)
        return helper.make_tensor(name, self.element, self.array.shape, self.array.flatten().tolist())


def case(function):
    """Registers `function(random) -> dict` under its name."""
    CASES[function.__name__] = function
    return function


def variants(name, make, **kinds):
    """Registers one case per keyword: `make(random, *arguments)`."""
    for kind, arguments in kinds.items():
        CASES[f"{name}_{kind}"] = lambda random, arguments=arguments: make(random, **arguments)


class Random:
    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def real(self, *shape, scale=1.0, kind="float32"):
        return (self.generator.standard_normal(shape) * scale).astype(kind)

    def positive(self, *shape, low=0.5, high=1.5, kind="float32"):
        return self.generator.uniform(low, high, shape).astype(kind)

    def whole(self, low, high, *shape, kind="int64"):
        return self.generator.integers(low, high, shape).astype(kind)


def node(op, inputs, attributes=None, outputs=1, domain=MICROSOFT, same_as=None, opset=21, holes=(), defined=None):
    """One node as a whole model. `inputs` are arrays (fed), `Stored` or None (left out).

    `defined` holds a mask per output where the operator defines only a part of it: a Where puts zeros in the rest.
    """
    return dict(op=op, inputs=inputs, attributes=attributes or {}, outputs=outputs, domain=domain, same_as=same_as, opset=opset, holes=holes, defined=defined)


def build(made):
    names, fed, initializers = [], [], []
    for at, value in enumerate(made["inputs"]):
        if value is None:
            names.append("")
            continue
        names.append(f"x{at}")
        if isinstance(value, Stored):
            initializers.append(value.proto(f"x{at}"))
        else:
            fed.append((f"x{at}", np.asarray(value)))
    while names and not names[-1]:
        names.pop()
    outputs = ["" if at in made["holes"] else f"y{at}" for at in range(made["outputs"])]
    nodes = [helper.make_node(made["op"], names, outputs, name=made["op"], domain=made["domain"], **made["attributes"])]
    if made["defined"]:
        initializers.append(numpy_helper.from_array(np.zeros([], "float32"), "zero"))
        for at, mask in enumerate(made["defined"]):
            initializers.append(numpy_helper.from_array(mask, f"defined{at}"))
            nodes.append(helper.make_node("Where", [f"defined{at}", outputs[at], "zero"], [f"shown{at}"], name=f"defined{at}"))
        outputs = [f"shown{at}" for at in range(len(outputs))]
    inputs = [helper.make_tensor_value_info(name, element_of(value), value.shape) for name, value in fed]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs if name]
    imports = [helper.make_opsetid("", made["opset"])] + [helper.make_opsetid(*row) for row in VERSIONS.items() if row[0] == made["domain"]]
    graph = helper.make_graph(nodes, "case", inputs, results, initializers)
    return helper.make_model(graph, opset_imports=imports, ir_version=10), fed, [name for name in outputs if name]


def run(model, fed, names):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, {name: value.astype(object) if value.dtype.kind == "U" else value for name, value in fed})


def typed(model, names, values):
    """Writes the outputs' types and shapes down."""
    del model.graph.output[:]
    for name, value in zip(names, values):
        model.graph.output.append(helper.make_tensor_value_info(name, element_of(value), value.shape))
    return model


def write(name, out):
    made = CASES[name](Random(zlib.crc32(name.encode())))
    model, fed, names = build(made)
    if made["same_as"] is None:
        values = run(model, fed, names)
    else:
        values = made["same_as"](*[value.array if isinstance(value, Stored) else value for value in made["inputs"]])
        values = values if isinstance(values, list) else [values]
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    onnx.save(typed(model, names, values), os.path.join(folder, "model.onnx"))
    for at, (_, value) in enumerate(fed):
        np.save(os.path.join(folder, f"input_{at}.npy"), value)
    for at, value in enumerate(values):
        np.save(os.path.join(folder, f"output_{at}.npy"), value.astype(str) if value.dtype.kind == "O" else value)


def standard(*steps, inputs, outputs=("y",)):
    """Runs standard operators in ONNX Runtime: steps are (op, inputs, output(s), attributes), values by name."""
    nodes = []
    for op, names, results, *attributes in steps:
        results = [results] if isinstance(results, str) else results
        nodes.append(helper.make_node(op, names, results, **(attributes[0] if attributes else {})))
    fed = [(name, np.asarray(value)) for name, value in inputs.items()]
    infos = [helper.make_tensor_value_info(name, TYPES[value.dtype.name], value.shape) for name, value in fed]
    graph = helper.make_graph(nodes, "same", infos, [helper.make_empty_tensor_value_info(name) for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return run(model, fed, list(outputs))


# ---- weights of few bits ---------------------------------------------------------------------------------------------


def packed(codes, bits):
    """Numbers of `bits` bits along the last axis as bytes, low bits first; rows start on a byte."""
    rows = codes.reshape(-1, codes.shape[-1])
    lines = []
    for row in rows:
        word = 0
        for at, code in enumerate(row):
            word |= int(code) << (bits * at)
        count = (bits * len(row) + 7) // 8
        lines.append(np.frombuffer(word.to_bytes(count, "little"), dtype=np.uint8))
    return np.stack(lines).reshape(*codes.shape[:-1], -1)


def matmul_n_bits(random, bits, zero=None, k=64, n=12, block=16, leading=(2, 3), groups=False, bias=False, kind="float32"):
    blocks = -(-k // block)
    codes = random.whole(0, 1 << bits, n, blocks, block)
    points = random.whole(0, 1 << bits, n, blocks)
    zeros = {None: None, "packed": Stored(packed(points, bits)), "real": Stored((points + 0.25).astype(kind))}[zero]
    inputs = [random.real(*leading, k, kind=kind), Stored(packed(codes, bits)), Stored(random.positive(n, blocks, low=0.02, high=0.1, kind=kind)), zeros]
    inputs.append(Stored(random.generator.permutation(np.arange(k) // block).astype("int32")) if groups else None)
    inputs.append(Stored(random.real(n, kind=kind)) if bias else None)
    same_as = None
    # Of these ONNX Runtime has no CPU kernel, or one that leaves the zero points out.
    if bits == 3 or (bits, zero) == (8, "real") or (groups and zero):
        def same_as(x, _, scales, _zeros=None, *rest):
            zeros = points + 0.25 * (zero == "real") if zero else np.full_like(points, 1 << (bits - 1))
            of_column = rest[0] if groups else np.arange(k) // block
            weight = ((codes.reshape(n, -1)[:, :k] - zeros[:, of_column]) * scales[:, of_column]).astype(kind)
            return standard(("Transpose", ["w"], "t"), ("MatMul", ["x", "t"], "y"), inputs={"x": x, "w": weight})
    return node("MatMulNBits", inputs, dict(K=k, N=n, bits=bits, block_size=block), same_as=same_as)


variants(
    "matmul_n_bits", matmul_n_bits,
    b2=dict(bits=2), b2_packed=dict(bits=2, zero="packed"), b2_real=dict(bits=2, zero="real"),
    b3=dict(bits=3), b3_packed=dict(bits=3, zero="packed"),
    b4=dict(bits=4), b4_packed=dict(bits=4, zero="packed"), b4_real=dict(bits=4, zero="real"), b4_odd_blocks=dict(bits=4, zero="packed", k=80),
    b4_bias=dict(bits=4, bias=True), b4_groups=dict(bits=4, groups=True), b4_groups_packed=dict(bits=4, groups=True, zero="packed"),
    b4_ragged_k=dict(bits=4, k=70, block=32, zero="packed"), b4_half=dict(bits=4, kind="float16"), b4_vector=dict(bits=4, leading=(1,), zero="packed", bias=True),
    b8=dict(bits=8), b8_packed=dict(bits=8, zero="packed"), b8_real=dict(bits=8, zero="real"),
)


def gather_block_quantized(random, bits=4, zero=False, shape=(6, 64), block=16, gather=0, quantize=-1, element=None, indices=None, kind="float32"):
    axis = quantize % len(shape)
    grid = list(shape)
    grid[axis] = -(-shape[axis] // block)
    low = -8 if element == TensorProto.INT4 else 0
    codes = random.whole(low, low + (1 << bits), *shape)
    points = random.whole(low, low + (1 << bits), *grid)
    store = (lambda numbers: Stored(numbers, element)) if element else (lambda numbers: Stored(packed(numbers, bits)))
    indices = random.whole(0, shape[gather], 2, 3) if indices is None else indices
    inputs = [store(codes), indices, Stored(random.positive(*grid, low=0.05, high=0.2, kind=kind)), store(points) if zero else None]
    attributes = dict(gather_axis=gather, quantize_axis=quantize, block_size=block, bits=bits)
    return node("GatherBlockQuantized", inputs, attributes)


variants(
    "gather_block_quantized", gather_block_quantized,
    u8_b4=dict(), u8_b4_zero=dict(zero=True), u8_b8=dict(bits=8), u8_b8_zero=dict(bits=8, zero=True), u8_b2=dict(bits=2), u8_b2_zero=dict(bits=2, zero=True),
    int4=dict(element=TensorProto.INT4), int4_zero=dict(element=TensorProto.INT4, zero=True), uint4=dict(element=TensorProto.UINT4),
    uint4_zero=dict(element=TensorProto.UINT4, zero=True), cube=dict(element=TensorProto.UINT4, shape=(3, 4, 32), gather=1, quantize=2, zero=True),
    columns=dict(element=TensorProto.INT4, shape=(32, 5), gather=1, quantize=0, zero=True), same_axis=dict(element=TensorProto.INT4, shape=(4, 32), gather=1, quantize=1),
    negative=dict(indices=np.array([-1, 0, 5, -6])), scalar=dict(indices=np.array(2)), half=dict(kind="float16"), ragged=dict(element=TensorProto.UINT4, shape=(5, 40), zero=True),
)


def matmul_bnb4(random, kind, k=32, n=5, block=16):
    codes = random.whole(0, 16, n * k)
    high_first = ((codes[0::2] << 4) | codes[1::2]).astype(np.uint8)
    inputs = [random.real(2, 3, k), Stored(high_first), Stored(random.positive(-(-n * k // block)))]
    return node("MatMulBnb4", inputs, dict(K=k, N=n, block_size=block, quant_type=kind))


variants("matmul_bnb4", matmul_bnb4, fp4=dict(kind=0), nf4=dict(kind=1))


# ---- attention -------------------------------------------------------------------------------------------------------


def tables(random, rows, width):
    angles = np.outer(np.arange(rows), 1.0 / (100.0 ** (np.arange(width) / width)))
    return Stored(np.cos(angles).astype("float32")), Stored(np.sin(angles).astype("float32"))


def group_query_attention(
    random, batch=1, s=4, past=0, heads=4, groups=2, size=16, is_packed=True, totals=None, rotary=None, bias=False, sinks=False, positions=False, **attributes
):
    width = heads * size
    total = past + s
    # What is valid of each sequence, the new tokens included.
    totals = [total] * batch if totals is None else totals
    inputs = [random.real(batch, s, width + 2 * groups * size)] + [None, None]
    if not is_packed:
        inputs = [random.real(batch, s, width), random.real(batch, s, groups * size), random.real(batch, s, groups * size)]
    inputs += [random.real(batch, groups, past, size), random.real(batch, groups, past, size)]
    inputs += [np.array([one - 1 for one in totals], "int32"), Stored(np.array(total, "int32"))]
    inputs += list(tables(random, 32, size // 2)) if rotary else [None, None]
    inputs.append(np.arange(past, total)[None].repeat(batch, 0) if positions else None)
    inputs.append(random.real(batch, heads, s, total) if bias else None)
    inputs.append(Stored(random.real(heads)) if sinks else None)
    attributes = dict(num_heads=heads, kv_num_heads=groups, **attributes)
    if rotary:
        attributes.update(do_rotary=1, rotary_interleaved=int(rotary == "interleaved"))
    return node("GroupQueryAttention", inputs, attributes, outputs=3)


variants(
    "group_query_attention", group_query_attention,
    packed=dict(), apart=dict(is_packed=False), past=dict(past=5), rotary=dict(past=3, rotary="halves"), rotary_interleaved=dict(past=3, rotary="interleaved"),
    positions=dict(past=3, rotary="halves", positions=True, s=1), scale=dict(scale=0.5), softcap=dict(softcap=2.0, past=2), window=dict(local_window_size=3, past=6),
    window_prompt=dict(local_window_size=2, s=7), sinks=dict(sinks=True, past=2), smooth=dict(smooth_softmax=1), bias=dict(bias=True, past=2),
    everything=dict(past=5, rotary="halves", softcap=3.0, local_window_size=4, bias=True, sinks=True), one_group=dict(groups=1, past=2), bidirectional=dict(causal=0),
    batch=dict(batch=2, s=1, past=4), batch_rotary=dict(batch=2, s=1, past=4, rotary="halves"),
)


def ragged(random, batch, s, past, totals, groups=2, size=16, heads=4, **more):
    """Sequences of different lengths, padded at the end; what lies beyond a sequence's length is not defined."""
    made = group_query_attention(random, batch=batch, s=s, past=past, totals=totals, groups=groups, size=size, heads=heads, **more)
    total = past + s
    valid = lambda count, length: np.arange(length)[None] < np.asarray(count)[:, None]
    rows = valid([s] * batch if past else totals, s)[..., None].repeat(heads * size, 2)
    caches = valid(totals if past else [s] * batch, total)[:, None, :, None].repeat(groups, 1).repeat(size, 3)
    return made | {"defined": [rows, caches, caches]}


variants(
    "group_query_attention_ragged", ragged,
    prompt=dict(batch=2, s=5, past=0, totals=[5, 3], rotary="halves"), step=dict(batch=3, s=1, past=5, totals=[6, 2, 4]), step_rotary=dict(batch=2, s=1, past=5, totals=[3, 6], rotary="halves"),
    step_window=dict(batch=2, s=1, past=5, totals=[6, 4], local_window_size=2, sinks=True),
)


def multi_head_attention(random, s=3, t=None, past=0, heads=2, size=8, layout="apart", bias=False, mask=None, attention_bias=None, v_size=None, outputs=1, batch=2, **attributes):
    t = s if t is None else t
    v_size = v_size or size
    width, total = heads * size, past + t
    q = random.real(batch, s, width)
    k, v = random.real(batch, t, width), random.real(batch, t, heads * v_size)
    if layout == "qkv":
        q, k, v = random.real(batch, s, heads, 3, size), None, None
    elif layout == "kv":
        k, v = random.real(batch, t, heads, 2, size), None
    elif layout == "cross":
        k, v = random.real(batch, heads, t, size), random.real(batch, heads, t, v_size)
    ones = random.whole(0, 2, batch, t if mask == "keys" else total, kind="int32")
    ones[:, 0] = 1
    masks = {
        None: None, "lengths": np.array([t, max(1, t - 1)], "int32"), "keys": ones, "total": ones,
        "pairs": np.maximum(random.whole(0, 2, batch, s, total, kind="int32"), np.eye(s, total, dtype="int32")[None]),
    }
    biases = {None: None, "full": random.real(batch, heads, s, total), "shared": random.real(1, heads, s, total), "one": random.real(batch, 1, s, total)}
    inputs = [q, k, v, Stored(random.real(2 * width + heads * v_size)) if bias else None, masks[mask], biases[attention_bias]]
    inputs += [random.real(batch, heads, past, size), random.real(batch, heads, past, v_size)] if past else [None, None]

    def apart(q, k=None, *_):
        """Packed inputs run on graphics processors only: the same with queries, keys and values apart."""
        parts = [q[..., at, :].reshape(batch, -1, width) for at in range(3)] if k is None else [q] + [k[..., at, :].reshape(batch, -1, width) for at in range(2)]
        model, fed, names = build(node("MultiHeadAttention", [np.ascontiguousarray(part) for part in parts], dict(num_heads=heads)))
        return run(model, fed, names)

    same_as = apart if layout in ("qkv", "kv") else None
    return node("MultiHeadAttention", inputs, dict(num_heads=heads, **attributes), outputs=outputs, same_as=same_as)


variants(
    "multi_head_attention", multi_head_attention,
    apart=dict(), cross_lengths=dict(t=5), bias=dict(bias=True), qkv=dict(layout="qkv"), kv=dict(layout="kv", t=5), cross=dict(layout="cross", t=4),
    mask_lengths=dict(mask="lengths"), mask_keys=dict(mask="keys", t=5), mask_pairs=dict(mask="pairs"), attention_bias=dict(attention_bias="full"),
    attention_bias_shared=dict(attention_bias="shared"), attention_bias_one=dict(attention_bias="one", mask="total"), past=dict(past=4, outputs=3),
    past_mask=dict(past=4, mask="total", outputs=3), unidirectional=dict(unidirectional=1, past=2, outputs=3), scale=dict(scale=0.3, mask="keys", mask_filter_value=-3.0),
    v_size=dict(v_size=4), bias_cross=dict(layout="apart", bias=True, t=5),
)


def attention(random, s=4, past=0, heads=2, size=8, mask=None, attention_bias=False, bias=True, sizes=None, **attributes):
    batch, hidden, total = 2, 12, past + s
    widths = sizes or [heads * size] * 3
    keep = random.whole(0, 2, batch, total, kind="int32")
    keep[:, 0] = 1
    masks = {
        None: None, "lengths": np.array([total, total - 1], "int32"), "ends": np.array([total, total - 1, 0, 1], "int32"), "keys": keep,
        "pairs": np.maximum(random.whole(0, 2, batch, s, total, kind="int32"), np.eye(s, total, dtype="int32")[None]),
    }
    inputs = [random.real(batch, s, hidden), Stored(random.real(hidden, sum(widths), scale=0.4)), Stored(random.real(sum(widths))) if bias else None, masks[mask]]
    inputs.append(random.real(2, batch, heads, past, size) if past else None)
    inputs.append(random.real(1, heads, s, total) if attention_bias else None)
    if sizes:
        attributes["qkv_hidden_sizes"] = sizes
    def without_bias(x, weights, *_):
        """ONNX Runtime crashes without a bias: one of zeros."""
        model, fed, names = build(node("Attention", [x, weights, np.zeros(sum(widths), "float32")], dict(num_heads=heads)))
        return run(model, fed, names)

    return node("Attention", inputs, dict(num_heads=heads, **attributes), outputs=2 if past else 1, same_as=None if bias else without_bias)


variants(
    "attention", attention,
    plain=dict(), no_bias=dict(bias=False), unidirectional=dict(unidirectional=1), past=dict(past=3), past_unidirectional=dict(past=3, unidirectional=1),
    mask_lengths=dict(mask="lengths"), mask_ends=dict(mask="ends"), mask_keys=dict(mask="keys"), mask_pairs=dict(mask="pairs"), attention_bias=dict(attention_bias=True),
    sizes=dict(sizes=[16, 16, 8]), scale=dict(scale=0.2, mask="keys", mask_filter_value=-2.0),
)


def q_attention(random, s=4, past=0, heads=2, size=8, per_column=False, mask=False, weight="int8", **attributes):
    batch, hidden, width, total = 2, 12, 3 * heads * size, past + s
    columns = [width] if per_column else []
    weights = random.whole(-60, 60, hidden, width, kind="int8") if weight == "int8" else random.whole(60, 200, hidden, width, kind="uint8")
    zero = np.zeros(columns, "int8") if weight == "int8" else np.full(columns, 128, "uint8")
    inputs = [
        random.whole(0, 255, batch, s, hidden, kind="uint8"), Stored(weights), Stored(random.real(width)), Stored(np.array(0.02, "float32")),
        Stored(random.positive(*columns, low=0.01, high=0.03)), np.array([total, total - 1], "int32") if mask else None, Stored(np.array(120, "uint8")), Stored(zero),
        random.real(2, batch, heads, past, size) if past else None,
    ]
    return node("QAttention", inputs, dict(num_heads=heads, **attributes), outputs=2 if past else 1)


variants("q_attention", q_attention, plain=dict(), columns=dict(per_column=True), mask=dict(mask=True), past=dict(past=3, unidirectional=1), unsigned=dict(weight="uint8"))


def rotary_embedding(random, rank=4, interleaved=0, one_position=False, width=4, size=8, heads=3, **attributes):
    batch, s = 2, 4
    x = random.real(batch, heads, s, size) if rank == 4 else random.real(batch, s, heads * size)
    positions = np.array([2]) if one_position else random.whole(0, 16, batch, s)
    cos, sin = tables(random, 16, width)
    if 2 * width != size:
        attributes.update(rotary_embedding_dim=2 * width, num_heads=heads)
    return node("RotaryEmbedding", [x, positions, cos, sin], dict(interleaved=interleaved, **attributes))


variants(
    "rotary_embedding", rotary_embedding,
    rank4=dict(), rank3=dict(rank=3), interleaved=dict(interleaved=1), one_position=dict(one_position=True), part=dict(rank=3, width=2), part_interleaved=dict(rank=3, width=2, interleaved=1),
)


# ---- linear attention and its kin ------------------------------------------------------------------------------------


def linear_attention(random, rule, t=3, heads=2, groups=2, per_key=False, past=True, scale=0.0):
    batch, dk, dv = 2, 4, 6
    key = random.real(batch, t, groups, dk)
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    decay = -random.positive(batch, t, groups * (dk if per_key else 1)) if "gated" in rule else None
    beta = random.positive(batch, t, groups, low=0.1, high=0.9) if "delta" in rule else None
    inputs = [random.real(batch, t, heads * dk), key.reshape(batch, t, -1), random.real(batch, t, groups * dv), random.real(batch, groups, dk, dv) if past else None, decay, beta]
    return node("LinearAttention", inputs, dict(q_num_heads=heads, kv_num_heads=groups, update_rule=rule, scale=scale), outputs=2)


variants(
    "linear_attention", linear_attention,
    linear=dict(rule="linear"), gated=dict(rule="gated"), gated_per_key=dict(rule="gated", per_key=True), delta=dict(rule="delta"), gated_delta=dict(rule="gated_delta"),
    gated_delta_step=dict(rule="gated_delta", t=1), no_past=dict(rule="gated_delta", past=False, scale=0.7), groups=dict(rule="gated_delta", heads=4),
)


def causal_conv_with_state(random, k=3, bias=True, past=True, s=5, activation="none", **attributes):
    batch, channels = 2, 4
    kept = (k - 1) * attributes.get("dilation", 1)
    last = attributes.get("channels_last", 0)
    x = random.real(*((batch, s, channels) if last else (batch, channels, s)))
    state = random.real(*((batch, kept, channels) if last else (batch, channels, kept)))
    inputs = [x, Stored(random.real(channels, 1, k)), Stored(random.real(channels)) if bias else None, state if past else None]
    return node("CausalConvWithState", inputs, dict(activation=activation, **attributes), outputs=2)


variants(
    "causal_conv_with_state", causal_conv_with_state,
    plain=dict(), no_bias=dict(bias=False), no_past=dict(past=False), silu=dict(activation="silu"), step=dict(s=1, activation="swish"), dilated=dict(dilation=2), last=dict(channels_last=1),
)


# ---- mixtures of experts ---------------------------------------------------------------------------------------------


def moe(random, activation="relu", k=2, bias=True, rank=2, fusion=0, three=False, **attributes):
    experts, hidden, inner = 4, 8, 6
    x = random.real(5, hidden) if rank == 2 else random.real(1, 5, hidden)
    wide = inner * (2 if fusion else 1)
    inputs = [x, random.real(5, experts), Stored(random.real(experts, wide, hidden)), Stored(random.real(experts, wide)) if bias else None]
    inputs += [Stored(random.real(experts, hidden, inner)), Stored(random.real(experts, hidden)) if bias else None]
    inputs += [Stored(random.real(experts, inner, hidden)), None] if three else []

    def with_gate(x, router, one, _, two, __, three, *___):
        """ONNX Runtime's CPU kernel takes no third matrix: the sum over experts from standard operators."""
        total = np.zeros_like(x)
        (chances,) = standard(("Softmax", ["r"], "y"), inputs={"r": router})
        for token, row in enumerate(chances):
            for expert in np.argsort(-row)[:k]:
                steps = [
                    ("MatMul", ["a", "x"], "g"), ("Sigmoid", ["g"], "s"), ("Mul", ["g", "s"], "h"), ("MatMul", ["c", "x"], "l"), ("Mul", ["h", "l"], "p"), ("MatMul", ["b", "p"], "y")]
                total[token] += row[expert] * standard(*steps, inputs={"x": x[token], "a": one[expert], "b": two[expert], "c": three[expert]})[0]
        return [total]

    return node("MoE", inputs, dict(k=k, activation_type=activation, swiglu_fusion=fusion, **attributes), same_as=with_gate if three else None)


variants(
    "moe", moe,
    relu=dict(), gelu=dict(activation="gelu"), silu=dict(activation="silu", k=1), identity=dict(activation="identity", bias=False), rank3=dict(rank=3), normalized=dict(normalize_routing_weights=1),
    swiglu=dict(activation="swiglu", fusion=1, activation_alpha=1.702, activation_beta=1.0, swiglu_limit=7.0), three=dict(activation="silu", three=True, bias=False),
)


def qmoe(random, bits=4, zero=False, block=0, activation="relu", fusion=0, bias=True, k=2, **attributes):
    experts, hidden, inner = 4, 32, 32
    wide = inner * (2 if fusion else 1)

    def weight(rows, columns):
        codes = random.whole(0, 1 << bits, experts, rows, columns)
        grid = (experts, rows, columns // block) if block else (experts, rows)
        points = random.whole(0, 1 << bits, *grid)
        return Stored(packed(codes, bits)), Stored(random.positive(*grid, low=0.01, high=0.05)), Stored(packed(points, bits)) if zero else None

    (one, one_scale, one_zero), (two, two_scale, two_zero) = weight(wide, hidden), weight(hidden, inner)
    inputs = [random.real(5, hidden), random.real(5, experts), one, one_scale, Stored(random.real(experts, wide)) if bias else None]
    inputs += [two, two_scale, Stored(random.real(experts, hidden)) if bias else None, None, None, None, one_zero, two_zero]
    attributes = dict(k=k, expert_weight_bits=bits, activation_type=activation, swiglu_fusion=fusion, **attributes)
    if block:
        attributes["block_size"] = block
    return node("QMoE", inputs, attributes)


variants(
    "qmoe", qmoe,
    b4=dict(), b8=dict(bits=8), b4_blocks=dict(block=16, activation="silu"), b4_zero=dict(zero=True, block=16), normalized=dict(normalize_routing_weights=1),
    swiglu=dict(activation="swiglu", fusion=1, activation_alpha=1.702, activation_beta=1.0, swiglu_limit=7.0),
)


# ---- normalisation ---------------------------------------------------------------------------------------------------


def simplified(random, domain="", kind="float32", outputs=1, axis=-1):
    inputs = [random.real(2, 3, 8, kind=kind), Stored(random.real(8, kind=kind))]
    return node("SimplifiedLayerNormalization", inputs, dict(axis=axis, epsilon=1e-6), domain=domain, outputs=outputs)


variants("simplified_layer_normalization", simplified, standard=dict(), half=dict(kind="float16"))


@case
def simplified_layer_normalization_microsoft(random):
    standard_one = simplified(random)
    return dict(standard_one, domain=MICROSOFT, same_as=lambda *_: run(*build(standard_one)))


def skip(random, op="SkipLayerNormalization", beta=True, bias=False, outputs=1, skip_shape=(2, 3, 8), kind="float32", shape=(2, 3, 8)):
    parts = [Stored(random.real(8, kind=kind))]
    if op == "SkipLayerNormalization":
        parts.append(Stored(random.real(8, kind=kind)) if beta else None)
    parts.append(Stored(random.real(8, kind=kind)) if bias else None)
    return node(op, [random.real(*shape, kind=kind), random.real(*skip_shape, kind=kind), *parts], dict(epsilon=1e-5), outputs=outputs, holes=(1, 2) if outputs == 4 else ())


RMS = "SkipSimplifiedLayerNormalization"
variants(
    "skip_layer_normalization", skip,
    plain=dict(), no_beta=dict(beta=False), bias=dict(bias=True), sum=dict(outputs=4, bias=True), broadcast=dict(skip_shape=(1, 3, 8)), matrix=dict(skip_shape=(3, 8)), rank2=dict(shape=(4, 8), skip_shape=(4, 8)),
)
variants(
    "skip_simplified_layer_normalization", skip,
    plain=dict(op=RMS), bias=dict(op=RMS, bias=True), sum=dict(op=RMS, outputs=4), broadcast=dict(op=RMS, skip_shape=(1, 3, 8)), half=dict(op=RMS, kind="float16", outputs=4),
)


def embed(random, segments=True, mask=False, positions=False, outputs=2):
    batch, s, hidden = 2, 3, 8
    inputs = [random.whole(0, 10, batch, s, kind="int32"), random.whole(0, 2, batch, s, kind="int32") if segments else None, Stored(random.real(10, hidden)), Stored(random.real(6, hidden))]
    inputs += [Stored(random.real(2, hidden)) if segments else None, Stored(random.real(hidden)), Stored(random.real(hidden))]
    inputs += [np.array([[1, 1, 0], [1, 1, 1]], "int32") if mask else None, random.whole(0, 6, batch, s, kind="int32") if positions else None]
    return node("EmbedLayerNormalization", inputs, dict(epsilon=1e-5), outputs=outputs)


variants("embed_layer_normalization", embed, plain=dict(), no_segments=dict(segments=False), mask=dict(mask=True), positions=dict(positions=True, outputs=3))


@case
def q_embed_layer_normalization(random):
    batch, s, hidden = 2, 3, 8
    bytes_of = lambda *shape: Stored(random.whole(0, 255, *shape, kind="uint8"))
    scales = [Stored(np.array(0.01 + 0.01 * at, "float32")) for at in range(5)]
    zeros = [Stored(np.array(120 + at, "uint8")) for at in range(5)]
    inputs = [random.whole(0, 10, batch, s, kind="int32"), random.whole(0, 2, batch, s, kind="int32"), bytes_of(10, hidden), bytes_of(6, hidden), bytes_of(2, hidden), bytes_of(hidden), bytes_of(hidden)]
    inputs += [np.array([[1, 1, 0], [1, 1, 1]], "int32"), *scales, *zeros]
    return node("QEmbedLayerNormalization", inputs, dict(epsilon=1e-5), outputs=2)


def group_norm(random, skip=None, activation=0, channels_last=1, bias=False, outputs=1):
    n, h, w, c, groups = 2, 3, 2, 8, 4
    x = random.real(*((n, h, w, c) if channels_last else (n, c, h, w)))
    inputs = [x, Stored(random.real(c)), Stored(random.real(c))]
    if skip:
        inputs.append(random.real(*{"full": (n, h, w, c), "flat": (n, c), "ones": (n, 1, 1, c)}[skip]))
        inputs.append(Stored(random.real(c)) if bias else None)

    def same_as(x, gamma, beta, skip=None, bias=None):
        total = x
        if skip is not None:
            total = x + skip.reshape(n, 1, 1, c) if skip.ndim == 2 else x + skip
        if bias is not None:
            total = total + bias
        image = total.transpose(0, 3, 1, 2) if channels_last else total
        steps = [("GroupNormalization", ["x", "g", "b"], "y", dict(num_groups=groups, epsilon=1e-5))]
        if activation:
            steps += [("Sigmoid", ["y"], "s"), ("Mul", ["y", "s"], "z")]
        (y,) = standard(*steps, inputs={"x": np.ascontiguousarray(image), "g": gamma, "b": beta}, outputs=("z" if activation else "y",))
        y = np.ascontiguousarray(y.transpose(0, 2, 3, 1)) if channels_last else y
        return [y, total.astype("float32")][:outputs]

    return node("SkipGroupNorm" if skip else "GroupNorm", inputs, dict(groups=groups, activation=activation, channels_last=channels_last, epsilon=1e-5), outputs=outputs, same_as=same_as)


variants(
    "group_norm", group_norm,
    last=dict(), first=dict(channels_last=0, activation=1), skip=dict(skip="full", bias=True, outputs=2, activation=1), skip_flat=dict(skip="flat"), skip_ones=dict(skip="ones", outputs=2),
)


def gated_rms_norm(random, activation):
    def same_as(x, scale, gate):
        rows = x.reshape(2, 3, 2, 4)
        steps = [
            ("Mul", ["x", "x"], "xx"), ("ReduceMean", ["xx", "axes"], "m", dict(keepdims=1)), ("Add", ["m", "e"], "v"), ("Sqrt", ["v"], "r"), ("Div", ["x", "r"], "n"),
            ("Mul", ["n", "s"], "ns"), ("Sigmoid", ["g"], "sg"), *([("Mul", ["g", "sg"], "a"), ("Mul", ["ns", "a"], "y")] if activation == "silu" else [("Mul", ["ns", "sg"], "y")]),
        ]
        (y,) = standard(*steps, inputs={"x": rows, "s": scale, "g": gate.reshape(rows.shape), "axes": np.array([3]), "e": np.array(1e-5, "float32")})
        return [y.reshape(x.shape)]

    return node("GatedRMSNorm", [random.real(2, 3, 8), Stored(random.real(4)), random.real(2, 3, 8)], dict(activation=activation, epsilon=1e-5), same_as=same_as)


variants("gated_rms_norm", gated_rms_norm, silu=dict(activation="silu"), sigmoid=dict(activation="sigmoid"))


# ---- elementwise -----------------------------------------------------------------------------------------------------


def elementwise(random, op, shapes=((2, 3, 8),), same_as=None, kind="float32", **attributes):
    return node(op, [random.real(*shape, kind=kind) for shape in shapes], attributes, same_as=same_as)


def split_gelu(x, bias):
    left, right = np.split(x + bias, 2, axis=-1)
    return standard(("Gelu", ["r"], "g"), ("Mul", ["l", "g"], "y"), inputs={"l": np.ascontiguousarray(left), "r": np.ascontiguousarray(right)})


def softmax_of_sum(inner):
    def same_as(x, bias):
        bias = bias.reshape(2, 1, 3, 5) if inner else bias.reshape(1, 4, 3, 5)
        return standard(("Add", ["x", "b"], "s"), ("Softmax", ["s"], "y", dict(axis=-1)), inputs={"x": x, "b": bias})
    return same_as


variants(
    "elementwise", elementwise,
    bias_gelu=dict(op="BiasGelu", shapes=((2, 3, 8), (8,))), fast_gelu=dict(op="FastGelu"), fast_gelu_bias=dict(op="FastGelu", shapes=((2, 3, 8), (8,))), gelu=dict(op="Gelu"),
    quick_gelu=dict(op="QuickGelu"), quick_gelu_alpha=dict(op="QuickGelu", alpha=0.5), bias_split_gelu=dict(op="BiasSplitGelu", shapes=((2, 3, 16), (16,)), same_as=split_gelu),
    bias_add=dict(op="BiasAdd", shapes=((2, 3, 8), (8,), (2, 3, 8)), same_as=lambda x, bias, skip: standard(("Sum", ["x", "b", "s"], "y"), inputs={"x": x, "b": bias, "s": skip})),
    bias_softmax=dict(op="BiasSoftmax", shapes=((2, 4, 3, 5), (1, 4, 3, 5)), axis=3, is_inner_broadcast=0, same_as=softmax_of_sum(False)),
    bias_softmax_inner=dict(op="BiasSoftmax", shapes=((2, 4, 3, 5), (2, 1, 3, 5)), axis=3, is_inner_broadcast=1, same_as=softmax_of_sum(True)),
    bias_dropout=dict(op="BiasDropout", shapes=((2, 3, 8), (8,), (2, 3, 8)), same_as=lambda x, bias, skip: standard(("Sum", ["x", "b", "s"], "y"), inputs={"x": x, "b": bias, "s": skip})),
)


@case
def scaled_silu(random):
    return node("ScaledSiLU", [random.real(2, 3, 4)], dict(alpha=1.5))


# ---- products and convolutions ---------------------------------------------------------------------------------------


def fused_matmul(random, op="FusedMatMul", a=(2, 3, 4), b=(2, 4, 5), **attributes):
    return node(op, [random.real(*a), random.real(*b)], attributes)


variants(
    "fused_matmul", fused_matmul,
    plain=dict(alpha=0.5), both=dict(a=(2, 4, 3), b=(2, 5, 4), transA=1, transB=1), batch_a=dict(a=(3, 2, 4), b=(2, 4, 5), transBatchA=1),
    batch_b=dict(b=(4, 2, 5), transBatchB=1), batch_both=dict(a=(4, 2, 3), b=(5, 2, 4), transA=1, transB=1, transBatchA=1, transBatchB=1, alpha=2.0), vector=dict(a=(4,), b=(4, 5), transA=1),
    old=dict(op="TransposeMatMul", b=(2, 5, 4), transB=1, alpha=2.0),
)


def fused_gemm(random, activation, c=(5,), **attributes):
    return node("FusedGemm", [random.real(4, 3), random.real(5, 4), random.real(*c) if c else None], dict(transA=1, transB=1, alpha=0.5, beta=2.0, activation=activation, **attributes))


variants(
    "fused_gemm", fused_gemm,
    relu=dict(activation="Relu"), leaky=dict(activation="LeakyRelu", activation_alpha=0.2), sigmoid=dict(activation="Sigmoid", c=(3, 1)), tanh=dict(activation="Tanh", c=()),
)


@case
def gemm_fast_gelu(random):
    same_as = lambda x, w, b: standard(("MatMul", ["x", "w"], "m"), ("Add", ["m", "b"], "a"), ("Gelu", ["a"], "y", dict(approximate="tanh")), inputs={"x": x, "w": w, "b": b})
    return node("GemmFastGelu", [random.real(2, 3, 4), Stored(random.real(4, 5)), Stored(random.real(5))], same_as=same_as)


def fused_conv(random, activation="Relu", params=None, z=False, bias=True, group=1, **attributes):
    x, w = random.real(1, 4, 6, 6), random.real(6, 4 // group, 3, 3)
    attributes = dict(activation=activation, pads=[1, 1, 1, 1], group=group, **attributes)
    if params:
        attributes["activation_params"] = params
    return node("FusedConv", [x, Stored(w), Stored(random.real(6)) if bias else None, random.real(1, 6, 6, 6) if z else None], attributes)


variants(
    "fused_conv", fused_conv,
    relu=dict(), add=dict(z=True), leaky=dict(activation="LeakyRelu", params=[0.1], group=2), clip=dict(activation="Clip", params=[-0.5, 0.7]), sigmoid=dict(activation="Sigmoid", bias=False),
    tanh=dict(activation="Tanh"), hard=dict(activation="HardSigmoid", params=[0.2, 0.5]), strided=dict(strides=[2, 2]),
)


def nhwc_conv(random, group=1, bias=True):
    x, w = random.real(1, 5, 5, 4), random.real(6, 3, 3, 4 // group)

    def same_as(x, w, b=None):
        image, kernel = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), np.ascontiguousarray(w.transpose(0, 3, 1, 2))
        steps = [("Conv", ["x", "w"] + ["b"] * (b is not None), "y", dict(pads=[1, 1, 1, 1], group=group))]
        values = {"x": image, "w": kernel} | ({"b": b} if b is not None else {})
        (y,) = standard(*steps, inputs=values)
        return [np.ascontiguousarray(y.transpose(0, 2, 3, 1))]

    return node("NhwcConv", [x, Stored(w), Stored(random.real(6)) if bias else None], dict(pads=[1, 1, 1, 1], group=group), same_as=same_as)


variants("nhwc_conv", nhwc_conv, plain=dict(), groups=dict(group=2, bias=False))


@case
def nhwc_max_pool(random):
    return node("NhwcMaxPool", [random.whole(-128, 128, 1, 5, 6, 3, kind="int8")], dict(kernel_shape=[2, 3], strides=[1, 2], pads=[0, 1, 1, 1]))


# ---- quantised -------------------------------------------------------------------------------------------------------


def scale(value):
    return Stored(np.array(value, "float32"))


def zero(value, kind):
    return Stored(np.array(value, kind))


def small(random, kind, *shape):
    limits = np.iinfo(kind)
    return random.whole(limits.min, limits.max + 1, *shape, kind=kind)


def qgemm(random, kinds=("uint8", "int8"), columns=False, is_real=False, bias=True, **attributes):
    m, k, n = 3, 8, 5
    a = small(random, kinds[0], *((k, m) if attributes.get("transA") else (m, k)))
    b = small(random, kinds[1], *((n, k) if attributes.get("transB") else (k, n)))
    per = [n] if columns else []
    inputs = [a, scale(0.02), zero(3, kinds[0]), Stored(b), Stored(random.positive(*per, low=0.01, high=0.04)), Stored(np.full(per, 2, kinds[1]))]
    inputs += [Stored(random.whole(-500, 500, n, kind="int32")) if bias else None]
    inputs += [None, None] if is_real else [scale(0.2), zero(100 if kinds[0] == "uint8" else 5, kinds[0])]
    return node("QGemm", inputs, attributes)


variants(
    "qgemm", qgemm,
    plain=dict(), columns=dict(columns=True, transB=1), real=dict(is_real=True, alpha=0.5), no_bias=dict(bias=False, transA=1), signed=dict(kinds=("int8", "int8")), unsigned=dict(kinds=("uint8", "uint8")),
)


def qlinear_matmul(random, kinds=("uint8", "int8", "uint8"), columns=False, shapes=((2, 3, 8), (8, 5))):
    per = [shapes[1][-1]] if columns else []
    inputs = [small(random, kinds[0], *shapes[0]), scale(0.02), zero(3, kinds[0]), Stored(small(random, kinds[1], *shapes[1])), Stored(random.positive(*per, low=0.01, high=0.04))]
    inputs += [Stored(np.full(per, 2, kinds[1])), scale(0.3), zero(100, kinds[2])]
    return node("QLinearMatMul", inputs, domain="")


variants("qlinear_matmul", qlinear_matmul, plain=dict(), columns=dict(columns=True), signed=dict(kinds=("int8", "int8", "int8")), batched=dict(shapes=((2, 3, 8), (2, 8, 5))))


def qlinear_conv(random, domain=MICROSOFT, channels_last=0, kinds=("uint8", "int8"), group=1, columns=False, **attributes):
    x = small(random, kinds[0], *((1, 5, 5, 4) if channels_last else (1, 4, 5, 5)))
    per = [6] if columns else []
    inputs = [x, scale(0.02), zero(3, kinds[0]), Stored(small(random, kinds[1], 6, 4 // group, 3, 3)), Stored(random.positive(*per, low=0.01, high=0.04)), Stored(np.zeros(per, kinds[1]))]
    inputs += [scale(0.3), zero(100, kinds[0]), Stored(random.whole(-300, 300, 6, kind="int32"))]
    extra = dict(channels_last=channels_last) if domain else {}
    return node("QLinearConv", inputs, dict(pads=[1, 1, 1, 1], group=group, **extra, **attributes), domain=domain)


variants("qlinear_conv", qlinear_conv, first=dict(), last=dict(channels_last=1), standard=dict(domain="", columns=True, group=2), strided=dict(strides=[2, 2], channels_last=1, columns=True))


def qlinear_binary(random, op, kind="uint8", shapes=((2, 3, 4), (2, 3, 4))):
    middle = 120 if kind == "uint8" else 4
    points = [zero(middle, kind), zero(middle - 3, kind), zero(middle + 5, kind)]
    inputs = [small(random, kind, *shapes[0]), scale(0.02), points[0], small(random, kind, *shapes[1]), scale(0.03), points[1], scale(0.05), points[2]]
    return node(op, inputs)


for one, op in (("add", "QLinearAdd"), ("mul", "QLinearMul")):
    variants(f"qlinear_{one}", qlinear_binary, unsigned=dict(op=op), signed=dict(op=op, kind="int8"), broadcast=dict(op=op, shapes=((2, 3, 4), (4,))))


def qlinear_unary(random, op, kind="uint8", shape=(2, 3, 4), out=(0.02, 100), **attributes):
    inputs = [small(random, kind, *shape), scale(0.03), zero(120 if kind == "uint8" else 4, kind), scale(out[0]), zero(out[1], kind)]
    return node(op, inputs, attributes)


IMAGE = (1, 3, 6, 6)
# A step with which no average lies half-way between two numbers.
UNTIED = (0.0213, 100)
variants(
    "qlinear", qlinear_unary,
    sigmoid=dict(op="QLinearSigmoid", out=(1 / 256, 0)), sigmoid_signed=dict(op="QLinearSigmoid", kind="int8", out=(1 / 256, -128)), leaky_relu=dict(op="QLinearLeakyRelu", alpha=0.1),
    softmax=dict(op="QLinearSoftmax", out=(1 / 256, 0), axis=-1, opset=13), softmax_axis=dict(op="QLinearSoftmax", out=(1 / 256, -128), kind="int8", axis=1, opset=13),
    softmax_old=dict(op="QLinearSoftmax", out=(1 / 256, 0), axis=1, opset=12),
    average_pool=dict(op="QLinearAveragePool", shape=IMAGE, out=UNTIED, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    average_pool_last=dict(op="QLinearAveragePool", shape=(1, 6, 6, 3), kernel_shape=[2, 2], channels_last=1, kind="int8", out=(0.0317, 3)),
    average_pool_counted=dict(op="QLinearAveragePool", shape=IMAGE, out=UNTIED, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    global_average_pool=dict(op="QLinearGlobalAveragePool", shape=IMAGE), global_average_pool_last=dict(op="QLinearGlobalAveragePool", shape=(1, 6, 6, 3), channels_last=1, kind="int8", out=(0.03, 3)),
)


@case
def qlinear_reduce_mean(random):
    def same_as(x, x_scale, x_zero, y_scale, y_zero):
        steps = [("DequantizeLinear", ["x", "s", "z"], "r"), ("ReduceMean", ["r", "a"], "m", dict(keepdims=1)), ("QuantizeLinear", ["m", "t", "u"], "y")]
        return standard(*steps, inputs={"x": x, "s": x_scale, "z": x_zero, "t": y_scale, "u": y_zero, "a": np.array([1])})
    made = qlinear_unary(random, "QLinearReduceMean", axes=[1], keepdims=1)
    return made | {"same_as": same_as}


@case
def qlinear_concat(random):
    part = lambda low, size: [small(random, "uint8", 2, size), scale(low), zero(100, "uint8")]
    return node("QLinearConcat", [scale(0.03), zero(120, "uint8"), *part(0.02, 3), *part(0.03, 4), *part(0.05, 2)], dict(axis=1))


@case
def qlinear_where(random):
    x, y = small(random, "uint8", 2, 3, 4), small(random, "uint8", 3, 4)
    return node("QLinearWhere", [random.whole(0, 2, 2, 3, 4).astype(bool), x, scale(0.02), zero(120, "uint8"), y, scale(0.03), zero(100, "uint8"), scale(0.04), zero(110, "uint8")])


def dynamic_quantize_matmul(random, kind="int8", columns=False, bias=False, point=True):
    per = [5] if columns else []
    inputs = [random.real(2, 3, 8), Stored(small(random, kind, 8, 5)), Stored(random.positive(*per, low=0.01, high=0.04)), Stored(np.full(per, 3, kind)) if point else None]
    return node("DynamicQuantizeMatMul", inputs + [Stored(random.real(5)) if bias else None])


variants("dynamic_quantize_matmul", dynamic_quantize_matmul, plain=dict(), unsigned=dict(kind="uint8"), columns=dict(columns=True, bias=True), no_zero=dict(point=False, bias=True))


def matmul_integer_to_float(random, kinds=("uint8", "int8"), columns=False, bias=False, point=True):
    per = [5] if columns else []
    inputs = [small(random, kinds[0], 2, 3, 8), Stored(small(random, kinds[1], 8, 5)), scale(0.02), Stored(random.positive(*per, low=0.01, high=0.04))]
    inputs += [zero(5, kinds[0]), Stored(np.full(per, 3, kinds[1]))] if point else [None, None]
    return node("MatMulIntegerToFloat", inputs + [Stored(random.real(5)) if bias else None])


variants("matmul_integer_to_float", matmul_integer_to_float, plain=dict(), columns=dict(columns=True, bias=True), no_zero=dict(point=False), signed=dict(kinds=("int8", "int8")))


def matmul_integer(random, kinds=("uint8", "int8"), columns=False):
    inputs = [small(random, kinds[0], 3, 8), Stored(small(random, kinds[1], 8, 5)), zero(5, kinds[0]), Stored(np.full([5] if columns else [], 3, kinds[1]))]
    return node("MatMulInteger", inputs, domain="")


variants("matmul_integer", matmul_integer, plain=dict(), columns=dict(columns=True), unsigned=dict(kinds=("uint8", "uint8")))


def dynamic_quantize_lstm(random, direction="forward", bias=True, initial=False, columns=False):
    s, batch, size, hidden = 3, 2, 6, 4
    count = 2 if direction == "bidirectional" else 1
    per = [count, 4 * hidden] if columns else [count]
    inputs = [random.real(s, batch, size), Stored(random.whole(-90, 90, count, size, 4 * hidden, kind="int8")), Stored(random.whole(-90, 90, count, hidden, 4 * hidden, kind="int8"))]
    inputs += [Stored(random.real(count, 8 * hidden)) if bias else None, None]
    inputs += [random.real(count, batch, hidden), random.real(count, batch, hidden)] if initial else [None, None]
    inputs += [None]
    for _ in range(2):
        inputs += [Stored(random.positive(*per, low=0.004, high=0.008)), Stored(np.zeros(per, "int8"))]
    return node("DynamicQuantizeLSTM", inputs, dict(hidden_size=hidden, direction=direction), outputs=3)


variants("dynamic_quantize_lstm", dynamic_quantize_lstm, forward=dict(), reverse=dict(direction="reverse", initial=True), both=dict(direction="bidirectional", columns=True, bias=False))


def quantize_linear(random, kind, op="QuantizeLinear", element=None, axis=None):
    per = [3] if axis is not None else []
    limits = {TensorProto.INT4: (-8, 8), TensorProto.UINT4: (0, 16)}.get(element) or (np.iinfo(kind).min, np.iinfo(kind).max + 1)
    point = Stored(np.full(per, limits[0] + 3), element) if element else Stored(np.full(per, 3, kind))
    scales = Stored(random.positive(*per, low=0.01, high=0.3))
    attributes = {} if axis is None else dict(axis=axis)
    if op == "QuantizeLinear":
        return node(op, [random.real(2, 3, 4), scales, point], attributes)
    codes = random.whole(*limits, 2, 3, 4)
    return node(op, [Stored(codes, element) if element else codes.astype(kind), scales, point], attributes)


variants("quantize_linear", quantize_linear, u16=dict(kind="uint16"), i16=dict(kind="int16", axis=1), u8=dict(kind="uint8"), i8=dict(kind="int8", axis=1))
variants(
    "dequantize_linear", quantize_linear,
    u16=dict(kind="uint16", op="DequantizeLinear"), i16=dict(kind="int16", op="DequantizeLinear", axis=1), u8=dict(kind="uint8", op="DequantizeLinear"),
    i4=dict(kind=None, op="DequantizeLinear", element=TensorProto.INT4), u4=dict(kind=None, op="DequantizeLinear", element=TensorProto.UINT4, axis=1), i32=dict(kind="int8", op="DequantizeLinear", axis=1),
)


# ---- others ----------------------------------------------------------------------------------------------------------


def trilu(random, upper, k):
    return node("Trilu", [random.real(2, 4, 5), Stored(np.array(k))], dict(upper=upper))


variants("trilu", trilu, upper=dict(upper=1, k=1), lower=dict(upper=0, k=-1))


@case
def gather_nd(random):
    return node("GatherND", [random.real(3, 4, 5), Stored(random.whole(0, 3, 6, 2))])


def pad(random, mode, value=False):
    return node("Pad", [random.real(3, 4), Stored(np.array([1, 2, 0, 1])), Stored(np.array([2.5], "float32")) if value else None], dict(mode=mode))


variants("pad", pad, constant=dict(mode="constant", value=True), reflect=dict(mode="reflect"), edge=dict(mode="edge"))


@case
def expand_dims(random):
    return node("ExpandDims", [random.real(3, 4), Stored(np.array(-1, "int32"))])


def c_dist(random, metric):
    return node("CDist", [random.real(4, 6), random.real(5, 6)], dict(metric=metric))


variants("c_dist", c_dist, euclidean=dict(metric="euclidean"), squared=dict(metric="sqeuclidean"))


@case
def fused_matmul_activation(random):
    def same_as(x, w):
        steps = ("Transpose", ["w"], "t", dict(perm=[1, 0])), ("MatMul", ["x", "t"], "p"), ("LeakyRelu", ["p"], "y", dict(alpha=0.2))
        return standard(*steps, inputs=dict(x=x, w=w))

    inputs = [random.real(2, 3, 8), Stored(random.real(5, 8))]
    return node("FusedMatMulActivation", inputs, dict(activation="LeakyRelu", activation_alpha=0.2, transB=1), same_as=same_as)


@case
def nhwc_fused_conv(random):
    def same_as(x, w, bias):
        steps = [("Transpose", ["x"], "c", dict(perm=[0, 3, 1, 2])), ("Transpose", ["w"], "v", dict(perm=[0, 3, 1, 2]))]
        steps += [("Conv", ["c", "v", "b"], "o", dict(pads=[1, 1, 1, 1])), ("Relu", ["o"], "r"), ("Transpose", ["r"], "y", dict(perm=[0, 2, 3, 1]))]
        return standard(*steps, inputs=dict(x=x, w=w, b=bias))

    inputs = [random.real(1, 5, 6, 4), Stored(random.real(6, 3, 3, 4)), Stored(random.real(6))]
    return node("NhwcFusedConv", inputs, dict(pads=[1, 1, 1, 1], activation="Relu"), same_as=same_as)


variants("global_lp_pool", lambda random, p: node("GlobalLpPool", [random.real(2, 3, 4, 5)], dict(p=p), domain=""), one=dict(p=1), two=dict(p=2))


@case
def max_roi_pool(random):
    rois = np.array([[0, 0, 0, 7, 7], [1, 2, 1, 5, 6], [0, 3, 3, 3, 4]], "float32")
    return node("MaxRoiPool", [random.real(2, 3, 8, 8), Stored(rois)], dict(pooled_shape=[2, 3], spatial_scale=0.75), domain="")


def roi_align(random, mode="avg", half="half_pixel", regions=([0, 0, 7, 7], [1.5, 2, 2.25, 6], [3, 3, 3.5, 3.25], [-4, -3, 20, 11]), **attributes):
    rois = np.array(regions, "float32")
    at = np.arange(len(rois)) % 2
    attributes = dict(mode=mode, coordinate_transformation_mode=half, output_height=2, output_width=3, **attributes)
    return node("RoiAlign", [random.real(2, 3, 8, 9), rois, at], attributes, domain="")


# Without sampling_ratio a bin has as many points as the region is large.
variants(
    "roi_align", roi_align,
    adaptive=dict(), adaptive_scaled=dict(spatial_scale=0.5), adaptive_whole=dict(half="output_half_pixel"), adaptive_max=dict(mode="max"), fixed=dict(sampling_ratio=2, spatial_scale=0.75),
)


# ---- learned models ----------------------------------------------------------------------------------------------------


def forest(random, trees=3, depth=3, features=4, targets=2, kind="target", modes=("BRANCH_LEQ",), missing=False, positive=False):
    """Complete trees; every leaf has one or two weights."""
    nodes = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")}
    leaves = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    inner, count = (1 << depth) - 1, (1 << (depth + 1)) - 1
    for tree in range(trees):
        for at in range(count):
            is_leaf = at >= inner
            row = [tree, at, int(random.whole(0, features)), float(np.float32(random.real())), "LEAF" if is_leaf else modes[at % len(modes)]]
            row += [0, 0, 0] if is_leaf else [2 * at + 1, 2 * at + 2, int(missing and at % 2)]
            for name, value in zip(nodes, row):
                nodes[name].append(value)
            if is_leaf:
                for target in {int(random.whole(0, targets)), at % targets}:
                    weight = float(np.float32(random.real()))
                    for name, value in zip(leaves, [tree, at, target, abs(weight) / trees if positive else weight]):
                        leaves[name].append(value)
    if not missing:
        del nodes["missing_value_tracks_true"]
    return {**{f"nodes_{name}": values for name, values in nodes.items()}, **{f"{kind}_{name}": values for name, values in leaves.items()}}


def with_gaps(values, every=5):
    values.reshape(-1)[::every] = np.nan
    return values


def tree_ensemble_regressor(random, targets=2, missing=False, modes=("BRANCH_LEQ",), **attributes):
    x = random.real(6, 4)
    given = forest(random, targets=targets, missing=missing, modes=modes)
    return node("TreeEnsembleRegressor", [with_gaps(x) if missing else x], dict(n_targets=targets, **given, **attributes), domain=LEARNED)


variants(
    "tree_ensemble_regressor", tree_ensemble_regressor,
    sum=dict(base_values=[0.5, -0.25]), average=dict(aggregate_function="AVERAGE"), least=dict(aggregate_function="MIN"), most=dict(aggregate_function="MAX"),
    modes=dict(modes=("BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_LEQ")), missing=dict(missing=True), softmax=dict(post_transform="SOFTMAX"), one=dict(targets=1),
)


def labels_of(labels, whole):
    return {"classlabels_strings" if isinstance(labels[0], str) else whole: list(labels)}


def tree_ensemble_classifier(random, labels=(3, 5, 9), targets=3, positive=False, named=None, **attributes):
    given = forest(random, targets=targets, kind="class", positive=positive)
    if named is not None:
        given["class_ids"] = [named] * len(given["class_ids"])
    attributes = dict(**labels_of(labels, "classlabels_int64s"), **given, **attributes)
    return node("TreeEnsembleClassifier", [random.real(6, 4)], attributes, outputs=2, domain=LEARNED)


variants(
    "tree_ensemble_classifier", tree_ensemble_classifier,
    plain=dict(), softmax=dict(post_transform="SOFTMAX"), logistic=dict(post_transform="LOGISTIC"), base=dict(base_values=[0.5, -0.5, 0.25]),
    two=dict(labels=(0, 1), targets=2), binary=dict(labels=(0, 1), targets=1),
    binary_logistic=dict(labels=(0, 1), targets=1, post_transform="LOGISTIC"), binary_softmax=dict(labels=(0, 1), targets=1, post_transform="SOFTMAX"),
    strings=dict(labels=("one", "two", "three")), binary_strings=dict(labels=("no", "yes"), targets=1),
    second=dict(labels=(7, 9), targets=1, named=1), second_positive=dict(labels=(7, 9), targets=1, named=1, positive=True),
    second_logistic=dict(labels=("no", "yes"), targets=1, named=1, post_transform="LOGISTIC"), second_softmax=dict(labels=(7, 9), targets=1, named=1, post_transform="SOFTMAX"),
    binary_positive=dict(labels=(0, 1), targets=1, positive=True), binary_positive_logistic=dict(labels=(0, 1), targets=1, positive=True, post_transform="LOGISTIC"),
)


def linear_classifier(random, rows=3, labels=(4, 7, 9), **attributes):
    given = dict(coefficients=random.real(rows, 4).flatten().tolist(), intercepts=random.real(rows).tolist(), **labels_of(labels, "classlabels_ints"))
    return node("LinearClassifier", [random.real(5, 4)], dict(**given, **attributes), outputs=2, domain=LEARNED)


variants(
    "linear_classifier", linear_classifier,
    plain=dict(), softmax=dict(post_transform="SOFTMAX"), logistic=dict(post_transform="LOGISTIC"), binary=dict(rows=2, labels=(0, 1)),
    strings=dict(labels=("one", "two", "three")), one_strings=dict(rows=1, labels=("no", "yes")),
    binary_logistic=dict(rows=2, labels=(0, 1), post_transform="LOGISTIC"),
    one=dict(rows=1, labels=(0, 1)), one_logistic=dict(rows=1, labels=(0, 1), post_transform="LOGISTIC"), one_softmax=dict(rows=1, labels=(0, 1), post_transform="SOFTMAX"),
)


def linear_regressor(random, targets=2, **attributes):
    given = dict(coefficients=random.real(targets, 4).flatten().tolist(), intercepts=random.real(targets).tolist(), targets=targets)
    return node("LinearRegressor", [random.real(5, 4)], dict(**given, **attributes), domain=LEARNED)


variants("linear_regressor", linear_regressor, plain=dict(), one=dict(targets=1), softmax=dict(post_transform="SOFTMAX"))


@case
def feature_vectorizer(random):
    return node("FeatureVectorizer", [random.real(3, 2), random.real(3, 4)], dict(inputdimensions=[2, 4]), domain=LEARNED)


@case
def imputer_float(random):
    return node("Imputer", [with_gaps(random.real(3, 4))], dict(imputed_value_floats=[0.5, 1.0, -1.0, 2.0], replaced_value_float=float("nan")), domain=LEARNED)


@case
def imputer_whole(random):
    return node("Imputer", [random.whole(0, 3, 3, 4)], dict(imputed_value_int64s=[7], replaced_value_int64=1), domain=LEARNED)


def label_encoder(random, x, **attributes):
    return node("LabelEncoder", [np.asarray(x)], attributes, domain=LEARNED)


variants(
    "label_encoder", label_encoder,
    to_float=dict(x=np.array([3, 1, 8, 3]), keys_int64s=[1, 3], values_floats=[0.5, -1.5], default_float=9.0),
    to_whole=dict(x=np.array([0.5, 1.5, 7.0], "float32"), keys_floats=[1.5, 0.5], values_int64s=[10, 20], default_int64=-3),
    floats=dict(x=np.array([[0.5, 1.5], [7.0, 0.5]], "float32"), keys_floats=[1.5, 0.5], values_floats=[2.5, 4.5]),
    whole=dict(x=np.array([[4, 5], [6, 4]]), keys_int64s=[4, 6], values_int64s=[40, 60]),
)
variants("normalizer", lambda random, norm: node("Normalizer", [random.real(4, 5)], dict(norm=norm), domain=LEARNED), most=dict(norm="MAX"), l1=dict(norm="L1"), l2=dict(norm="L2"))


def scaler(random, count):
    return node("Scaler", [random.real(3, 4)], dict(offset=random.real(count).tolist(), scale=random.positive(count).tolist()), domain=LEARNED)


variants("scaler", scaler, each=dict(count=4), all=dict(count=1))


# ---- strings -----------------------------------------------------------------------------------------------------------


def string_normalizer(random, x=("To", "be", "or", "NOT", "to", "BE", "été"), **attributes):
    # The locale is one that every system has. Letters that become several in another case are not among these: ONNX Runtime leaves them.
    return node("StringNormalizer", [np.array(x)], dict(locale="C.UTF-8", **attributes), domain="")


variants(
    "string_normalizer", string_normalizer,
    plain=dict(), lower=dict(case_change_action="LOWER"), upper=dict(case_change_action="UPPER"),
    stop=dict(stopwords=["TO", "Or", "é"]), stop_sensitive=dict(stopwords=["to", "Or", "BE"], is_case_sensitive=1),
    stop_lower=dict(stopwords=["TO", "ÉTÉ"], case_change_action="LOWER"), stop_upper=dict(stopwords=["to", "été"], case_change_action="UPPER"),
    stop_sensitive_upper=dict(stopwords=["to"], is_case_sensitive=1, case_change_action="UPPER"),
    row=dict(x=[["A", "b", "c"]], stopwords=["a"]), nothing=dict(x=[["A", "b"]], stopwords=["a", "b"]),
)


def look_up(random, op, x=("a", "bb", "c", "", "b"), domain=LEARNED, **attributes):
    return node(op, [np.array(x)], attributes, domain=domain)


variants(
    "look_up", look_up,
    to_whole=dict(op="LabelEncoder", keys_strings=["bb", "", "c"], values_int64s=[5, 7, 9], default_int64=3),
    to_float=dict(op="LabelEncoder", x=[["a"], ["b"]], keys_strings=["a", "c"], values_floats=[0.5, 1.5]),
    to_string=dict(op="LabelEncoder", keys_strings=["a", "bb"], values_strings=["first", "2"], default_string="anything else"),
    from_whole=dict(op="LabelEncoder", x=[3, 1, 8, 3], keys_int64s=[1, 3], values_strings=["one", "three"]),
    from_float=dict(op="LabelEncoder", x=np.array([0.5, 1.5, 7.0], "float32"), keys_floats=[1.5, 0.5], values_strings=["x", "yy"], default_string=""),
    mapper=dict(op="CategoryMapper", cats_strings=["a", "bb", "c"], cats_int64s=[10, 20, 30], default_int64=-7),
    mapper_back=dict(op="CategoryMapper", x=[20, 1, 10], cats_strings=["a", "bb", "c"], cats_int64s=[10, 20, 30], default_string="none"),
    one_hot=dict(op="OneHotEncoder", x=[["a", "c"], ["b", "bb"]], cats_strings=["c", "a", "bb"], zeros=1),
    one_hot_whole=dict(op="OneHotEncoder", x=[[1], [4], [2]], cats_int64s=[4, 1], zeros=1),
)


def words(random, mode, x=("to", "be", "or", "not", "to", "be"), **attributes):
    given = dict(pool_strings=["to", "be", "or", "not", "to", "be", "or", "not"], ngram_counts=[0, 4], ngram_indexes=[0, 3, 1, 2, 5, 4])
    return node("TfIdfVectorizer", [np.array(x)], dict(mode=mode, min_gram_length=1, max_gram_length=2, max_skip_count=1, **given, **attributes), domain="")


variants("words", words, tf=dict(mode="TF"), idf=dict(mode="IDF", weights=[0.5, 1.0, 2.0, 3.0, 4.0, 5.0]), rows=dict(mode="TFIDF", x=[["to", "be"], ["or", "not"]]))


def concat_strings(random, a, b):
    return node("StringConcat", [np.array(a), np.array(b)], domain="", opset=20)


variants("string_concat", concat_strings, rows=dict(a=[["a", ""], ["日本", "d"]], b=["x", "y: "]), one=dict(a="to be", b=["", " or"]))


def moved(random, op, x=(["a", "bb"], ["", "dddd"], ["e", "日本"]), rest=(), attributes=None, outputs=1, opset=18, first=()):
    return node(op, [*[np.asarray(value) for value in first], np.array(x), *[value if isinstance(value, Stored) else np.array(value) for value in rest]], attributes, domain="", opset=opset, outputs=outputs)


variants(
    "strings_moved", moved,
    reshape=dict(op="Reshape", rest=[Stored(np.array([2, -1]))]), transpose=dict(op="Transpose"), flatten=dict(op="Flatten", attributes=dict(axis=0)),
    # Of rows of strings ONNX Runtime 1.31 gathers the first one only.
    gather=dict(op="Gather", x=["a", "bb", "日本"], rest=[np.array([[-1, 0], [1, 0]])]), slice=dict(op="Slice", rest=[Stored(np.array([2])), Stored(np.array([-4])), Stored(np.array([0])), Stored(np.array([-1]))]),
    concat=dict(op="Concat", rest=[[["much longer", "y"]]], attributes=dict(axis=0)), where=dict(op="Where", first=[np.array([[True], [False], [True]])], rest=[["other", ""]]),
    expand=dict(op="Expand", x=["a", "b"], rest=[Stored(np.array([3, 2]))]), split=dict(op="Split", rest=[Stored(np.array([1, 2]))], outputs=2),
    shape=dict(op="Shape"), size=dict(op="Size"), equal=dict(op="Equal", rest=[["e", "dddd"]], opset=19),
)


@case
def array_feature_extractor_strings(random):
    return node("ArrayFeatureExtractor", [np.array([["a", "bb", "c"], ["d", "e", "f"]]), np.array([2, 0])], domain=LEARNED)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=".", help="folder that receives one folder per case")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("names", nargs="*", help="beginnings of names; none means all")
    arguments = parser.parse_args()
    chosen = [name for name in CASES if not arguments.names or name.startswith(tuple(arguments.names))]
    if arguments.list:
        print("\n".join(chosen))
        return 0
    failed = []
    for name in chosen:
        # ONNX Runtime may refuse in any way, crashes included; the others are still made.
        worker = multiprocessing.get_context("fork").Process(target=write, args=(name, arguments.out))
        worker.start()
        worker.join()
        if worker.exitcode:
            failed.append(name)
            print(f"{name}: FAILED with {worker.exitcode}", flush=True)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} cases")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
