"""`ck doctor`: whether this machine can run ck, each check with what to do about it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import click

from ck.cli.options import json_option

Status = Literal["ok", "warning", "failure"]
MARKS: dict[Status, str] = {"ok": "✓", "warning": "!", "failure": "✗"}

DISTRIBUTIONS = ("numpy", "xdsl", "tokenizers", "jinja2", "click", "rich", "gguf", "llvmlite")
PROBE = "int ck_probe(int x) { return x + 41; }\n"
LLVM_PROBE = """define i32 @ck_probe(i32 %x) {
  %y = add i32 %x, 41
  ret i32 %y
}
"""
# Room for a small model and its program, and to run them.
NEEDED_DISK_BYTES = 1 << 30
NEEDED_MEMORY_BYTES = 1 << 30
# The first huggingface_hub whose sessions ck knows.
_HUB_MAJOR = 2


class Check(NamedTuple):
    """One line: what was looked at, how it is, what was found, what to do."""

    name: str
    status: Status
    found: str
    fix: str = ""


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Check Python, the packages, the backends, the CPU, memory, disk, caches and what fetching takes.

    Exit code 6 when something that ck needs is missing.
    """
    from ck.cli.output import write_json
    from ck.errors import MachineError

    checks = [check() for check in CHECKS]
    if as_json:
        write_json({"checks": [check._asdict() for check in checks]})
    else:
        for check in checks:
            fix = f"; {check.fix}" if check.fix else ""
            click.echo(f"{MARKS[check.status]} {check.name}: {check.found}{fix}")
    broken = [check.name for check in checks if check.status == "failure"]
    if broken:
        raise MachineError(f"doctor: this machine cannot run ck yet, see {', '.join(broken)}")


def check_python() -> Check:
    """The interpreter's version and place."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"{version} at {sys.executable}")


def check_packages() -> Check:
    """The packages that ck imports."""
    from importlib.metadata import PackageNotFoundError, version

    found, missing = list[str](), list[str]()
    for name in DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        fix = f"run: {sys.executable} -m pip install {' '.join(missing)}"
        return Check("packages", "failure", f"missing {', '.join(missing)}", fix)
    return Check("packages", "ok", ", ".join(found))


def check_library() -> Check:
    """libck_rt, the kernels."""
    from ck.errors import CkError
    from ck.runtime.library import isa_path

    try:
        return Check("kernels", "ok", f"libck_rt loads, instruction-set path {isa_path()}")
    except CkError as error:
        return Check("kernels", "failure", str(error))


def check_compiler() -> Check:
    """The C compiler makes a shared object that loads and runs: a program of backend c is exactly that."""
    import ctypes
    import subprocess
    import tempfile

    from ck.backend.c.build import build_object, compiler
    from ck.errors import MachineError

    fix = "for c, run: apt-get install gcc libc6-dev, or set CC to a C compiler"
    with tempfile.TemporaryDirectory() as scratch:
        source, program = Path(scratch, "probe.c"), Path(scratch, "probe.so")
        source.write_text(PROBE)
        try:
            build_object(source, program)
            answer = ctypes.CDLL(str(program)).ck_probe(1)
            banner = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError, MachineError) as error:
            return Check("backend c", "warning", str(error), "" if "apt-get" in str(error) else fix)
    name = next(iter(banner.stdout.splitlines()), compiler()[0])
    if answer != 42:
        return Check("backend c", "warning", f"{name}: the probe returned {answer}, not 42", fix)
    return Check("backend c", "ok", f"{name} compiles and runs a probe")


def check_llvm() -> Check:
    """llvmlite makes an object that loads and runs: a program of backend llvm is exactly that."""
    import ctypes
    import tempfile
    from importlib.metadata import version

    from ck.backend.backends import backend
    from ck.errors import MachineError

    llvm = backend("llvm")
    with tempfile.TemporaryDirectory() as scratch:
        source, program = Path(scratch, llvm.source_name), Path(scratch, llvm.object_name)
        source.write_text(LLVM_PROBE)
        try:
            llvm.build(source, program)
            loaded = llvm.load(program)
            answer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(loaded.address("ck_probe"))(1)
        except MachineError as error:
            return Check("backend llvm", "warning", str(error))
    if answer != 42:
        return Check("backend llvm", "warning", f"the probe returned {answer}, not 42")
    return Check("backend llvm", "ok", f"llvmlite {version('llvmlite')} compiles and runs a probe")


def check_backends() -> Check:
    """The backend that compiles where none is named."""
    works = [name for name, check in (("c", check_compiler), ("llvm", check_llvm)) if check().status == "ok"]
    if not works:
        return Check("backend", "failure", "none compiles here", "see backend c and backend llvm")
    others = f", --backend {works[1]} works too" if len(works) > 1 else ""
    return Check("backend", "ok", f"{works[0]} is taken{others}")


def check_cpu() -> Check:
    """The CPU's name and what it has of the features kernels use."""
    from ck.runtime.machine import cpu_flags, cpu_name

    flags = cpu_flags()
    if not {"avx2", "fma", "f16c"} <= set(flags):
        return Check("cpu", "warning", f"{cpu_name()} without AVX2", "ck works, on its slow portable path")
    return Check("cpu", "ok", f"{cpu_name()}: {' '.join(flags)}")


def check_threads() -> Check:
    """CPUs, those this process may use, its quota, and the threads that follow."""
    import math
    import os

    from ck.runtime.library import cgroup_cpus, thread_count

    quota = cgroup_cpus()
    limit = "no quota" if math.isinf(quota) else f"a quota of {quota:g}"
    found = f"{thread_count()} of {os.cpu_count()} CPUs, {len(os.sched_getaffinity(0))} allowed, {limit}"
    return Check("threads", "ok", found)


def check_memory() -> Check:
    """Memory that is available."""
    from ck.runtime.machine import available_memory_bytes

    free = available_memory_bytes()
    found = f"{free / 1e9:.1f} GB available"
    if free < NEEDED_MEMORY_BYTES:
        return Check("memory", "warning", found, "close programs, or use a small model and context (-c)")
    return Check("memory", "ok", found)


def check_cache() -> Check:
    """The cache directory: private, writable, with room."""
    import shutil

    from ck.errors import CkError
    from ck.runtime.paths import models_dir, programs_dir

    try:
        root = models_dir().parent
        programs_dir()
    except CkError as error:
        return Check("cache", "failure", str(error))
    free = shutil.disk_usage(root).free
    found = f"{root}, {free / 1e9:.1f} GB free"
    if free < NEEDED_DISK_BYTES:
        return Check("cache", "warning", found, "free some, or set CK_CACHE_DIR to another disk")
    return Check("cache", "ok", found)


def check_hub() -> Check:
    """What fetching from the hub takes, and where the files go. No connection is made."""
    import shutil
    from importlib.metadata import PackageNotFoundError, version

    from ck.errors import CkError
    from ck.runtime.hub_cache import hub_cache_dir
    from ck.runtime.hub_client import offline

    try:
        known, root = version("huggingface_hub"), hub_cache_dir()
    except (PackageNotFoundError, CkError) as error:
        missing = isinstance(error, PackageNotFoundError)
        found = "huggingface_hub is missing: nothing can be fetched from the hub" if missing else str(error)
        return Check("hub", "warning", found, "run: pip install 'ck-engine[hub]'" if missing else "")
    there = next(path for path in (root, *root.parents) if path.is_dir())
    room = f"{shutil.disk_usage(there).free / 1e9:.1f} GB free"
    found = f"huggingface_hub {known}, {root}, {room}{', offline' if offline() else ''}"
    if int(known.partition(".")[0]) < _HUB_MAJOR:
        return Check("hub", "warning", found, "fetching needs version 2; run: pip install 'ck-engine[hub]'")
    return Check("hub", "ok", found)


def check_text() -> Check:
    """The encoding of the output."""
    encoding = getattr(sys.stdout, "encoding", None) or "none"
    if encoding.lower().replace("-", "") != "utf8":
        return Check("text", "warning", f"output is {encoding}", "set LC_ALL=C.UTF-8 to see every character")
    return Check("text", "ok", "output is UTF-8")


CHECKS: tuple[Callable[[], Check], ...] = (
    check_python,
    check_packages,
    check_library,
    check_compiler,
    check_llvm,
    check_backends,
    check_cpu,
    check_threads,
    check_memory,
    check_cache,
    check_hub,
    check_text,
)
