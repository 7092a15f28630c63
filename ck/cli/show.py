"""`ck show MODEL`: what is inside a model, and the memory a program of it takes."""

import hashlib
import sys
from typing import TYPE_CHECKING, Any

import click

from ck.cli.options import ProgramOptions, find_model, json_option, model_argument, shape_options, take
from ck.cli.outline import outline, source_of

if TYPE_CHECKING:
    from ck.frontend.hyperparameters import HyperParameters
    from ck.frontend.model_file import ModelFile, Words


@click.command()
@model_argument
@click.option("--tensors", is_flag=True, help="List every tensor.")
@click.option("--template", is_flag=True, help="Print the chat template.")
@shape_options
@json_option
def command(model: str, tensors: bool, template: bool, as_json: bool, **given: Any) -> None:
    """Show architecture, sizes, storage types, tokenizer and sampling of MODEL, and the memory it takes.

    Only headers are read. A model that ck cannot run is shown as far as it can be read, with what is missing
    for it, and the exit code is 4.
    """
    from ck.cli.output import write_json
    from ck.errors import UnsupportedError
    from ck.frontend.model import open_file

    options = take(ProgramOptions, given)
    path = find_model(model)
    try:
        file = open_file(path, options.quantize)
    except UnsupportedError as error:
        if template:
            raise
        facts = outline(path, str(error))
    else:
        if template:
            _print_template(file, as_json)
            return
        facts = _facts(file, options)
        facts["tensors"] = _tensors(file) if tensors else None
    facts |= {"backend": _backend(model), **source_of(path)}
    if as_json:
        write_json({key: value for key, value in facts.items() if (key, value) != ("tensors", None)})
    else:
        _print(facts)
    if not facts["supported"]:
        raise UnsupportedError(facts["reason"])


def _print_template(file: "ModelFile", as_json: bool) -> None:
    from ck.cli.output import write_json
    from ck.errors import UsageError
    from ck.runtime.terminal import terminal_safe

    source = file.chat_template
    if source is None:
        raise UsageError(f"{file.path}: has no chat template, it completes raw text")
    if as_json:
        write_json({"chat_template": source})
        return
    click.echo(terminal_safe(source) if sys.stdout.isatty() else source)


def _facts(file: "ModelFile", options: ProgramOptions) -> dict[str, Any]:
    from ck.cli import summary
    from ck.errors import UnsupportedError

    facts: dict[str, Any] = {
        "file": str(file.path),
        "name": file.name,
        "license": file.licence or "not stated",
        "model_type": file.label,
        "n_params": summary.n_params(file),
        "n_bytes": summary.n_tensor_bytes(file),
        "storage": [vars(share) for share in summary.storage_mix(file)],
    }
    try:
        hp = file.hyperparameters()
    except UnsupportedError as error:
        return {**facts, "supported": False, "reason": str(error), **_words_of(file)}
    facts |= {"supported": True, "hyperparameters": vars(hp), "skipped": list(file.skipped)}
    facts |= _about_texts(file)
    facts["memory"] = _memory(file, hp, options)
    return facts


def _about_texts(file: "ModelFile") -> dict[str, Any]:
    """Tokenizer, template, and how the model wants its tokens drawn."""
    return {
        "tokenizer": _tokenizer(file.words()),
        "chat_template_sha256": _template_digest(file),
        "sampling": None if file.sampling is None else dict(file.sampling.values),
    }


def _words_of(file: "ModelFile") -> dict[str, Any]:
    """The same of a model that ck cannot run, if it can be read."""
    from ck.errors import CkError

    try:
        return _about_texts(file)
    except CkError:
        return {}


def _backend(model: str) -> str | None:
    """What made the program of a run directory; None for another model."""
    import json
    from pathlib import Path

    from ck.runtime.resolve import is_model_folder, run_directory

    run = None if is_model_folder(Path(model)) else run_directory(model)
    found = None if run is None else json.loads((run / "run.json").read_text("utf-8")).get("backend")
    return found if isinstance(found, str) else None


def _tokenizer(words: "Words | None") -> dict[str, Any] | None:
    if words is None:
        return None
    return {
        **vars(words),
        "bos": _special(words.bos),
        "eos": _special(words.eos),
        "eog": [_special(end) for end in words.eog],
    }


def _special(token: tuple[int, str] | None) -> dict[str, Any] | None:
    return None if token is None else {"id": token[0], "text": token[1]}


def _template_digest(file: "ModelFile") -> str | None:
    template = file.chat_template
    return None if template is None else hashlib.sha256(template.encode()).hexdigest()


def _memory(file: "ModelFile", hp: "HyperParameters", options: ProgramOptions) -> dict[str, Any]:
    from ck.cli import summary

    n_ctx = summary.context_of(hp, options.ctx_size)
    plan = summary.plan_memory(file, hp, n_ctx, options.chunk, options.kv, options.dtype)
    return {**vars(plan), "total_bytes": plan.total_bytes, "kv_type": options.kv}


def _tensors(file: "ModelFile") -> list[dict[str, Any]]:
    return [
        {"name": t.name, "shape": list(t.shape), "storage": t.storage.name, "n_bytes": t.n_bytes}
        for t in file.tensors.values()
    ]


def _print(facts: dict[str, Any]) -> None:
    from ck.cli.output import mebibytes, printable, write_table

    rows = [["file", facts["file"]], ["name", facts["name"]], ["license", facts["license"]]]
    rows += [["type", facts["model_type"]]]
    if "n_params" in facts:
        rows += [["parameters", f"{facts['n_params'] / 1e6:.2f} M in {mebibytes(facts['n_bytes'])}"]]
    rows += [["backend", facts["backend"]]] if facts["backend"] else []
    if "hub" in facts:
        rows += [["fetched", f"{facts['hub']['repo']} at commit {facts['hub']['commit']}"]]
    for name, count in facts["n_tensors"].items() if "n_tensors" in facts else ():
        rows.append([f"  {name}", f"{count} tensors"])
    shares: list[dict[str, Any]] = facts.get("storage", [])
    for share in shares:
        what = f"{share['n_tensors']} tensors, {share['n_params'] / 1e6:.2f} M, {mebibytes(share['n_bytes'])}"
        rows.append([f"  {share['storage']}", what])
    rows += _model_rows(facts) if facts["supported"] else [*_known_rows(facts), ["supported", "no"]]
    write_table([[printable(cell) for cell in row] for row in rows])
    for tensor in facts["tensors"] if facts.get("tensors") else ():
        shape = " x ".join(map(str, tensor["shape"]))
        size = mebibytes(tensor["n_bytes"])
        click.echo(f"{printable(tensor['name'])}  [{shape}]  {tensor['storage']}  {size}")


def _model_rows(facts: dict[str, Any]) -> list[list[str]]:
    from ck.cli.output import left_out, mebibytes

    hp, memory = facts["hyperparameters"], facts["memory"]
    heads = f"{hp['n_heads']} heads, {hp['n_kv_heads']} of keys and values, {hp['head_dim']} wide"
    return [
        ["layers", f"{hp['n_layers']} of width {hp['d_model']}, hidden {hp['d_ffn']}"],
        ["attention", ", ".join(filter(None, (heads, window_words(hp))))],
        *([["recurrent", _states(hp)]] if any(hp["recurrent_layers"]) else []),
        ["context", f"{hp['context_length']} tokens"],
        ["vocabulary", f"{hp['n_vocab']}{', tied to the head' if hp['tied'] else ''}"],
        *_known_rows(facts),
        ["memory", f"{mebibytes(memory['total_bytes'])} and activations, for {memory['n_ctx']} tokens"],
        ["  weights", f"{mebibytes(memory['weights_bytes'])} packed"],
        ["  KV cache", f"{mebibytes(memory['kv_bytes'])} in {memory['kv_type']}"],
        *([["  states", mebibytes(memory["state_bytes"])]] if memory["state_bytes"] else []),
        *([["left out", left_out(facts["skipped"])]] if facts["skipped"] else []),
        ["supported", "yes"],
    ]


def _known_rows(facts: dict[str, Any]) -> list[list[str]]:
    """Tokenizer, template and sampling, where something is known of them."""
    if "tokenizer" not in facts:
        return []
    words = facts["tokenizer"]
    sampling: dict[str, Any] = facts["sampling"] or {}
    wants = ", ".join(f"{name} {value}" for name, value in sampling.items())
    return [
        *(_word_rows(words) if words else [["tokenizer", "none: takes token ids"]]),
        ["chat template", facts["chat_template_sha256"] or "none: completes raw text"],
        *([["sampling", wants]] if wants else []),
    ]


def window_words(hp: dict[str, Any]) -> str:
    """Which layers have a window, if any."""
    if not hp["sliding_window"]:
        return ""
    but = f" except every {hp['window_pattern']}th layer" if hp["window_pattern"] else ""
    first = f" from layer {hp['window_first']} on" if hp["window_first"] else ""
    return f"window {hp['sliding_window']}{first}{but}"


def _states(hp: dict[str, Any]) -> str:
    layers = f"{sum(hp['recurrent_layers'])} of the layers"
    values = f"{hp['n_state_heads']} value heads, {hp['state_value_dim']} wide"
    return f"{layers}: {values}, {hp['n_state_keys']} of keys, {hp['state_key_dim']} wide"


def _word_rows(words: dict[str, Any]) -> list[list[str]]:
    return [
        ["tokenizer", f"{words['kind']} {words['pre']}{', adds BOS' if words['add_bos'] else ''}"],
        ["ends a reply", " ".join(f"{end['id']} {end['text']}" for end in words["eog"])],
    ]
