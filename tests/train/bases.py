"""Small models that runs begin with, as GGUF files and as folders, with a tokenizer and a chat template."""

from pathlib import Path
from typing import Any

import numpy as np

from ck.frontend.template import Template
from ck.train.corpus import Document
from ck.train.export.gguf_file import export_gguf
from ck.train.export.huggingface import export_huggingface
from ck.train.tokenizer_training import TrainingTokenizer, gguf_vocabulary, train_tokenizer
from tests.train.small_runs import MODEL, template

PROSE = (Path(__file__).parents[1] / "data" / "prose.txt").read_text()
CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def tokenizer() -> TrainingTokenizer:
    return train_tokenizer([Document(PROSE, Path("prose.txt"), 1)], "bpe", MODEL["vocab_size"])


def weights_of(model: Template, seed: int = 3) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Weights that make rows differ, so that a wrong one shows."""
    first = model.initial_weights("xavier_uniform", seed)
    return {name: 2 * values if values.ndim > 1 else values for name, values in first.items()}


def write_base(path: Path, family: str = "llama", storage: str = "f32", **changes: Any) -> Path:
    """A GGUF file, or a folder where `path` has no suffix."""
    model, words = template(family, **changes), tokenizer()
    vocabulary = gguf_vocabulary(words) | {"tokenizer.chat_template": CHAT}
    weights = weights_of(model)
    if path.suffix:
        export_gguf(path, model.hp, weights, vocabulary, storage)
    else:
        export_huggingface(path, model.hp, weights, vocabulary, words.json_text)
    return path
