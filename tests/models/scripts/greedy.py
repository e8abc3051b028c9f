"""Greedy continuations with ONNX Runtime: the reference ids of the story models.

    python greedy.py --model ../story-3m --tokens 64 --record ../story-3m/greedy.json --prompt "Once upon a time" --prompt "..."

Feeds the prompt in one run and then one token at a time through the KV cache, taking the largest logit. `smallest_gap`
is the smallest distance between the two largest logits of a case: an implementation whose logits are off by less than
half of it must produce the same ids. Needs: numpy, onnxruntime, tokenizers.
"""
import argparse
import json
import os

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

END = 0


def continuation(session, prompt_ids, tokens):
    """The next `tokens` ids (fewer after an end token, which is included) and the smallest gap between the best two logits."""
    names = {entry.name for entry in session.get_inputs()}
    past = {
        entry.name: np.zeros([1, entry.shape[1], 0, entry.shape[3]], np.float32)
        for entry in session.get_inputs()
        if entry.name.startswith("past")
    }
    step, seen, ids, gap = prompt_ids, 0, [], float("inf")
    while len(ids) < tokens:
        total = seen + len(step)
        feed = {
            "input_ids": np.array([step]),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(seen, total)[None],
            **past,
        }
        feed = {name: value for name, value in feed.items() if name in names}
        results = dict(zip([entry.name for entry in session.get_outputs()], session.run(None, feed)))
        logits = results["logits"][0, -1]
        second, first = np.sort(logits)[-2:]
        gap = min(gap, float(first - second))
        past = {name: results[name.replace("past_key_values", "present")] for name in past}
        seen, step = total, [int(logits.argmax())]
        ids += step
        if step[0] == END:
            break
    return ids, gap


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder with model.onnx and tokenizer.json")
    parser.add_argument("--prompt", required=True, action="append", help="may be given several times")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--record", help="write the cases to this JSON file instead of standard output")
    arguments = parser.parse_args()

    tokenizer = Tokenizer.from_file(os.path.join(arguments.model, "tokenizer.json"))
    path = os.path.join(arguments.model, "model.onnx")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    cases = []
    for prompt in arguments.prompt:
        prompt_ids = tokenizer.encode(prompt).ids
        ids, gap = continuation(session, prompt_ids, arguments.tokens)
        cases.append({"prompt": prompt, "prompt_ids": prompt_ids, "ids": ids, "text": tokenizer.decode(ids), "smallest_gap": gap})

    name = os.path.basename(os.path.abspath(arguments.model))
    prompts = " ".join(f"--prompt {json.dumps(prompt)}" for prompt in arguments.prompt)
    command = f"python greedy.py --model ../{name} --tokens {arguments.tokens} --record ../{name}/greedy.json {prompts}"
    record = json.dumps({"command": command, "onnxruntime": ort.__version__, "cases": cases}, indent=1)
    if arguments.record:
        with open(arguments.record, "w", encoding="utf-8") as file:
            file.write(record + "\n")
    else:
        print(record)


if __name__ == "__main__":
    main()
