"""The road from a model or a template to a built program, each step of it written down."""

import json
import platform
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, SymbolRefAttr

from ck import __version__
from ck.backend.backends import Backend
from ck.errors import CkError, UsageError
from ck.frontend.adapted_graph import template_graph
from ck.frontend.decays import is_filter
from ck.frontend.graph import BuiltGraph, Plan, build_graph, weight_type
from ck.frontend.model import ModelSource, open_model
from ck.frontend.model_file import ModelFile
from ck.frontend.template import Template
from ck.ir.dialects import context
from ck.ir.op import attr
from ck.ir.rt.manifest import manifest_of
from ck.passes.assign_layouts import ACTIVATIONS_ATTRIBUTE
from ck.passes.pipeline import ORDER, mark, run_stages
from ck.passes.reproducer import PassCrash
from ck.runtime.hub_cache import source_record
from ck.runtime.library import isa_path, library
from ck.runtime.options import Options
from ck.runtime.paths import cache_root

DEFAULT_CONTEXT = 4096


def plan_of(source: ModelSource, options: Options) -> Plan:
    """Capacities from the user's wishes and the model's limits."""
    trained, wanted = source.hp.context_length, options.context_len
    length = min(trained, DEFAULT_CONTEXT) if wanted is None else wanted or trained
    if length < 1:
        raise UsageError(f"context: 1 position at least is required, found {length}")
    return Plan(min(options.chunk, length), length, options.kv)


def compile_into(
    directory: Path,
    file: ModelFile,
    options: Options,
    made_by: Backend,
    progress: Callable[[str], None],
    prepare: Callable[[ModuleOp], Mapping[str, Any]] | None = None,
) -> str:
    """Fill `directory` with the program of a model; returns the scheduled IR's text.

    `prepare` may change the module before its first pass; what it returns goes into the record.
    """
    source = open_model(file)
    plan = plan_of(source, options)
    built, record = model_graph(source, plan, options), _record(source, plan, options)
    if prepare is not None:
        record |= prepare(built.module)
    return build_program(directory, built, record, made_by, progress)


def model_graph(source: ModelSource, plan: Plan, options: Options) -> BuiltGraph:
    """The graph of a model, its weights of the type `options.dtype` or as they are stored."""
    dtype = options.dtype
    storage = {
        name: weight_type(tensor.shape, "f32" if is_filter(name) else dtype or tensor.storage.name)
        for name, tensor in source.file.tensors.items()
    }
    built = build_graph(source.hp, source.architecture, storage, plan)
    built.module.attributes[ACTIVATIONS_ATTRIBUTE] = attr(options.activations)
    return built


def compile_training(
    directory: Path,
    template: Template,
    rows: int,
    options: Mapping[str, Any],
    made_by: Backend,
    progress: Callable[[str], None],
) -> str:
    """Fill `directory` with the program that trains `template` on up to `rows` rows at a time.

    `options`: optimizer, decay, dtype and budget, as the passes take them.
    """
    adapters = None if template.adapters is None else asdict(template.adapters)
    record = {"template": asdict(template.hp), "adapters": adapters, "options": {"rows": rows, **options}}
    return build_program(directory, training_graph(template, rows, options), record, made_by, progress)


def training_graph(template: Template, rows: int, options: Mapping[str, Any]) -> BuiltGraph:
    """The graph that trains `template`, with what its passes are to choose."""
    built = template_graph(template, rows)
    ones = template.architecture.stored_as_one_plus(template.hp)
    built.module.attributes["ck.training"] = DictionaryAttr(
        {
            **{name: attr(value) for name, value in options.items()},
            "toward_one": ArrayAttr([SymbolRefAttr(name) for name in ones]),
        }
    )
    return built


def build_program(
    directory: Path,
    built: BuiltGraph,
    record: dict[str, Any],
    made_by: Backend,
    progress: Callable[[str], None],
) -> str:
    """Take a graph through every stage to a program in `directory`; returns the scheduled IR's text."""
    started = time.perf_counter()
    times: dict[str, float] = {}
    text = ""
    (directory / "ir").mkdir()
    for number, stage in enumerate(_stages(built.module)):
        progress(stage)
        text = str(built.module) + "\n"
        (directory / "ir" / f"{number:02}-{stage}.mlir").write_text(text)
        times[stage] = time.perf_counter() - started
    (directory / "build").mkdir()
    progress(made_by.name)
    with _kept():
        compile_module(built.module, made_by, directory / "build")
    times[made_by.name] = time.perf_counter() - started
    manifest = manifest_of(built.module)
    (directory / "manifest.json").write_text(json.dumps(manifest.to_json()))
    # Typed as Any: the stubs cannot tell the arrays' names from savez's options.
    arrays: dict[str, Any] = {**built.constants}
    np.savez(directory / "constants.npz", **arrays)
    written = {
        "ck": __version__,
        **record,
        "backend": made_by.name,
        "toolchain": made_by.identity(),
        "machine": {"processor": platform.machine(), "isa_path": isa_path()},
        "seconds": {name: round(seconds, 3) for name, seconds in times.items()},
    }
    (directory / "run.json").write_text(json.dumps(written, indent=1))
    return text


def _stages(module: ModuleOp) -> Iterator[str]:
    """`run_stages`; what replays a crash is kept in the cache."""
    with _kept():
        yield from run_stages(context(), module)


@contextmanager
def _kept() -> Generator[None]:
    """Keep in the cache what replays a crash."""
    try:
        yield
    except PassCrash as crash:
        crash.keep(cache_root() / "reproducers")
        raise


def compile_module(module: ModuleOp, made_by: Backend, directory: Path) -> Path:
    """Leave the text and the program of a scheduled module in `directory`; returns the program's file.

    Raises MachineError when nothing is made that loads, PassCrash when the backend does not do its work.
    """
    source, compiled = directory / made_by.source_name, directory / made_by.object_name
    with _replayed_by(f"--target={made_by.name}", module, made_by):
        source.write_text(made_by.emit(module))
    # Text that LLVM does not take shows here.
    with _replayed_by("--check", module, made_by):
        made_by.build(source, compiled)
    library()
    # Now, while another backend may still be taken: a compiler for other machines makes what none loads here.
    made_by.load(compiled)
    return compiled


@contextmanager
def _replayed_by(option: str, module: ModuleOp, made_by: Backend) -> Generator[None]:
    """Turn what no backend may raise into a PassCrash of the complete program `module`."""
    try:
        yield
    except (CkError, OSError):
        raise
    except Exception as error:
        raise backend_crash(option, module, made_by, error) from error


def backend_crash(option: str, module: ModuleOp, made_by: Backend, error: Exception) -> PassCrash:
    """What is raised when `made_by` does not make a program of `module`; `option` of ck-opt replays it."""
    before = module.clone()
    mark(before, ORDER[-1].name)
    return PassCrash.raised(f"backend {made_by.name}", error, str(before), [], [option])


def _record(source: ModelSource, plan: Plan, options: Options) -> dict[str, Any]:
    return {
        "model": {
            **source.file.record(),
            "name": source.file.name,
            "architecture": source.hp.arch,
            **source_record(source.file.path),
        },
        "options": {
            "context_len": plan.context_len,
            "chunk": plan.chunk,
            "kv": plan.kv,
            "dtype": options.dtype,
            "activations": options.activations,
            "window": source.hp.sliding_window,
        },
    }
