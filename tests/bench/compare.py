"""tilewright beside other runtimes on this machine: same shapes, same threads, in turn (A B A B), ratios of medians.

    python3 tests/bench/compare.py --work /tmp/compare --install          packages of all peers, each in a venv of its own; models
    python3 tests/bench/compare.py --work /tmp/compare language           the 1 B shape in 4 bits: llama.cpp, OpenVINO GenAI
    python3 tests/bench/compare.py --work /tmp/compare networks           MiniLM, ResNet-50, MobileNetV2: ONNX Runtime, OpenVINO, tract, IREE
    ... --peers llama.cpp,openvino-genai --rounds 5 --threads 2 --json results.json

Weights are random: speed is compared, not answers. ONNX Runtime GenAI needs a folder that its model builder made, which takes torch:
give it with --ort-genai-model DIR. tilewright is built with `cargo build --release` first; --cpu-features masks ours alone.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# What each peer is installed from; the versions that the figures in the guide were measured with.
PACKAGES = {
    "llama.cpp": ["llama-cpp-python==0.3.36"],
    "openvino-genai": ["openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers"],
    "onnxruntime-genai": ["onnxruntime==1.31.1", "onnxruntime-genai==0.18.0"],
    "onnxruntime": ["onnxruntime==1.31.1"],
    "openvino": ["openvino==2026.4.1"],
    "tract": ["tract==0.23.9"],
    "iree": ["iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0", "onnx"],
}
NETWORKS = ["minilm", "resnet50", "mobilenetv2"]
# Ours, by what they are called in the table: how the model is compiled for host-cpu.
# The last product in 4 bits too, as in the peers' files.
LAST = ["--quantize-override", "role:last=int4_g32"]
LANGUAGE_FORMS = {
    "tilewright w4a8": ["--quantize", "w4a8_g32", *LAST],
    "tilewright w4a16": ["--quantize", "w4a16_g32_sym", *LAST],
}
NETWORK_FORMS = {"tilewright f32": [], "tilewright bf16": ["--precision", "bf16"]}


def python(work, peer):
    peer = {"openvino-f32": "openvino"}.get(peer, peer)
    return os.path.join(work, "venv-" + peer, "bin", "python")


def run(command, **how):
    print("+", *command, file=sys.stderr)
    subprocess.run(command, check=True, **how)


def install(work, peers):
    for peer in peers:
        interpreter = python(work, peer)
        if not os.path.exists(interpreter):
            run([sys.executable, "-m", "venv", os.path.dirname(os.path.dirname(interpreter))])
        environment = dict(os.environ, CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF")
        run([interpreter, "-m", "pip", "install", "-q", "numpy", *PACKAGES[peer]], env=environment)
    models = os.path.join(work, "venv-models", "bin", "python")
    if not os.path.exists(models):
        run([sys.executable, "-m", "venv", os.path.dirname(os.path.dirname(models))])
        run([models, "-m", "pip", "install", "-q", "numpy", "onnx", "gguf"])
    for name in NETWORKS:
        path = os.path.join(work, name + ".onnx")
        if not os.path.exists(path):
            run([models, os.path.join(HERE, "models.py"), name, path])
    if not os.path.exists(os.path.join(work, "1b.gguf")):
        run([models, os.path.join(HERE, "gguf_model.py"), os.path.join(work, "1b.gguf")])
    if not os.path.exists(os.path.join(work, "1b", "model.onnx")):
        run([tilewright(), "synthesize", "llama-1b", "-o", os.path.join(work, "1b"), "--element", "bf16"])


def tilewright():
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release", "tilewright")


def last_json(command):
    print("+", *command, file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


def ours(artifact, arguments):
    """One process of `tilewright bench`, in the form that peer.py prints."""
    command = [tilewright(), "bench", artifact, "--threads", str(arguments.threads), "--repetitions", "1", "--no-limits", "--json"]
    command += ["--prompt-tokens", ",".join(map(str, arguments.prompt_tokens)), "--decode-tokens", str(arguments.decode_tokens)]
    if arguments.cpu_features:
        command += ["--cpu-features", arguments.cpu_features]
    print("+", *command, file=sys.stderr)
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    result = {"peak_rss_mib": (told["peak_rss_bytes"] or 0) / 2**20, "artifact_mib": told["artifact_bytes"] / 2**20}
    if told["decode"]:
        result["first_token_s"] = told["start_to_first_result_s"]["median"]
        result["prefill"] = {str(row["tokens"]): row["tokens_per_second"]["median"] for row in told["prefill"]}
        result["decode"] = told["decode"]["tokens_per_second"]["median"]
        result["decode_gb_per_s"] = told["decode"]["bytes_per_second"] / 1e9
    else:
        result["first_ms"], result["p50_ms"] = told["latency"]["first_ms"]["median"], told["latency"]["p50_ms"]
    return result


def compiled(model, name, flags, arguments):
    artifact = os.path.join(arguments.work, name.replace(" ", "-") + ".npu")
    run([tilewright(), "compile", model, "-o", artifact, "--target", "host-cpu", *flags])
    return artifact


def in_turn(contenders, rounds):
    """Every contender once, then all again: what else the machine does meets all alike."""
    results = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            try:
                results[name].append(measure())
            except (subprocess.CalledProcessError, OSError) as error:
                print(f"{name}: {error}", file=sys.stderr)
    return {name: rows for name, rows in results.items() if rows}


def flat(row):
    for key, value in row.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                yield f"{key} {inner}", number
        elif isinstance(value, (int, float)):
            yield key, value


def show(title, results):
    """Medians with spread, and ours to each peer: over 1 is better, of times and memory the other way round."""
    print(f"\n{title}")
    columns = list(dict.fromkeys(key for rows in results.values() for row in rows for key, _ in flat(row)))
    medians = {}
    for name, rows in results.items():
        values = {column: [dict(flat(row))[column] for row in rows if column in dict(flat(row))] for column in columns}
        medians[name] = {column: statistics.median(found) for column, found in values.items() if found}
        cells = [f"{column} {medians[name][column]:.2f} ({min(found):.2f}-{max(found):.2f})" for column, found in values.items() if found]
        print(f"  {name}: " + ", ".join(cells))
    less_is_better = ("_s", "_ms", "_mib")
    for mine in [name for name in medians if name.startswith("tilewright")]:
        for peer in [name for name in medians if not name.startswith("tilewright")]:
            ratios = []
            for column in columns:
                if column in medians[mine] and column in medians[peer] and column not in ("runs", "artifact_mib"):
                    ratio = medians[mine][column] / medians[peer][column]
                    ratios.append(f"{column} {1 / ratio if column.endswith(less_is_better) else ratio:.2f}")
            print(f"  {mine} / {peer}: " + ", ".join(ratios))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["language", "networks", []], default=[])
    parser.add_argument("--work", required=True)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--peers", type=lambda text: text.split(","))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt-tokens", type=lambda text: [int(word) for word in text.split(",")], default=[128, 512])
    parser.add_argument("--decode-tokens", type=int, default=64)
    parser.add_argument("--cpu-features")
    parser.add_argument("--ort-genai-model")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    arguments.work = os.path.abspath(arguments.work)
    os.makedirs(arguments.work, exist_ok=True)
    run(["cargo", "build", "-q", "--release", "-p", "tilewright", "--bin", "tilewright"], cwd=ROOT)
    if arguments.install:
        install(arguments.work, arguments.peers or PACKAGES)
    everything = {}
    lengths = ",".join(map(str, arguments.prompt_tokens))
    peer = lambda name, model, *more: lambda: last_json(
        [python(arguments.work, name), os.path.join(HERE, "peer.py"), name, model, str(arguments.threads), *more]
    )
    chosen = lambda names: [name for name in names if not arguments.peers or name in arguments.peers]
    if "language" in arguments.what:
        model, gguf = (os.path.join(arguments.work, name) for name in ("1b", "1b.gguf"))
        contenders = {}
        for name, flags in LANGUAGE_FORMS.items():
            artifact = compiled(model, name, [*flags, "--chunk-lengths", "1,128,512", "--context-window", "1024"], arguments)
            contenders[name] = lambda artifact=artifact: ours(artifact, arguments)
        for name in chosen(["llama.cpp", "openvino-genai"]):
            contenders[name] = peer(name, gguf, lengths, str(arguments.decode_tokens))
        if arguments.ort_genai_model and chosen(["onnxruntime-genai"]):
            contenders["onnxruntime-genai"] = peer("onnxruntime-genai", arguments.ort_genai_model, lengths, str(arguments.decode_tokens))
        everything["language"] = in_turn(contenders, arguments.rounds)
        show("Llama 3.2 1B shape, 4-bit weights in blocks of 32", everything["language"])
    if "networks" in arguments.what:
        for network in NETWORKS:
            model = os.path.join(arguments.work, network + ".onnx")
            contenders = {}
            for name, flags in NETWORK_FORMS.items():
                artifact = compiled(model, f"{name}-{network}", flags, arguments)
                contenders[name] = lambda artifact=artifact: ours(artifact, arguments)
            for name in chosen(["onnxruntime", "openvino", "openvino-f32", "tract", "iree"]):
                contenders[name] = peer(name, model)
            everything[network] = in_turn(contenders, arguments.rounds)
            show(network, everything[network])
    if arguments.json:
        with open(arguments.json + ".part", "w") as file:
            json.dump(everything, file, indent=2)
        os.replace(arguments.json + ".part", arguments.json)


if __name__ == "__main__":
    main()
