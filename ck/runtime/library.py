"""libck_rt, the kernels and the thread pool, through ctypes; and how many threads a program gets.

The C prototypes stand in runtime_c/ck_rt.h; only those that Python itself calls are declared here.
"""

import ctypes
import math
import os
from functools import cache
from pathlib import Path

from ck.dtypes import BY_NAME
from ck.errors import MachineError, UsageError

LIB_DIR = Path(__file__).resolve().parent.parent / "_lib"
LIBRARY = LIB_DIR / "libck_rt.so"
HEADER = LIB_DIR / "ck_rt.h"

ISA_BUNDLES = ("scalar", "avx2", "avx512bw", "avx512vnni")

# void (*)(void* arg, int tid, int nth), what the pool runs on each thread.
POOL_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)


def _check_isa_mask() -> None:
    mask = os.environ.get("CK_ISA_MASK", "")
    for name in filter(None, mask.split(",")):
        if name not in ISA_BUNDLES:
            raise UsageError(f"CK_ISA_MASK: names of {', '.join(ISA_BUNDLES)} are required, found {mask}")


def _declare(lib: ctypes.CDLL) -> None:
    """Give the functions that Python calls their types."""
    pointer, i64, i32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for name in BY_NAME:
        getattr(lib, f"ck_pack_{name}").argtypes = (pointer, pointer, i64, i64, i32, i32)
        getattr(lib, f"ck_pack_{name}").restype = None
        getattr(lib, f"ck_dequantize_{name}").argtypes = (pointer, pointer, i64)
        getattr(lib, f"ck_dequantize_{name}").restype = None
    lib.ck_pool_create.argtypes = (i32,)
    lib.ck_pool_create.restype = pointer
    lib.ck_pool_destroy.argtypes = (pointer,)
    lib.ck_pool_destroy.restype = None
    # The function is an address: a symbol of a loaded program, or a POOL_FUNCTION cast to c_void_p.
    lib.ck_pool_run.argtypes = (pointer, i32, pointer, pointer)
    lib.ck_pool_run.restype = None
    lib.ck_cpu_features.argtypes = ()
    lib.ck_cpu_features.restype = ctypes.c_uint64
    lib.ck_isa_path.argtypes = ()
    lib.ck_isa_path.restype = ctypes.c_char_p


@cache
def library() -> ctypes.CDLL:
    """The library, loaded once, its symbols visible to programs loaded later.

    Raises UsageError when CK_ISA_MASK names no known bundle, MachineError when the library is missing or does
    not load.
    """
    _check_isa_mask()
    if not LIBRARY.exists():
        raise MachineError(f"{LIBRARY}: not built; reinstall ck, or run python runtime_c/build.py")
    try:
        lib = ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL)
        _declare(lib)
    except (OSError, AttributeError) as error:
        raise MachineError(f"{LIBRARY}: does not load: {error}; run python runtime_c/build.py") from error
    return lib


def isa_path() -> str:
    """The instruction-set bundle in use: one of ISA_BUNDLES, after CK_ISA_MASK."""
    return library().ck_isa_path().decode()


def trim_memory() -> None:
    """Give the pages that malloc keeps for later back to the system; without glibc nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
        trim(0)


def _quota(group: Path) -> float:
    """CPUs that one control group's quota grants; infinity without one. Version 2, or 1's cpu controller."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return math.inf
    if not (quota.isdecimal() and period.isdecimal() and int(period) > 0):
        return math.inf
    return int(quota) / int(period)


def cgroup_cpus(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """CPUs that this process's control groups, from its own to the root, grant by quota; infinity without.

    A line of `membership` is `id:controllers:path`, controllers empty in version 2.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        lines = []
    groups = [root, root / "cpu"]
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if not controllers or "cpu" in controllers.split(","):
            own = (root / "cpu" if controllers else root) / path.strip("/")
            groups += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return min(_quota(group) for group in groups)


def _given_threads(text: str, source: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{source}: a number of threads from 1 is required, found {text}")
    return int(text)


def thread_count(flag: int | None = None) -> int:
    """Threads to use: `flag` (-t), else CK_THREADS, else what affinity and cgroup quota leave, at least 1.

    Raises UsageError for a number below 1.
    """
    if flag is not None:
        return _given_threads(str(flag), "-t")
    if text := os.environ.get("CK_THREADS"):
        return _given_threads(text, "CK_THREADS")
    return max(1, int(min(len(os.sched_getaffinity(0)), cgroup_cpus())))
