"""A model as a folder that transformers loads."""

import json
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ck.errors import ConflictError
from ck.frontend.architectures.outward import outward_shape
from ck.frontend.hyperparameters import HyperParameters
from ck.runtime.paths import sync_directory
from ck.train.export.checks import Weights, check_parent, checked_shapes, checked_tensor, outward_of
from ck.train.files import UNFINISHED, replacing
from ck.train.rundir import output_errors
from ck.train.tensor_file import tensor_file

FILES = (
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
)  # fmt: skip
# What another folder's model may have besides.
KEPT = ("special_tokens_map.json", "chat_template.jinja")
_PREFIX = "tokenizer.ggml."


def export_huggingface(
    directory: Path,
    hp: HyperParameters,
    weights: Weights,
    vocabulary: Mapping[str, Any] | None,
    tokenizer_json: str,
    *,
    side: Path | None = None,
    force: bool = False,
) -> None:
    """Write the model to the folder `directory` as transformers loads it: FILES, weights in f32.

    vocabulary       the GGUF keys `tokenizer.*`, of which special tokens and the chat template are taken; or
    side             a folder with FILES and KEPT as they are to be, and the ids of tokens in its config.json
    tokenizer_json   the text of tokenizer.json

    Raises ConflictError when something is in the folder, unless it is an earlier export and `force` is given,
    UnsupportedError for numbers that transformers' model cannot have, MalformedError when weights, tokens
    and `hp` do not fit together, ResourceError, MachineError.
    """
    family = outward_of(hp)
    shapes = checked_shapes(hp, weights, vocabulary)
    config = family.huggingface_config(hp)
    texts = _own_texts(hp, config, vocabulary) if vocabulary is not None else _kept_texts(config, side)
    texts = {"tokenizer.json": tokenizer_json, **texts}
    names = family.huggingface_names(hp)
    values = (
        family.to_huggingface(hp, {name: checked_tensor(weights, name, shape)})[names[name]]
        for name, shape in shapes.items()
    )
    check_parent(directory)
    _check_directory(directory, force)
    with output_errors(directory), _replacing_directory(directory) as scratch:
        for name, text in texts.items():
            with replacing(scratch / name) as file:
                file.write(text.encode())
        with replacing(scratch / "model.safetensors") as file:
            renamed = {names[name]: outward_shape(name, shape) for name, shape in shapes.items()}
            file.writelines(tensor_file(renamed, values, {"format": "pt"}))


def _own_texts(
    hp: HyperParameters, config: Mapping[str, Any], vocabulary: Mapping[str, Any]
) -> dict[str, str]:
    """The files beside weights and tokenizer, from a GGUF vocabulary."""
    return {
        "config.json": _json({**config, **_token_ids(vocabulary)}),
        "generation_config.json": _json(_token_ids(vocabulary)),
        "tokenizer_config.json": _json(_tokenizer_config(hp, vocabulary)),
    }


def _kept_texts(config: Mapping[str, Any], side: Path | None) -> dict[str, str]:
    """The same from the files of another folder."""
    assert side is not None
    kept = {name: (side / name).read_text("utf-8") for name in (*FILES, *KEPT) if (side / name).is_file()}
    given: dict[str, Any] = json.loads(kept["config.json"])
    ids = {name: given[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in given}
    return kept | {"config.json": _json({**config, **ids})}


def _check_directory(directory: Path, force: bool) -> None:
    if not os.path.lexists(directory):
        return
    if directory.is_symlink() or not directory.is_dir():
        raise ConflictError(f"{directory}: must be a directory or nothing, found something else")
    found = sorted(path.name for path in directory.iterdir())
    if found and not force:
        raise ConflictError(
            f"{directory}: must be empty, found {found[0]}; choose another name, or give --force to replace "
            "an earlier export"
        )
    foreign = [name for name in found if name not in (*FILES, *KEPT)]
    if foreign:
        raise ConflictError(f"{directory}: --force replaces an earlier export only, found {foreign[0]}")


@contextmanager
def _replacing_directory(target: Path) -> Generator[Path]:
    """A new folder that takes the place of `target` when the block ends well; else nothing is left of it."""
    scratch = target.with_name(f"{UNFINISHED}{os.getpid()}-{target.name}")
    scratch.mkdir()
    try:
        yield scratch
        sync_directory(scratch)
        if target.exists():
            # A folder takes the place of an empty one only.
            earlier = target.with_name(f"{UNFINISHED}{os.getpid()}-earlier-{target.name}")
            os.rename(target, earlier)
            os.rename(scratch, target)
            shutil.rmtree(earlier)
        else:
            os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sync_directory(target.parent)


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def _token_ids(vocabulary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: vocabulary.get(_PREFIX + name) for name in ("bos_token_id", "eos_token_id")}


def _tokenizer_config(hp: HyperParameters, vocabulary: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": hp.context_length,
        "clean_up_tokenization_spaces": False,
    }
    tokens: Sequence[str] = vocabulary[_PREFIX + "tokens"]
    for name in ("bos_token", "eos_token"):
        token = vocabulary.get(f"{_PREFIX}{name}_id")
        if token is not None:
            config[name] = tokens[token]
    template = vocabulary.get("tokenizer.chat_template")
    return config if template is None else config | {"chat_template": template}
