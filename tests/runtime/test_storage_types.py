"""Storage types mixed within one model, in rows that are multiples of 256 and rows that are not."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

import ck
from ck.cli.main import main
from ck.dtypes import BY_NAME
from ck.frontend.architectures import find_architecture
from ck.frontend.architectures.outward import find_outward
from ck.frontend.template import make_template
from ck.ir.types import WeightType
from ck.regression.models import random_weights, vocabulary
from ck.runtime.check_weights import random_blocks
from ck.train.export.gguf_header import write_header
from tests.frontend.make_gguf import write_tiny
from tests.frontend.raw_gguf import parse

ALIGNMENT = 32
# Attention and the hidden layer are 256 wide, which K types can hold, the model 288, which they cannot.
MODEL = make_template(
    "llama", layers=4, embed_dim=288, hidden_dim=256, num_heads=4, num_kv_heads=2, head_dim=64,
    vocab_size=300, context_len=64, tied=True,
)  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 300, 37).astype(np.int32)


def write_mixed(path: Path) -> dict[str, str]:
    """A file of MODEL in which matrices have one type after the other. Returns the types by tensor."""
    hp = MODEL.hp
    architecture, family = find_architecture(hp.arch), find_outward(hp.arch)
    assert architecture is not None
    assert family is not None
    shapes, vectors = architecture.tensor_shapes(hp), random_weights(MODEL)
    kinds = {
        block: cycle([row.name for row in BY_NAME.values() if row.block == block]) for block in (32, 256)
    }
    stored = {
        name: "f32" if len(shape) == 1 else next(kinds[256 if shape[-1] == 256 else 32])
        for name, shape in shapes.items()
    }
    keys = {**family.gguf_metadata(hp), **vocabulary(hp.n_vocab)}
    write_header(str(path), hp.arch, keys, shapes, stored)
    with path.open("ab") as file:
        for name, shape in shapes.items():
            file.write(bytes(-file.tell() % ALIGNMENT))
            drawn = BY_NAME[stored[name]].quantized
            of_matrix = random_blocks(name, WeightType.of(shape, stored[name])) if drawn else None
            file.write((vectors[name] if of_matrix is None else of_matrix).tobytes())
        file.write(bytes(-file.tell() % ALIGNMENT))
    return stored


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "mixed.gguf"
    stored = write_mixed(path)
    assert set(stored.values()) == {row.name for row in BY_NAME.values() if row.quantized} | {"f32"}
    for layer in range(MODEL.hp.n_layers):
        assert len({stored[f"blk.{layer}.{part}.weight"] for part in ("attn_q", "attn_k", "attn_v")}) == 3
        assert len({stored[f"blk.{layer}.{part}.weight"] for part in ("ffn_gate", "ffn_up")}) == 2
    return path


# A product of rows of 8 bits is up to 5e-4 off (DESIGN section 9), and these four layers have 28 of them.
@pytest.mark.parametrize(("activations", "least", "most"), [("q16", 0, 1e-7), ("q8", 1e-6, 1e-3)])
def test_mixed_types_answer_as_their_numbers_do(
    activations: str, least: float, most: float, mixed: Path, measured: Callable[[str], None]
) -> None:
    """All at once and token by token, by both backends; the f32 program has one type alone."""
    exact = ck.compile(mixed, dtype="f32", kv="f32", threads=1)(IDS)
    by_c, by_llvm = (
        ck.compile(mixed, kv="f32", threads=2, backend=name, activations=activations)
        for name in ("c", "llvm")
    )
    rows = by_c(IDS)
    error = np.square(rows - exact).sum() / np.square(exact).sum()
    measured(f"mixed types, rows as {activations}: NMSE {error:.1e}")
    assert least <= error <= most
    assert by_llvm(IDS).tobytes() == rows.tobytes()
    by_c.exe.reset()
    assert [by_c.exe.decode(int(token)).tobytes() for token in IDS] == [row.tobytes() for row in rows]


@pytest.mark.parametrize(("number", "name"), [(16, "iq2_xxs"), (34, "tq1_0"), (39, "mxfp4")])
def test_a_type_that_ck_does_not_read_is_one_line(
    number: int, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = parse(write_tiny(tmp_path / "valid.gguf").read_bytes())
    raw.tensor("blk.1.ffn_up.weight").kind = number
    path = tmp_path / "other.gguf"
    path.write_bytes(raw.pack())
    assert main(["run", str(path), "--prompt", "a"]) == 4
    lines = capsys.readouterr().err.splitlines()
    known = ", ".join(row.name for row in BY_NAME.values())
    wanted = f"tensor blk.1.ffn_up.weight is stored as {name}, ck reads {known}; requantise it"
    assert lines == [f"ck: other.gguf: {wanted}"]
