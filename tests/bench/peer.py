"""Measures one peer in this process and prints one JSON line; compare.py starts it.

    python peer.py llama.cpp MODEL.gguf THREADS PROMPT,.. DECODE      (also openvino-genai, onnxruntime-genai)
    python peer.py onnxruntime MODEL.onnx THREADS                     (also openvino, openvino-f32, tract, iree)

A language model: seconds from the start of the process to the first token, tokens per second of prompts (the better of two after a cold one) and
of greedy tokens after the first prompt. A network: milliseconds of the median run. Both: the largest resident memory in MiB.
"""
import time

START = time.perf_counter()
import ctypes
import json
import sys


def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def language(prefill, decode, prompts, count):
    first = prefill(prompts[0])
    result = {"first_token_s": time.perf_counter() - START, "prefill": {}}
    for tokens in prompts:
        result["prefill"][str(tokens)] = tokens / min(prefill(tokens) for _ in range(2))
    result["decode"] = decode(prompts[0], count)
    return result | {"cold_prefill_s": first}


def timed(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def llama_cpp(path, threads, prompts, count):
    import llama_cpp as llama
    import numpy

    @llama.llama_log_callback
    def quiet(_level, _text, _data):
        pass

    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(path.encode(), parameters)
    settings = llama.llama_context_default_params()
    settings.n_ctx = max(prompts) + count + 64
    settings.n_batch = settings.n_ubatch = 512
    settings.n_threads = settings.n_threads_batch = threads
    context = llama.llama_init_from_model(model, settings)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    memory = llama.llama_get_memory(context)
    random = numpy.random.default_rng(1)

    def run(ids):
        array = (llama.llama_token * len(ids))(*map(int, ids))
        if llama.llama_decode(context, llama.llama_batch_get_one(array, len(ids))) != 0:
            raise RuntimeError("llama_decode failed")
        logits = llama.llama_get_logits_ith(context, -1)
        return int(numpy.argmax(numpy.ctypeslib.as_array(logits, shape=(vocabulary,))))

    def prefill(tokens):
        llama.llama_memory_clear(memory, True)
        ids = random.integers(0, vocabulary - 2, tokens)
        return timed(lambda: run(ids))

    def decode(tokens, count):
        llama.llama_memory_clear(memory, True)
        token = run(random.integers(0, vocabulary - 2, tokens))
        begin = time.perf_counter()
        for _ in range(count):
            token = run([token])
        return count / (time.perf_counter() - begin)

    return language(prefill, decode, prompts, count)


def openvino_genai(path, threads, prompts, count):
    import numpy
    import openvino
    import openvino_genai as genai

    pipeline = genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=threads)
    random = numpy.random.default_rng(1)

    def generate(tokens, new):
        ids = random.integers(0, 128254, (1, tokens)).astype(numpy.int64)
        given = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        settings = genai.GenerationConfig()
        settings.max_new_tokens, settings.ignore_eos = new, True
        settings.do_sample = settings.apply_chat_template = False
        return pipeline.generate(given, settings)

    def decode(tokens, count):
        times = generate(tokens, count + 1).perf_metrics.raw_metrics.m_new_token_times
        return count * 1000 / (times[-1] - times[0])

    return language(lambda tokens: timed(lambda: generate(tokens, 1)), decode, prompts, count)


def onnxruntime_genai(path, threads, prompts, count):
    import numpy
    import onnxruntime_genai as genai

    config = genai.Config(path)
    options = {"session_options": {"intra_op_num_threads": threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    model = genai.Model(config)
    random = numpy.random.default_rng(1)

    def begin(tokens):
        parameters = genai.GeneratorParams(model)
        length = max(prompts) + count + 64
        parameters.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = genai.Generator(model, parameters)
        generator.append_tokens(random.integers(0, 128254, tokens).astype(numpy.int32))
        generator.generate_next_token()
        return generator

    def decode(tokens, count):
        generator = begin(tokens)
        return count / timed(lambda: [generator.generate_next_token() for _ in range(count)])

    return language(lambda tokens: timed(lambda: begin(tokens)), decode, prompts, count)


def inputs(names):
    """What a network of models.py takes."""
    import numpy

    random = numpy.random.default_rng(0)
    known = {
        "x": lambda: random.standard_normal((1, 3, 224, 224)).astype(numpy.float32),
        "ids": lambda: random.integers(0, 30000, (1, 128)).astype(numpy.int64),
        "mask": lambda: numpy.ones((1, 128), numpy.int64),
    }
    return {name: known[name]() for name in names}


def network(run, seconds=2.0, warm_ups=5, least=10):
    first = timed(run)
    for _ in range(warm_ups):
        run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < least:
        times.append(timed(run))
    times.sort()
    return {"first_ms": first * 1e3, "p50_ms": times[len(times) // 2] * 1e3, "runs": len(times)}


def onnxruntime(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = inputs([port.name for port in session.get_inputs()])
    return network(lambda: session.run(None, given))


def openvino(path, threads, precision=None):
    import openvino

    properties = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        properties["INFERENCE_PRECISION_HINT"] = precision
    model = openvino.Core().compile_model(path, "CPU", properties)
    given = inputs([port.any_name for port in model.inputs])
    request = model.create_infer_request()
    return network(lambda: request.infer(given))


def tract(path, threads):
    import tract

    model = tract.onnx().load(path).into_model().into_runnable()
    given = list(inputs(["x"] if "minilm" not in path else ["ids", "mask"]).values())
    return network(lambda: model.run(given))


def iree(path, threads):
    import iree.compiler.tools.import_onnx as importer
    import iree.compiler.tools as compiler
    import iree.runtime as runtime
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "model.mlir")
        importer.main(importer.parse_arguments([path, "-o", text]))
        flags = ["--iree-llvmcpu-target-cpu=host"]
        binary = compiler.compile_file(text, target_backends=["llvm-cpu"], input_type="onnx", extra_args=flags)
    runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
    module = runtime.load_vm_flatbuffer(binary, driver="local-task")
    names = ["ids", "mask"] if "minilm" in path else ["x"]
    given = list(inputs(names).values())
    return network(lambda: [array.to_host() for array in runtime.normalize_value(module.main(*given))])


LANGUAGE = {"llama.cpp": llama_cpp, "openvino-genai": openvino_genai, "onnxruntime-genai": onnxruntime_genai}
NETWORK = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "openvino-f32": lambda path, threads: openvino(path, threads, "f32"),
    "tract": tract,
    "iree": iree,
}

if __name__ == "__main__":
    peer, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if peer in LANGUAGE:
        lengths = [int(word) for word in sys.argv[4].split(",")]
        measured = LANGUAGE[peer](model, threads, lengths, int(sys.argv[5]))
    else:
        measured = NETWORK[peer](model, threads)
    print(json.dumps(measured | {"peer": peer, "peak_rss_mib": peak_mib()}))
