"""Export tiny models with random weights by the exporters that people use, with ONNX Runtime's outputs, as parity cases.

    python export_tiny.py --out DIR                    every case of the table
    python export_tiny.py --out DIR qwen3 genai-phi3   cases whose names begin so
    python export_tiny.py --list

A case is a folder: model.onnx, input_K.npy and output_K.npy in graph order, meta.json; models with a KV cache also have the sets
`prefill_p0` (an empty cache) and `decode_s1` (one token on a cache). Weights and inputs come from fixed seeds. A case that an
exporter refuses is reported at the end with its error, and the exit code is 1.

Needs: torch, torchvision, transformers 5, onnx, onnxscript, onnxruntime, onnxruntime-genai. Written against torch 2.15,
transformers 5.23, onnxruntime 1.31, onnxruntime-genai 0.18; no network.
"""
import argparse
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch
import transformers

TOKENIZER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "story-3m")
VOCABULARY, LAYERS, HEADS, KV_HEADS, HEAD_SIZE, WINDOW = 256, 2, 4, 2, 16, 128
# What every language model here shares; the names are those of transformers' configurations.
SHAPE = dict(
    vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    num_key_value_heads=KV_HEADS, head_dim=HEAD_SIZE, max_position_embeddings=WINDOW, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)
# Longrope factors: one per pair of rotated channels. `type` is the older name, which onnxruntime-genai reads.
LONGROPE = dict(
    rope_type="longrope", type="longrope", rope_theta=10000.0, original_max_position_embeddings=32,
    short_factor=[1.0 + 0.01 * i for i in range(HEAD_SIZE // 2)], long_factor=[1.0 + 0.5 * i for i in range(HEAD_SIZE // 2)],
)
# Name: configuration class, model class, what differs from SHAPE.
LANGUAGE_MODELS = {
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", dict(sliding_window=8, query_pre_attn_scalar=16)),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", dict(sliding_window=8, query_pre_attn_scalar=16)),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", {}),
    "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM", dict(no_rope_layer_interval=2)),
    "granite": ("GraniteConfig", "GraniteForCausalLM", dict(embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22, attention_multiplier=0.0625)),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {}),
    "phi4mini": ("Phi3Config", "Phi3ForCausalLM", dict(rope_parameters={**LONGROPE, "partial_rotary_factor": 1.0}, original_max_position_embeddings=32, tie_word_embeddings=True)),
    "mistral": ("MistralConfig", "MistralForCausalLM", dict(sliding_window=8)),
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "llama31": ("LlamaConfig", "LlamaForCausalLM", dict(rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", dict(tie_word_embeddings=True)),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", {}),
    "stablelm": ("StableLmConfig", "StableLmForCausalLM", dict(partial_rotary_factor=0.25)),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", dict(n_embd=64, n_layer=LAYERS, n_head=HEADS, n_positions=WINDOW)),
    "gptneox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", dict(num_key_value_heads=None)),
}
TORCH_LANGUAGE_MODELS = [(name, opset) for name in LANGUAGE_MODELS for opset in (18, 24)]
GENAI_MODELS = [
    (name, precision)
    for name in ("qwen3", "phi3", "gemma2", "gemma", "granite", "smollm3", "mistral", "llama31", "phi4mini", "qwen2")
    for precision in ("fp32", "int4")
]
# What onnxruntime-genai needs to be otherwise: it takes Phi-3 without an original context for longrope, and fails on layers
# without RoPE (SmolLM3 has one in four, so none in two) and on Gemma 3 with transformers 5.
# A sliding window would make Gemma 2's cache a ring of the window's size, for which these inputs are not made.
GENAI_DIFFERS = {
    "phi3": dict(original_max_position_embeddings=WINDOW),
    "smollm3": dict(no_rope_layer_interval=4),
    "gemma2": dict(layer_types=["full_attention"] * LAYERS),
}
# Which finished cases are quantised, and how.
QUANTISED = [
    (base, kind)
    for base in ("qwen3-torch18", "gemma3-torch18", "bert-torch18", "convnext-torch18", "resnet50-torch18", "whisper-decoder-torch18")
    # ONNX Runtime has no ConvInteger for signed weights.
    for kind in ("qdq-i8", "qop-u8i8", "dyn-u8" if base.startswith(("convnext", "resnet50")) else "dyn-i8", "mnb4-qop", "mnb4-qdq")
]


# ---- models ----------------------------------------------------------------------------------------------------------


def language_model(name, **further):
    """A random model of the table; norm weights are spread, so that a forgotten one is seen."""
    config_class, model_class, differs = LANGUAGE_MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**{**SHAPE, **differs, **further})
    # Gemma 2 caps its attention scores, which PyTorch's fused attention cannot.
    config._attn_implementation = "eager" if name == "gemma2" else "sdpa"
    model = getattr(transformers, model_class)(config).eval()
    spread_norms(model)
    return model


def spread_norms(model):
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)


class WithCache(torch.nn.Module):
    """The cache as plain tensors in and out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        cache = transformers.DynamicCache([(past[2 * i], past[2 * i + 1]) for i in range(LAYERS)])
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache, use_cache=True)
        return (out.logits, *[tensor for layer in out.past_key_values.layers for tensor in (layer.keys, layer.values)])


class WhisperDecoder(torch.nn.Module):
    """One step of a speech decoder without a cache: causal self-attention and cross-attention."""

    def __init__(self):
        super().__init__()
        config = transformers.WhisperConfig(
            vocab_size=VOCABULARY, d_model=64, decoder_layers=LAYERS, decoder_attention_heads=HEADS, decoder_ffn_dim=128, encoder_layers=1,
            encoder_attention_heads=HEADS, encoder_ffn_dim=128, max_target_positions=WINDOW, num_mel_bins=16, max_source_positions=50,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )
        config._attn_implementation = "sdpa"
        self.model = transformers.WhisperForConditionalGeneration(config)

    def forward(self, input_ids, encoder_hidden_states):
        out = self.model.model.decoder(input_ids=input_ids, encoder_hidden_states=encoder_hidden_states, use_cache=False)
        return self.model.proj_out(out.last_hidden_state)


def bert():
    config = transformers.BertConfig(vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=128, max_position_embeddings=WINDOW)
    config._attn_implementation = "sdpa"
    return transformers.BertModel(config, add_pooling_layer=True)


def vision(name):
    """Torchvision's networks and those of transformers, in miniature."""
    import torchvision.models as zoo
    if name == "efficientnet":
        return transformers.EfficientNetForImageClassification(transformers.EfficientNetConfig(
            image_size=64, width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320, num_labels=10))
    if name == "convnext":
        return transformers.ConvNextForImageClassification(transformers.ConvNextConfig(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1], image_size=64, num_labels=10))
    if name == "swin":
        config = transformers.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=10)
        config._attn_implementation = "eager"
        return transformers.SwinForImageClassification(config)
    if name == "resnet50":
        return transformers.ResNetForImageClassification(transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 2, 1], layer_type="bottleneck", num_labels=10))
    if name == "shufflenet":
        return zoo.ShuffleNetV2([1, 2, 1], [8, 16, 32, 64, 64], num_classes=10)
    if name == "vit":
        return zoo.VisionTransformer(image_size=32, patch_size=8, num_layers=LAYERS, num_heads=HEADS, hidden_dim=64, mlp_dim=128, num_classes=10)
    raise KeyError(name)


VISION = {"efficientnet": 64, "convnext": 64, "swin": 32, "resnet50": 64, "shufflenet": 64, "vit": 32}


# ---- inputs and cases ------------------------------------------------------------------------------------------------


def random(shape, seed, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def token_ids(count, seed=1):
    return np.random.default_rng(seed).integers(3, VOCABULARY, (1, count), dtype=np.int64)


def cache_feeds(inputs, sequence, past):
    """Feeds for a model with a KV cache, by the inputs' names and types."""
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    feeds = {}
    for index, entry in enumerate(inputs):
        if entry.name.startswith("past_key_values"):
            # onnxruntime-genai names the last dimension instead of giving it.
            size = entry.shape[3] if isinstance(entry.shape[3], int) else HEAD_SIZE
            value = random([1, entry.shape[1], past, size], 100 + index, 0.5)
        elif entry.name == "input_ids":
            value = token_ids(sequence)
        elif entry.name == "attention_mask":
            value = np.ones([1, past + sequence])
        elif entry.name == "position_ids":
            value = np.arange(past, past + sequence)[None]
        else:
            raise ValueError(f"no feed for the input {entry.name}")
        feeds[entry.name] = value.astype(types[entry.type])
    return feeds


def session(model_path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])


def write_set(folder, running, feeds):
    os.makedirs(folder, exist_ok=True)
    outputs = running.run(None, feeds)
    for index, entry in enumerate(running.get_inputs()):
        np.save(os.path.join(folder, f"input_{index}.npy"), feeds[entry.name])
    for index, value in enumerate(outputs):
        np.save(os.path.join(folder, f"output_{index}.npy"), value)
    return outputs


def write_case(folder, model, feeds, meta, cached=False):
    """`model` is a ModelProto. Writes the folder anew; returns ONNX Runtime's outputs."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for graph_node in model.graph.node:
        keep = [(entry.key, entry.value) for entry in graph_node.metadata_props if "stack_trace" not in entry.key]
        del graph_node.metadata_props[:]
        for key, value in keep:
            graph_node.metadata_props.add(key=key, value=value)
    path = os.path.join(folder, "model.onnx")
    onnx.save(model, path)
    running = session(path)
    if cached:
        feeds = cache_feeds(running.get_inputs(), 4, 6)
    outputs = write_set(folder, running, feeds)
    if cached:
        write_set(os.path.join(folder, "prefill_p0"), running, cache_feeds(running.get_inputs(), 7, 0))
        write_set(os.path.join(folder, "decode_s1"), running, cache_feeds(running.get_inputs(), 1, 9))
    described = {
        **meta,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [{"name": entry.name, "shape": list(feeds[entry.name].shape), "dtype": str(feeds[entry.name].dtype)} for entry in running.get_inputs()],
        "outputs": [{"name": entry.name, "shape": list(value.shape), "dtype": str(value.dtype)} for entry, value in zip(running.get_outputs(), outputs)],
    }
    with open(os.path.join(folder, "meta.json"), "w", encoding="utf-8") as file:
        json.dump(described, file, indent=1)
    return outputs


# ---- exporters -------------------------------------------------------------------------------------------------------


def torch_export(module, arguments, inputs, outputs, dynamic, opset, folder, cached=False):
    """torch.onnx.export through torch.export; checked against PyTorch."""
    spread_norms(module)
    module.eval()
    with torch.no_grad():
        expected = module(*arguments)
    expected = expected if isinstance(expected, tuple) else (expected,)
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, arguments, None, input_names=inputs, output_names=outputs, dynamic_shapes=dynamic, opset_version=opset, dynamo=True, verbose=False)
    flat = [tensor.numpy() for argument in arguments for tensor in (argument if isinstance(argument, list) else [argument])]
    meta = {"exporter": f"torch.onnx.export dynamo torch {torch.__version__}, transformers {transformers.__version__}"}
    got = write_case(folder, program.model_proto, dict(zip(inputs, flat)), meta, cached)
    if not cached:
        worst = max(float(np.abs(one - other.numpy()).max()) for one, other in zip(got, expected))
        assert worst < 1e-3, f"ONNX Runtime and PyTorch differ by {worst}"


def torch_language_model(name, opset, folder):
    model = WithCache(language_model(name))
    sequence, past_length = 4, 6
    heads = model.model.config.num_attention_heads if name in ("gpt2", "gptneox") else KV_HEADS
    past = [torch.from_numpy(random([1, heads, past_length, HEAD_SIZE], 100 + i, 0.5)) for i in range(2 * LAYERS)]
    total = past_length + sequence
    arguments = (torch.from_numpy(token_ids(sequence)), torch.ones(1, total, dtype=torch.int64), torch.arange(past_length, total)[None], past)
    dynamic = ({0: "batch", 1: "seq"}, {0: "batch", 1: "total_seq"}, {0: "batch", 1: "seq"}, [{0: "batch", 2: "past_seq"} for _ in past])
    cache_names = [f"{{}}.{layer}.{kind}" for layer in range(LAYERS) for kind in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids", *[one.format("past_key_values") for one in cache_names]]
    outputs = ["logits", *[one.format("present") for one in cache_names]]
    torch_export(model, arguments, inputs, outputs, dynamic, opset, folder, cached=True)


def torch_bert(opset, folder):
    torch.manual_seed(0)
    arguments = (torch.from_numpy(token_ids(12)), torch.ones(1, 12, dtype=torch.int64), torch.zeros(1, 12, dtype=torch.int64))
    dynamic = tuple({0: "batch", 1: "seq"} for _ in arguments)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = bert()

        def forward(self, input_ids, attention_mask, token_type_ids):
            out = self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return out.last_hidden_state, out.pooler_output

    torch_export(Plain(), arguments, ["input_ids", "attention_mask", "token_type_ids"], ["last_hidden_state", "pooler_output"], dynamic, opset, folder)


def torch_whisper_decoder(opset, folder):
    torch.manual_seed(0)
    arguments = (torch.from_numpy(token_ids(5)), torch.from_numpy(random([1, 50, 64], 7)))
    dynamic = ({0: "batch", 1: "seq"}, {0: "batch"})
    torch_export(WhisperDecoder(), arguments, ["input_ids", "encoder_hidden_states"], ["logits"], dynamic, opset, folder)


def torch_vision(name, opset, folder):
    torch.manual_seed(0)
    network = vision(name)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            out = self.network(x)
            return out if isinstance(out, torch.Tensor) else out.logits

    size = VISION[name]
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    image = torch.from_numpy(random([1, 3, size, size], 8))
    torch_export(Plain(), (image,), ["x"], ["logits"], None if name == "swin" else ({0: "batch"},), opset, folder)


def genai(name, precision, folder):
    """The model builder of onnxruntime-genai, as a user calls it."""
    with tempfile.TemporaryDirectory() as scratch:
        source, built = os.path.join(scratch, "source"), os.path.join(scratch, "built")
        model = language_model(name, **GENAI_DIFFERS.get(name, {}))
        model.save_pretrained(source)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(TOKENIZER, file), source)
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", built, "-p", precision, "-e", "cpu", "-c", os.path.join(scratch, "cache")]
        if precision == "int4":
            command += ["--extra_options", "int4_block_size=32"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode:
            raise RuntimeError("the builder failed: " + " ".join(done.stderr.strip().splitlines()[-3:]))
        import importlib.metadata
        meta = {"exporter": f"onnxruntime-genai {importlib.metadata.version('onnxruntime-genai')}", "precision": precision}
        with open(os.path.join(built, "genai_config.json"), encoding="utf-8") as file:
            meta["genai_config"] = json.load(file)
        write_case(folder, onnx.load(os.path.join(built, "model.onnx")), None, meta, cached=True)


class Calibration:
    """Four samples of the base case's inputs, floats replaced by fresh random values."""

    def __init__(self, feeds):
        self.samples = iter([
            {name: random(value.shape, 50 + index, 1.0) if value.dtype == np.float32 else value for name, value in feeds.items()}
            for index in range(4)
        ])

    def get_next(self):
        return next(self.samples, None)


def quantise(base, kind, folder, out):
    """onnxruntime.quantization on a finished case."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(Calibration)
    source = os.path.join(out, base)
    names = [entry.name for entry in session(os.path.join(source, "model.onnx")).get_inputs()]
    feeds = {name: np.load(os.path.join(source, f"input_{index}.npy")) for index, name in enumerate(names)}
    meta = {"exporter": f"onnxruntime.quantization {ort.__version__}", "kind": kind, "base": base}
    with tempfile.TemporaryDirectory() as scratch:
        ready, made = os.path.join(scratch, "ready.onnx"), os.path.join(scratch, "made.onnx")
        quant_pre_process(os.path.join(source, "model.onnx"), ready, skip_symbolic_shape=True, skip_optimization=True)
        if kind.startswith("mnb4"):
            form = QuantFormat.QDQ if kind == "mnb4-qdq" else QuantFormat.QOperator
            work = MatMulNBitsQuantizer(onnx.load(ready), block_size=32, is_symmetric=False, quant_format=form, op_types_to_quantize=("MatMul",))
            work.process()
            model = work.model.model
        else:
            if kind.startswith("dyn"):
                # The quantiser transposes weights and then trips over the shapes that it wrote down before.
                prepared = onnx.load(ready)
                del prepared.graph.value_info[:]
                quantize_dynamic(prepared, made, weight_type=QuantType.QInt8 if kind == "dyn-i8" else QuantType.QUInt8)
            elif kind == "qdq-i8":
                quantize_static(ready, made, Calibration(feeds), quant_format=QuantFormat.QDQ, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True)
            elif kind == "qop-u8i8":
                quantize_static(ready, made, Calibration(feeds), quant_format=QuantFormat.QOperator, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
            else:
                raise KeyError(kind)
            model = onnx.load(made)
        write_case(folder, model, feeds, meta)


# ---- the table -------------------------------------------------------------------------------------------------------


def table():
    """Name of the case: what makes it, given its folder and the folder of all cases."""
    cases = {}
    for name, opset in TORCH_LANGUAGE_MODELS:
        cases[f"{name}-torch{opset}"] = lambda folder, out, name=name, opset=opset: torch_language_model(name, opset, folder)
    for opset in (18, 24):
        cases[f"bert-torch{opset}"] = lambda folder, out, opset=opset: torch_bert(opset, folder)
        cases[f"whisper-decoder-torch{opset}"] = lambda folder, out, opset=opset: torch_whisper_decoder(opset, folder)
        for name in VISION:
            cases[f"{name}-torch{opset}"] = lambda folder, out, name=name, opset=opset: torch_vision(name, opset, folder)
    for name, precision in GENAI_MODELS:
        cases[f"genai-{name}-{precision}"] = lambda folder, out, name=name, precision=precision: genai(name, precision, folder)
    for base, kind in QUANTISED:
        cases[f"{base}-{kind}"] = lambda folder, out, base=base, kind=kind: quantise(base, kind, folder, out)
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=".", help="folder that receives one folder per case")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--missing", action="store_true", help="leave finished cases as they are")
    parser.add_argument("--verbose", action="store_true", help="print the exporters' stack traces")
    parser.add_argument("names", nargs="*", help="beginnings of names; none means all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)

    chosen = {name: make for name, make in table().items() if not arguments.names or name.startswith(tuple(arguments.names))}
    if arguments.list:
        print("\n".join(chosen))
        return 0
    failed = []
    for name, make in chosen.items():
        folder = os.path.join(arguments.out, name)
        if arguments.missing and os.path.exists(os.path.join(folder, "meta.json")):
            continue
        try:
            make(folder, arguments.out)
            print(f"{name}: {os.path.getsize(os.path.join(folder, 'model.onnx'))} bytes", flush=True)
        except Exception as error:  # an exporter may fail in any way; the others still run
            if arguments.verbose:
                traceback.print_exc()
            shutil.rmtree(folder, ignore_errors=True)
            failed.append(name)
            print(f"{name}: FAILED: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}", flush=True)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} cases, failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
