"""The runtime library from Python: what is declared works, the mask is checked, and the count of threads."""

import ctypes
import math
import os
from pathlib import Path

import numpy as np
import pytest

from ck.errors import UsageError
from ck.runtime.library import (
    ISA_BUNDLES,
    POOL_FUNCTION,
    cgroup_cpus,
    isa_path,
    library,
    thread_count,
    trim_memory,
)


def test_the_path_is_a_bundle() -> None:
    assert isa_path() in ISA_BUNDLES


def test_the_pool_runs_every_thread() -> None:
    seen = np.zeros(3, np.int32)

    def note(arg: int, tid: int, nth: int) -> None:
        seen[tid] += nth

    function = POOL_FUNCTION(note)
    pool = library().ck_pool_create(3)
    library().ck_pool_run(pool, 3, ctypes.cast(function, ctypes.c_void_p), None)
    library().ck_pool_run(pool, 2, ctypes.cast(function, ctypes.c_void_p), None)
    library().ck_pool_destroy(pool)
    assert seen.tolist() == [5, 5, 3]


def test_a_mask_of_unknown_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CK_ISA_MASK", "scalar,sse9")
    library.cache_clear()
    with pytest.raises(UsageError, match=r"CK_ISA_MASK: names of .* are required, found scalar,sse9"):
        library()


def test_threads_come_from_the_flag_then_the_variable_then_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CK_THREADS", "5")
    assert thread_count(3) == 3
    assert thread_count() == 5
    monkeypatch.delenv("CK_THREADS")
    assert 1 <= thread_count() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_count_below_one_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CK_THREADS", text)
    with pytest.raises(UsageError, match=f"CK_THREADS: a number of threads from 1 is required, found {text}"):
        thread_count()


def test_a_flag_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="-t: a number of threads from 1 is required, found 0"):
        thread_count(0)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "cpus"), [("150000 100000\n", 1.5), ("max 100000\n", math.inf), ("nonsense\n", math.inf)]
)
def test_the_quota_of_version_2(tmp_path: Path, text: str, cpus: float) -> None:
    write(tmp_path / "membership", "0::/user/session\n")
    write(tmp_path / "root" / "user" / "cpu.max", text)
    assert cgroup_cpus(tmp_path / "root", tmp_path / "membership") == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("50000", 0.5), ("-1", math.inf)])
def test_the_quota_of_version_1(tmp_path: Path, quota: str, cpus: float) -> None:
    write(tmp_path / "membership", "3:cpuset:/\n1:cpu,cpuacct:/docker/x\n")
    write(tmp_path / "root" / "cpu" / "docker" / "x" / "cpu.cfs_quota_us", quota)
    write(tmp_path / "root" / "cpu" / "docker" / "x" / "cpu.cfs_period_us", "100000")
    assert cgroup_cpus(tmp_path / "root", tmp_path / "membership") == cpus


def test_no_control_group_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_cpus(tmp_path / "root", tmp_path / "membership") == math.inf


def test_trimming_gives_freed_pages_back() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # Too small to be mapped one by one, and a last one that keeps the heap from shrinking by itself.
    blocks = [b"x" * (64 << 10) for _ in range(1024)]
    last = b"x" * (64 << 10)
    del blocks
    before = resident_bytes()
    trim_memory()
    assert len(last) == 64 << 10
    assert resident_bytes() < before - (32 << 20)
