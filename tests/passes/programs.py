"""Programs at each stage of the pipeline: cuts of the demo models and other graphs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from ck.frontend.gguf import GgufFile
from ck.frontend.graph import Plan, build_graph, weight_type
from ck.frontend.model import open_model
from ck.ir.dialects import context
from ck.passes.pipeline import ORDER, run_pass, run_stages

CHUNK, CONTEXT = 8, 64


@dataclass(frozen=True, eq=False)
class Program:
    """A module's text at every stage, and its weights as f32 arrays."""

    texts: Mapping[str, str]
    weights: Mapping[str, np.ndarray]

    def module(self, stage: str) -> ModuleOp:
        """The module at `stage`, parsed from its text and verified."""
        return parse(self.texts[stage])

    def before(self, kind: type[ModulePass]) -> ModuleOp:
        """The module as pass `kind` finds it."""
        module = self.module("graph")
        for earlier in ORDER[: ORDER.index(kind)]:
            run_pass(context(), module, earlier)
        return module


def parse(text: str) -> ModuleOp:
    """A verified module."""
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def staged(module: ModuleOp, weights: Mapping[str, np.ndarray]) -> Program:
    """`module` driven through the pipeline in one go."""
    texts: dict[str, str] = {}
    for stage in run_stages(context(), module):
        module.verify()
        texts[stage] = str(module)
    return Program(texts, weights)


@cache
def model_program(path: Path, dtype: str | None = None) -> Program:
    """The model at `path`, chunks of CHUNK, CONTEXT positions in f32; `dtype` replaces its storage types."""
    source = open_model(path)
    tensors = source.file.tensors
    storage = {name: weight_type(t.shape, dtype or t.storage.name) for name, t in tensors.items()}
    built = build_graph(source.hp, source.architecture, storage, Plan(CHUNK, CONTEXT, "f32"))
    weights = {name: _values(source.file, name) for name in tensors}
    return staged(built.module, weights | built.constants)


def _values(file: GgufFile, name: str) -> np.ndarray:
    """A tensor of the file, dequantised by the gguf package."""
    tensor = file.tensors[name]
    rows = np.asarray(file.raw(name)).reshape(*tensor.shape[:-1], -1)
    kind = GGMLQuantizationType(tensor.storage.ggml_id)
    return rows.view(np.float32) if kind.name == "F32" else dequantize(rows, kind)
