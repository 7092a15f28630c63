"""What GGUF files call their vocabularies, and how each named pre-tokenizer cuts a text into words.

Source of names and patterns: llama.cpp, src/llama-vocab.cpp, which collected them from the families' own
tokenizer.json.
"""

from dataclasses import dataclass

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
_QWEN2 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}|{_SIGNS}|{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = r"[^\r\n\p{L}\p{N}]?"
_SIGNS_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_TEKKEN = rf"{_CASED}{_UPPER}*{_LOWER}+|{_CASED}{_UPPER}+{_LOWER}*|\p{{N}}|{_SIGNS_SLASH}|{_SPACES}"
_MINICPM5 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}+|{_SIGNS}|{_SPACES}"
_JAIS2_SPACES = (
    "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s"
)
_JAIS2 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_SIGNS}|\s*[\r\n]+|{_JAIS2_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_PLAIN_WORDS = rf"{_WORDS}|\p{{N}}|{_SIGNS}|{_SPACES}"
_SEED_CODER = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_ONE_LINE_END = r"\s*[\r\n]|\s+(?!\S)|\s+"
_BAILING = rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{_WORDS}|\p{{N}}|{_SIGNS}|{_ONE_LINE_END}"
_EXAONE_MOE = (
    rf"{_CONTRACTION}|{_CASED}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|{_ONE_LINE_END}"
)
_HAN_KANA, _HAN_HANGUL = r"[\u4e00-\u9fa5\u3040-\u30ff]+", r"[\u0800-\u9fa5\uac00-\ud7ff]+"
_ASCII_SIGNS = r"[!-/:-@\[-`{-~]"
_MARKED = rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
_MARKED_WORDS = rf"{_MARKED}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
_SPARK = rf"{_MARKED}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+"
_NO_STOPS = r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
# Cased letters, but for Armenian's and Georgian's small ones, those of mathematics and some newer ones.
_CASED_LATIN = (
    r"\s?[\p{Lu}\p{Ll}\p{Lt}&&[^\u0560-\u0588\u10c6-\u10ff\u1c80-\u1c8f\u2d00-\u2d2f\ua790-\ua7ff"
    r"\uab30-\uab6f\x{10570}-\x{105bf}\x{16e40}-\x{16e7f}\x{1d400}-\x{1d7ff}\x{1df00}-\x{1dfff}]]+"
)
_WIDE_SIGNS = r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_GPT4O = (
    rf"{_CASED}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_CASED}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}|{_SIGNS_SLASH}|{_SPACES}"
)


# tokenizer.ggml.model -> the kind of vocabulary.
KINDS = {"gpt2": "byte_pairs", "llama": "pieces", "gemma4": "pieces"}
# Pieces that are joined by merges of the file's own instead of by scores, within lines.
MERGED_PIECES = frozenset({"gemma4"})
LINES = r"[^\n]+|\n+"


@dataclass(frozen=True)
class PreTokenizer:
    """How a text is cut into words before byte pairs are merged.

    patterns       each applies to the words that the ones before left; between its matches words stay whole
    ignore_merges  a word that is a token needs no merges
    add_bos        whether texts start with the BOS token when the file does not say
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


# What each group of names, of tokenizer.ggml.pre, cuts by.
_GROUPS: tuple[tuple[str, PreTokenizer], ...] = (
    ("default", PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))),
    (
        "gpt-2 phi-2 mpt olmo jais exaone4 gigachat a.x-4.0 mellum trillion granite-docling",
        PreTokenizer((_GPT2,)),
    ),
    (
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
        PreTokenizer((r"\p{N}", _GPT2)),
    ),
    ("falcon", PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]"))),
    (
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2",
        PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True),
    ),
    ("dbrx smaug-bpe chatglm-bpe", PreTokenizer((_LLAMA3,))),
    ("glm4 glm5", PreTokenizer((_LLAMA3,), ignore_merges=True)),
    ("minicpm5", PreTokenizer((r"\p{N}{1,3}", _MINICPM5), ignore_merges=True)),
    ("jais-2", PreTokenizer((_JAIS2,))),
    ("qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan kormo solar-open grok-2", PreTokenizer((_QWEN2,))),
    ("qwen35", PreTokenizer((_QWEN35,))),
    ("ufakzeka", PreTokenizer((_PLAIN_WORDS,))),
    ("laguna", PreTokenizer((LINES, _QWEN2))),
    ("seed-coder", PreTokenizer((_SEED_CODER,))),
    ("bailingmoe bailingmoe2 llada-moe", PreTokenizer((_BAILING,))),
    ("exaone-moe", PreTokenizer((_EXAONE_MOE,))),
    ("tekken", PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True)),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", PreTokenizer((_GPT4O,))),
    ("deepseek-llm", PreTokenizer((r"[\r\n]", _CASED_LATIN, _WIDE_SIGNS, r"\s+\z", _HAN_HANGUL, r"\p{N}+"))),
    ("deepseek-coder", PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_HANGUL, r"\p{N}"))),
    ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", PreTokenizer((r"\p{N}{1,3}", _HAN_KANA, _MARKED_WORDS))),
    ("spark2_5", PreTokenizer((r"\p{N}{1,3}", _HAN_KANA, _SPARK, r"\p{N}"))),
    ("poro-chat bloom gpt3-finnish", PreTokenizer((_NO_STOPS,))),
    ("viking", PreTokenizer((_NO_STOPS, r"\p{N}"))),
)

# tokenizer.ggml.pre -> how it cuts.
PRETOKENIZERS = {name: cutter for names, cutter in _GROUPS for name in names.split()}
