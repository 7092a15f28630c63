"""Detector `check`: a fixed set of modules down the pipeline, every pass checked, and the compiled program.

The smallest modules of tests/data, then a model and a training program of each family: layers that differ,
odd widths, rings that wrap, more rows and positions than kernels take at once. Prints one line of JSON.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, SymbolRefAttr

from ck.errors import UsageError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.graph import Plan, build_graph, build_training_graph, weight_type
from ck.frontend.template import Template, make_template
from ck.ir.check.failure import CheckFailure
from ck.ir.dialects import context
from ck.ir.op import attr
from ck.passes.assign_layouts import ACTIVATIONS_ATTRIBUTE
from ck.passes.reproducer import PassCrash
from ck.runtime.check import check_road

DATA = Path(__file__).parents[1] / "data"
ROWS, CONTEXT, WINDOW = 70, 192, 50
# Storage by layer, so that layers differ.
STORAGE = ("q8_0", "q4_1", "f16", "q5_0")
SIZES: dict[str, Any] = {
    "layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "vocab_size": 67,
    "context_len": CONTEXT,
}


def small(name: str) -> ModuleOp:
    """A module of tests/data."""
    from xdsl.parser import Parser

    return Parser(context(), (DATA / f"small_{name}.mlir").read_text()).parse_module()


def template(family: str, **sizes: Any) -> Template:
    """A family's template; with a window on every second layer where it has windows."""
    try:
        return make_template(family, sliding_window=WINDOW, window_pattern=2, **SIZES, **sizes)
    except UsageError:
        return make_template(family, **SIZES, **sizes)


def model(family: str, activations: str = "q16") -> ModuleOp:
    """A model of the family, its layers stored in different types."""
    of = template(family, embed_dim=64, hidden_dim=96, head_dim=32)
    storage = {name: weight_type(sizes, _storage(name, sizes)) for name, sizes in of.shapes.items()}
    module = build_graph(of.hp, of.architecture, storage, Plan(ROWS, CONTEXT, "f16")).module
    module.attributes[ACTIVATIONS_ATTRIBUTE] = attr(activations)
    return module


def training(family: str, **options: Any) -> ModuleOp:
    """A training program of the family."""
    of = template(family, embed_dim=18, hidden_dim=29, head_dim=6)
    module = build_training_graph(of.hp, of.architecture, of.shapes, ROWS).module
    ones = [SymbolRefAttr(name) for name in of.architecture.stored_as_one_plus(of.hp)]
    choices = {name: attr(value) for name, value in options.items()}
    module.attributes["ck.training"] = DictionaryAttr({**choices, "toward_one": ArrayAttr(ones)})
    return module


def _storage(name: str, sizes: tuple[int, ...]) -> str:
    """Rows that hold no whole block, as those of short filters, stay as they are."""
    whole = len(sizes) == 2 and sizes[-1] % 32 == 0
    return STORAGE[_layer(name) % len(STORAGE)] if whole else "f32"


def _layer(name: str) -> int:
    part = name.split(".")
    return int(part[1]) if part[0] == "blk" else 0


def modules() -> Iterator[tuple[str, Callable[[], ModuleOp]]]:
    """Each module by name, the small ones first."""
    for name in ("model", "training"):
        yield f"small {name}", lambda name=name: small(name)
    for place, family in enumerate(ARCHITECTURES):
        options = {"optimizer": ("adamw", "sgd")[place % 2], "budget": (0.0, 1.0)[place % 2], "dtype": "f32"}
        yield f"{family}, trained", lambda family=family, options=options: training(family, **options)
        yield family, lambda family=family: model(family)
    for family in ("llama", "gemma3"):
        yield f"{family}, rows of 8 bits", lambda family=family: model(family, "q8")


def detect() -> dict[str, Any]:
    """What fails first, after how many modules."""
    for number, (name, make) in enumerate(modules(), 1):
        said: list[str] = []
        try:
            check_road(make(), {}, said.append)
        except CheckFailure as failure:
            by, error = failure.pass_name.removesuffix(", against the interpreter"), str(failure)
        except PassCrash as crash:
            by, error = f"a crash in {crash.what}", str(crash)
        except Exception as broken:
            last = said[-1].split(":")[0].removeprefix("check ") if said else "the start"
            by, error = f"{type(broken).__name__} after {last}", str(broken)
        else:
            continue
        return {"caught": True, "after": number, "by": by, "text": f"{name}: {error}"}
    return {"caught": False, "after": number}


if __name__ == "__main__":
    print(json.dumps(detect()))
    sys.exit(0)
