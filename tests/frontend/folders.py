"""Model folders and tokenizers for tests: small, random, and saved as transformers saves them."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from safetensors.numpy import save
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from ck.frontend.architectures.outward import find_outward
from ck.frontend.hyperparameters import HyperParameters
from tests.frontend.random_models import random_weights

PROSE_FILE = Path(__file__).parents[1] / "data" / "prose.txt"
PROSE = PROSE_FILE.read_text()
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "\u2581"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_folder(path: Path, hp: HyperParameters, weights: dict[str, Any] | None = None) -> Path:
    """The model in f32, one file, without a tokenizer: nothing of torch is needed."""
    family = find_outward(hp.arch)
    assert family is not None
    path.mkdir()
    (path / "config.json").write_text(json.dumps(family.huggingface_config(hp)))
    given = random_weights(hp) if weights is None else weights
    tensors: Any = {name: values.copy() for name, values in family.to_huggingface(hp, given).items()}
    (path / "model.safetensors").write_bytes(save(tensors))
    return path


def _special(core: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    core.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    core.post_processor = processors.TemplateProcessing(single=["<s>", "$A"], special_tokens=[("<s>", 1)])
    return core


def byte_level() -> tokenizers.Tokenizer:
    """Byte pairs over words, as the families with large vocabularies have them."""
    core = tokenizers.Tokenizer(models.BPE())
    words = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), to_bytes])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    core.train_from_iterator([PROSE], trainer)
    return _special(core)


def byte_fallback(metaspace: bool) -> tokenizers.Tokenizer:
    """Pieces joined in pairs, bytes for the rest; the space in front by normalizer or by pre-tokenizer."""
    core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.train_from_iterator([PROSE], trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL))
    trained = json.loads(core.to_str())["model"]
    pieces = sorted(trained["vocab"], key=trained["vocab"].get)[len(SPECIAL) :]
    vocab = {text: id for id, text in enumerate([*SPECIAL, *BYTES, *pieces])}
    merges = [tuple(pair) for pair in trained["merges"]]
    model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = tokenizers.Tokenizer(model)
    if metaspace:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        steps = [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        made.normalizer = normalizers.Sequence(steps)
    steps = [
        decoders.Replace(SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    made.decoder = decoders.Sequence(steps)
    return _special(made)


def unigram() -> tokenizers.Tokenizer:
    """Pieces chosen by their scores."""
    core = tokenizers.Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>")
    core.train_from_iterator([PROSE], trainer)
    core.decoder = decoders.Metaspace()
    return _special(core)


TOKENIZERS = {
    "byte-level": byte_level,
    "byte-fallback": lambda: byte_fallback(False),
    "metaspace": lambda: byte_fallback(True),
    "unigram": unigram,
}


def add_tokenizer(path: Path, core: tokenizers.Tokenizer, **settings: Any) -> Path:
    """Put `core` and the files around it into the folder, as transformers saves them."""
    (path / "tokenizer.json").write_text(core.to_str())
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    config = named | {"unk_token": "<unk>", "clean_up_tokenization_spaces": False, **settings}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path
