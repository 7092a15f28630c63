"""What a run keeps of the model that it began with: the tokenizer's part, in its folder `base`.

vocabulary.gguf        of a GGUF file: its header's keys `tokenizer.*`, the chat template among them
config.json …          of a model folder: the files beside the weights
"""

import shutil
from pathlib import Path
from typing import Any

from ck.frontend.gguf import GgufFile
from ck.frontend.huggingface.folder import folder_tokenizer
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import GgufModel
from ck.frontend.model_file import ModelFile
from ck.frontend.tokenizer import Tokenizer
from ck.frontend.vocabulary import read_vocabulary
from ck.train.export.gguf_header import write_header
from ck.train.files import replacing
from ck.train.model_tokenizer import ModelTokenizer
from ck.train.rundir import NOTHING, disk_errors

FOLDER, VOCABULARY = "base", "vocabulary.gguf"
# What a model folder has beside its weights.
SIDE_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja",
)  # fmt: skip


def keep_side(file: ModelFile, hp: HyperParameters, run: Path) -> None:
    """Leave the tokenizer's part of a model in a run's directory. Raises ResourceError, MachineError."""
    side = run / FOLDER
    with disk_errors(side, NOTHING):
        shutil.rmtree(side, ignore_errors=True)
        side.mkdir(mode=0o700)
        if isinstance(file, GgufModel):
            keys = {key: file.metadata[key] for key in file.metadata if key.startswith("tokenizer.")}
            with replacing(side / VOCABULARY) as out:
                write_header(out.name, hp.arch, keys, {}, {})
            return
        assert file.path is not None
        for name in SIDE_FILES:
            if (file.path / name).is_file():
                with replacing(side / name) as out:
                    out.write((file.path / name).read_bytes())


def side_of(run: Path) -> Path | None:
    """The folder with the tokenizer's part of a run's base; None for a run without one."""
    return run / FOLDER if (run / FOLDER).is_dir() else None


def kept_vocabulary(side: Path) -> dict[str, Any] | None:
    """The GGUF keys `tokenizer.*` of a base; None for a model folder, which has files."""
    file = side / VOCABULARY
    if not file.is_file():
        return None
    metadata = GgufFile(file).metadata
    return {key: metadata[key] for key in metadata if key.startswith("tokenizer.")}


def kept_tokenizer(side: Path, n_vocab: int) -> ModelTokenizer:
    """The tokenizer of a base, from what the run keeps of it. Raises MalformedError when that is damaged."""
    file = side / VOCABULARY
    if file.is_file():
        vocabulary = read_vocabulary(GgufFile(file).metadata, n_vocab)
        return ModelTokenizer(Tokenizer.from_vocabulary(vocabulary, str(file)), str(file))
    return ModelTokenizer(folder_tokenizer(side, n_vocab), str(side))
