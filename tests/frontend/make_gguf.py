"""A tiny but complete model file, valid in every field: two layers, width 64, and a vocabulary of 272 tokens.

`python tests/frontend/make_gguf.py OUT.gguf [--pairs]` writes one; the tests import `write_tiny`.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFValueType, GGUFWriter

N_LAYERS, D, HEADS, KV_HEADS, FFN, CONTEXT = 2, 64, 4, 2, 64, 128
CONTROL, USER_DEFINED, BYTE, NORMAL, UNKNOWN = 3, 4, 6, 1, 2

# Pieces from best to worst score, after <unk>, <s>, </s>, a control token and the 256 byte tokens.
PIECES = ["\u2581a", "ab", "\u2581ab", "abc", "a", "b", "c", "\u2581", "<", "|", ">", "e"]
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_end|>"]
TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"


def write_tiny(path: Path, pairs: bool = False, extra: Mapping[str, float | int | str] | None = None) -> Path:
    """Write the model to `path`; with `pairs` its vocabulary is byte-level pairs instead of pieces.

    `extra` keys are stored as f32, i32 or text.
    """
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_rope_dimension_count(D // HEADS)
    n_vocab = _add_pairs(writer) if pairs else _add_pieces(writer)
    writer.add_chat_template(TEMPLATE)
    kinds = {float: GGUFValueType.FLOAT32, int: GGUFValueType.INT32, str: GGUFValueType.STRING}
    for key, value in (extra or {}).items():
        writer.add_key_value(key, value, kinds[type(value)])
    _add_tensors(writer, n_vocab)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_pieces(writer: GGUFWriter) -> int:
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    types = [UNKNOWN, CONTROL, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(PIECES)]
    scores = [0.0] * (len(SPECIAL) + 256) + [-float(rank) for rank in range(len(PIECES))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    return len(tokens)


def _add_pairs(writer: GGUFWriter) -> int:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    chars = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    merged = ["ab", "\u0120a", "\u0120ab", "abc"]
    tokens = [*SPECIAL, *chars, *merged]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL] * len(SPECIAL) + [NORMAL] * (len(chars) + len(merged)))
    writer.add_token_merges(["a b", "\u0120 a", "\u0120 ab", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(tokens)


def _add_tensors(writer: GGUFWriter, n_vocab: int) -> None:
    rng = np.random.default_rng(0)
    head = D // HEADS
    shapes = {"token_embd.weight": (n_vocab, D), "output_norm.weight": (D,), "output.weight": (n_vocab, D)}
    for layer in range(N_LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (D,),
            f"blk.{layer}.attn_q.weight": (HEADS * head, D),
            f"blk.{layer}.attn_k.weight": (KV_HEADS * head, D),
            f"blk.{layer}.attn_v.weight": (KV_HEADS * head, D),
            f"blk.{layer}.attn_output.weight": (D, HEADS * head),
            f"blk.{layer}.ffn_norm.weight": (D,),
            f"blk.{layer}.ffn_gate.weight": (FFN, D),
            f"blk.{layer}.ffn_up.weight": (FFN, D),
            f"blk.{layer}.ffn_down.weight": (D, FFN),
        }
    for name, shape in shapes.items():
        scale = 1.0 if len(shape) == 1 else 0.1
        writer.add_tensor(name, (scale * rng.standard_normal(shape)).astype(np.float32))


if __name__ == "__main__":
    write_tiny(Path(sys.argv[1]), "--pairs" in sys.argv[2:])
