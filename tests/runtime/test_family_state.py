"""What every family keeps of a text, saved, loaded and rewound, gives the same bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.frontend.architectures import ARCHITECTURES
from ck.runtime.executable import Executable
from ck.runtime.state_file import ChatState, StateIdentity, read_state, write_state
from tests.frontend.folders import write_folder
from tests.frontend.random_models import N_VOCAB, small

CHUNK, BEFORE, BEHIND = 24, 40, 30


@pytest.fixture(scope="module", params=ARCHITECTURES)
def exe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Executable:
    path = tmp_path_factory.mktemp("family") / "model"
    write_folder(path, small(request.param, n_layers=4, **pattern(request.param)))
    return ck.compile(path, kv="f32", context_len=128, chunk=CHUNK).exe


def pattern(arch: str) -> dict[str, Any]:
    """Two periods of the layers' pattern, where there is one."""
    return {"recurrent_layers": (True, False) * 2} if small(arch).recurrent_layers else {}


IDS = np.random.default_rng(4).integers(0, N_VOCAB, BEFORE + BEHIND).astype(np.int32)


def begun(exe: Executable) -> None:
    exe.reset()
    exe.prefill(IDS[:BEFORE])


def behind(exe: Executable) -> np.ndarray:
    """The logits of the tokens that follow, some at once and some by steps."""
    at_once = exe.score(IDS[BEFORE:-5])
    return np.concatenate([at_once, [exe.decode(int(token)).copy() for token in IDS[-5:]]])


def test_a_saved_text_goes_on_as_it_would_have(exe: Executable) -> None:
    begun(exe)
    saved = exe.save()
    want = behind(exe)
    exe.load(saved)
    assert np.array_equal(behind(exe), want)
    # What was kept is not what is there now.
    exe.reset()
    exe.prefill(IDS[::-1].copy())
    exe.load(saved)
    assert exe.pos == BEFORE
    assert np.array_equal(behind(exe), want)


def test_a_text_in_a_file_goes_on_as_it_would_have(exe: Executable, tmp_path: Path) -> None:
    identity = StateIdentity("m", "m", {}, tuple(exe.manifest.caches))
    begun(exe)
    n_bytes = write_state(
        tmp_path / "s", identity, ChatState(IDS[:BEFORE].tolist(), exe.save(), None, [], None)
    )
    # One block of 64 positions of two, but for rings of one and for states.
    assert n_bytes < sum(cache.nbytes for cache in exe.caches) + 4000
    want = behind(exe)
    for cache in exe.caches:
        cache[:] = 0x5A
    exe.reset()
    exe.load(read_state(tmp_path / "s", identity, exe.n_ctx, exe.n_vocab).saved)
    assert exe.pos == BEFORE
    assert np.array_equal(behind(exe), want)


def test_a_rewound_text_goes_on_as_it_would_have(exe: Executable) -> None:
    begun(exe)
    want = behind(exe)
    if not exe.rewind(BEFORE):
        # A ring or a state has gone on: nothing changed, and the beginning is always there.
        assert exe.pos == BEFORE + BEHIND
        assert exe.rewind(0)
        for first in range(0, BEFORE, 7):
            exe.prefill(IDS[first : min(first + 7, BEFORE)])
    assert exe.pos == BEFORE
    assert np.array_equal(behind(exe), want)
