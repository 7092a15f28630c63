"""Facts about this machine that verbs print: CPU, memory, disk."""

from pathlib import Path

# Features the kernels use or will use, by their names in /proc/cpuinfo.
CPU_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "amx_int8", "amx_bf16",
)  # fmt: skip


def cpu_name() -> str:
    """The CPU as the kernel names it, or "unknown"."""
    return _cpuinfo().get("model name", "unknown")


def cpu_flags() -> list[str]:
    """Those of `CPU_FLAGS` that the kernel reports."""
    present = set(_cpuinfo().get("flags", "").split())
    return [flag for flag in CPU_FLAGS if flag in present]


def _cpuinfo() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def available_memory_bytes() -> int:
    """What a new program may take: the kernel's estimate, or what the control group leaves if less."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    free = next(int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except OSError:
        return free
    return min(free, int(limit) - used) if limit.isdecimal() else free


def nearest_existing(path: Path) -> Path:
    """`path`, or the closest parent that exists."""
    return next(p for p in (path, *path.parents) if p.exists())
