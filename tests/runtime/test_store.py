"""Programs on disk: what is damaged is made again, and a full disk is one line."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import ck
from ck.errors import ResourceError
from ck.runtime import store


def test_a_front_key_that_is_no_text_names_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    front = tmp_path / "cache" / "programs" / "front"
    front.mkdir(parents=True, mode=0o700)
    (front / "key").write_bytes(b"\xa2\xff")
    assert store.find("key") is None


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: Callable[..., Path]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("ck.runtime.compilation.compile_into", full)
    with pytest.raises(ResourceError, match="programs: No space left on device; free"):
        ck.compile(cut("smollm2-135m", 1, 4096), context_len=64)
    assert not list((tmp_path / "cache" / "programs").glob(".new-*"))


def test_a_digest_takes_names_that_are_no_utf8() -> None:
    assert store.digest(os.fsdecode(b"\xfe.gguf")) != store.digest("?.gguf")
