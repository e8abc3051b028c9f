"""A Llama-shaped GGUF file with random blocks, for llama.cpp and OpenVINO GenAI: the shape of `tilewright synthesize llama-1b`.

    python gguf_model.py OUT.gguf [LAYERS]

All matrices, the tied embedding with them, are Q4_0: 18 bytes for 32 weights. Needs the packages gguf and numpy.
"""
import itertools
import sys
import gguf
import numpy

HIDDEN, HEADS, GROUPS, HEAD, INNER, VOCABULARY = 2048, 32, 8, 64, 8192, 128256
BLOCK_WEIGHTS, BLOCK_BYTES = 32, 18


def tokens():
    """A byte-level vocabulary of made-up pairs and triples, and the merges that make them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    characters = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    words, merges = list(characters), []
    pairs = itertools.product(characters, characters)
    triples = ((a + b, c) for (a, b), c in itertools.product(itertools.product(characters, characters), characters))
    for left, right in itertools.chain(pairs, triples):
        if len(words) == VOCABULARY - 2:
            return words + ["<|bos|>", "<|eos|>"], merges
        words.append(left + right)
        merges.append(f"{left} {right}")


def main(path, layers=16):
    random = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    words, merges = tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([1] * (VOCABULARY - 2) + [3, 3])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(VOCABULARY - 2)
    writer.add_eos_token_id(VOCABULARY - 1)
    writer.add_add_bos_token(False)

    def matrix(name, rows, columns):
        blocks = random.integers(0, 256, (rows * columns // BLOCK_WEIGHTS, BLOCK_BYTES), dtype=numpy.uint8)
        scale = numpy.float16(1 / (4.6 * columns**0.5))
        blocks[:, :2] = numpy.frombuffer(scale.tobytes(), numpy.uint8)
        data = blocks.reshape(rows, columns // BLOCK_WEIGHTS * BLOCK_BYTES)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    def norm(name):
        writer.add_tensor(name, numpy.ones(HIDDEN, numpy.float32))

    matrix("token_embd.weight", VOCABULARY, HIDDEN)
    for layer in range(layers):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight")
        matrix(f"{block}.attn_q.weight", HEADS * HEAD, HIDDEN)
        matrix(f"{block}.attn_k.weight", GROUPS * HEAD, HIDDEN)
        matrix(f"{block}.attn_v.weight", GROUPS * HEAD, HIDDEN)
        matrix(f"{block}.attn_output.weight", HIDDEN, HEADS * HEAD)
        norm(f"{block}.ffn_norm.weight")
        matrix(f"{block}.ffn_gate.weight", INNER, HIDDEN)
        matrix(f"{block}.ffn_up.weight", INNER, HIDDEN)
        matrix(f"{block}.ffn_down.weight", HIDDEN, INNER)
    norm("output_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
