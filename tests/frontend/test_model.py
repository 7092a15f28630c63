"""Opening a model: the demo models' numbers, what a family adds, and what a start costs."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ck.errors import MalformedError
from ck.frontend.architectures import ARCHITECTURES, find_architecture
from ck.frontend.gguf import GgufFile
from ck.frontend.gguf.cursor import HEADER_LIMIT_BYTES
from ck.frontend.model import open_model
from tests.frontend.make_gguf import write_tiny
from tests.frontend.raw_gguf import ARRAY, U8, parse, u32, u64
from tests.models import model_path

ROOT = Path(__file__).parents[2]


def test_the_demo_model_without_windows() -> None:
    source = open_model(model_path("smollm2-135m"))
    hp = source.hp
    assert (hp.n_layers, hp.d_model, hp.n_heads, hp.n_kv_heads, hp.head_dim) == (30, 576, 9, 3, 64)
    assert (hp.d_ffn, hp.n_vocab, hp.context_length) == (1536, 49152, 8192)
    assert (hp.rope_base, hp.rope_dims, hp.rope_factor, hp.attention_scale) == (1e5, 64, 1.0, 0.125)
    assert (hp.tied, hp.sliding_window) == (True, 0)
    assert not any(hp.is_local(layer) for layer in range(30))
    assert source.file.name.startswith("Smollm2")
    assert source.file.chat_template is not None


def test_the_demo_model_with_windows_gets_the_defaults_that_its_file_leaves_out() -> None:
    source = open_model(model_path("gemma3-270m"))
    hp = source.hp
    assert (hp.n_layers, hp.d_model, hp.n_heads, hp.n_kv_heads, hp.head_dim) == (18, 640, 4, 1, 256)
    assert (hp.rope_dims, hp.attention_scale, hp.tied) == (256, 1 / 16, True)
    assert [layer for layer in range(18) if not hp.is_local(layer)] == [5, 11, 17]
    assert (hp.layer_window(4), hp.layer_window(5)) == (512, 0)
    assert (hp.layer_rope(4), hp.layer_rope(5)) == ((1e4, 1.0), (1e6, 1.0))
    assert source.file.chat_template is None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_listed_family_is_there(name: str) -> None:
    family = find_architecture(name)
    assert family is not None
    assert callable(family.read_hyperparameters)
    assert find_architecture(name + "x") is None


def test_opening_is_fast(measured: Callable[[str], None]) -> None:
    """In processor time, which a busy machine does not stretch as it does the clock."""
    for name, limit_ms in (("smollm2-135m", 100), ("gemma3-270m", 250)):
        path = model_path(name)
        times = []
        for _ in range(5):
            start = time.process_time()
            GgufFile(path)
            times.append(1e3 * (time.process_time() - start))
        measured(f"open {name}: {min(times):.1f} ms")
        assert min(times) < limit_ms


def test_a_header_past_its_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    raw = parse(write_tiny(tmp_path / "tiny.gguf").read_bytes())
    raw.pairs.append((b"x", ARRAY, u32(U8) + u64(HEADER_LIMIT_BYTES)))
    path = tmp_path / "sparse.gguf"
    path.write_bytes(raw.head())
    with path.open("r+b") as file:
        file.truncate(4 * HEADER_LIMIT_BYTES)
    with pytest.raises(MalformedError, match="are left of the 64 MiB that a header may have"):
        GgufFile(path)


def test_reading_and_encoding_need_no_ir() -> None:
    code = "import sys, ck.frontend.tokenizer, ck.frontend.chat_template; print('xdsl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
