"""What `ck show` says of a model that ck cannot even open, and of where a model comes from."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def outline(path: "Path", reason: str) -> dict[str, Any]:
    """The facts of the model at `path` that ck cannot run for this reason."""
    facts = _of_folder(path) if path.is_dir() else _of_file(path)
    return {"file": str(path), **facts, "supported": False, "reason": reason}


def source_of(path: "Path") -> dict[str, Any]:
    """Repository, commit and digests, "hub", of a model that was fetched from there."""
    from ck.runtime.hub_cache import source_record

    return source_record(path)


def _of_file(path: "Path") -> dict[str, Any]:
    from ck.frontend.gguf import read_outline
    from ck.frontend.gguf.label import model_label

    found = read_outline(path)
    keys = found.metadata
    return {
        "name": keys.text("general.name", path.stem),
        "license": keys.text("general.license", "not stated"),
        "model_type": model_label(keys),
        "n_tensors": found.n_tensors,
    }


def _of_folder(path: "Path") -> dict[str, Any]:
    from ck.frontend.huggingface.config_files import read_object
    from ck.frontend.huggingface.folder import CONFIG

    config = read_object(path / CONFIG)
    kind: Any = config.get("model_type")
    return {
        "name": path.absolute().name,
        "license": "not stated",
        "model_type": kind if isinstance(kind, str) else "not stated",
    }
