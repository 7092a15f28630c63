"""Random programs mean one thing: to the interpreters, to PyTorch, in C and LLVM, on one thread and on two.

A hundred of them here, the same every time; `make graphs` runs 5,000 with a seed of its own, which it prints:
CK_GRAPHS_SEED runs them again. What disagrees is shrunk, and lies in build/graphs as IR.
"""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from tests.graphs.check_inference import check_inference
from tests.graphs.check_training import check_training
from tests.graphs.drawing import Choose
from tests.graphs.inference import draw_inference
from tests.graphs.train import draw_training

COUNT = int(os.environ.get("CK_GRAPHS", "100"))
SEED = int(os.environ.get("CK_GRAPHS_SEED", "0"))
# Examples of one test: short enough that two processes end together.
BATCH = 50
DUMPS = Path(__file__).resolve().parents[2] / "build" / "graphs"


@st.composite
def drawn(draw: Any, make: Callable[[Choose], Any]) -> Any:
    """What `make` draws."""
    return make(lambda options: draw(st.sampled_from(options)))


def run(make: Callable[[Choose], Any], check: Callable[[Any, Path], Any], batch: int, folder: Path) -> None:
    """BATCH programs through `check`; the smallest that fails is reported and written."""
    name = f"{make.__name__.removeprefix('draw_')}-{SEED}-{batch}"

    @seed(SEED * 1_000_003 + batch)
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(drawn(make))
    def each(program: Any) -> None:
        try:
            # A path of its own: a loaded program must not be overwritten.
            with TemporaryDirectory(dir=folder) as own:
                check(program, Path(own))
        except Exception as error:
            module = program.module()
            path = dump(name, program, module, error)
            again = f"CK_GRAPHS_SEED={SEED} CK_GRAPHS={COUNT}"
            note(f"{error}\n\n{module!s}\n\nwritten to {path}; {again} runs it again")
            raise

    each()


def dump(name: str, program: Any, module: ModuleOp, error: Exception) -> Path:
    """The program's IR with what is wrong with it, in build/graphs."""
    DUMPS.mkdir(parents=True, exist_ok=True)
    said = [f"// {line}" for line in f"{type(error).__name__}: {error}\n{program}".splitlines()]
    path = DUMPS / f"{name}.mlir"
    path.write_text("\n".join([*said, str(module), ""]))
    return path


BATCHES = range(max(1, COUNT // (2 * BATCH)))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("batch", BATCHES)
def test_inference_means_one_thing(batch: int, tmp_path: Path) -> None:
    run(draw_inference, check_inference, batch, tmp_path)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("batch", BATCHES)
def test_training_means_one_thing(batch: int, tmp_path: Path) -> None:
    run(draw_training, check_training, batch, tmp_path)
