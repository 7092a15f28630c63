"""Build libck_rt.so, each source with the flags that its `__isa` suffix names. Standard library only.

python runtime_c/build.py [OUT_DIR]               libck_rt.so and ck_rt.h into OUT_DIR (default ck/_lib)
python runtime_c/build.py --tests [--sanitize]    build and run tests/test_*.c
python runtime_c/build.py --bench NAME            build and run bench/bench_NAME.c
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = "libck_rt.so"
HEADER = "ck_rt.h"

# No compiler may reassociate or contract: every order of a sum is written in the source.
ARITHMETIC_FLAGS = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
WARNING_FLAGS = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
CODE_FLAGS = ["-std=c11", "-O3", "-g1", "-fPIC", "-pthread", "-fvisibility=hidden"]
BASE_FLAGS = [*CODE_FLAGS, *WARNING_FLAGS, *ARITHMETIC_FLAGS]
AVX2_FLAGS = ["-mavx2", "-mfma", "-mf16c"]
AVX512_FEATURES = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]
AVX512_FLAGS = [*AVX2_FLAGS, *AVX512_FEATURES, "-mprefer-vector-width=512"]
ISA_FLAGS = {
    "scalar": [],
    "avx2": AVX2_FLAGS,
    "avx512bw": AVX512_FLAGS,
    "avx512vnni": [*AVX512_FLAGS, "-mavx512vnni"],
}
SANITIZE_FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1"]


class BuildError(Exception):
    """The library or a test could not be built: one line, then what the compiler said if it ran."""


def find_compiler() -> str:
    """The C compiler: $CC, or the first of cc, gcc and clang found. Raises BuildError when there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    raise BuildError("runtime_c: a C compiler is required, found none: apt-get install gcc libc6-dev")


def isa_flags(source: Path) -> list[str]:
    """Flags for `name__isa.c`; none without a suffix. Raises BuildError for a suffix that is no bundle."""
    _, mark, isa = source.stem.rpartition("__")
    if not mark:
        return []
    if isa not in ISA_FLAGS:
        raise BuildError(f"{source}: the suffix must be one of {', '.join(ISA_FLAGS)}, found {isa}")
    return ISA_FLAGS[isa]


def library_sources() -> list[Path]:
    """The sources of the library: runtime_c/*.c and runtime_c/kernels/*/*.c."""
    return sorted([*HERE.glob("*.c"), *HERE.glob("kernels/*/*.c")])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def _is_current(target: Path, stamp: str) -> bool:
    """Whether `target` was made by the command `stamp` hashes and is newer than all its depfile names."""
    stamp_file, depfile = target.with_suffix(".stamp"), target.with_suffix(".d")
    if not (target.exists() and stamp_file.exists() and depfile.exists()) or stamp_file.read_text() != stamp:
        return False
    made = target.stat().st_mtime_ns
    names = depfile.read_text().replace("\\ ", "\0").replace("\\\n", " ").partition(":")[2].split()
    paths = [HERE / name.replace("\0", " ") for name in names]
    return all(path.exists() and path.stat().st_mtime_ns <= made for path in paths)


def _compile(compiler: str, source: Path, build_dir: Path, extra: list[str]) -> Path:
    """Compile one source unless its object is current. Returns the object's path."""
    target = build_dir / source.relative_to(HERE).with_suffix(".o")
    # Without the name of a directory, so that objects stay current in a copy of the tree.
    flags = [*BASE_FLAGS, *isa_flags(source), *extra, "-I."]
    command = [compiler, *flags, "-c", str(source.relative_to(HERE))]
    stamp = hashlib.sha256("\0".join(command).encode()).hexdigest()
    if _is_current(target, stamp):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Made under another name and renamed: a compiler that is killed leaves no half of an object.
    fresh = target.with_suffix(f".{os.getpid()}.o")
    _run([*command, "-o", str(fresh), "-MMD", "-MF", str(target.with_suffix(".d"))])
    fresh.replace(target)
    target.with_suffix(".stamp").write_text(stamp)
    return target


def compile_all(sources: list[Path], build_dir: Path, extra: list[str], jobs: int | None) -> list[Path]:
    """Objects of `sources`, the changed ones compiled, by `jobs` processes at a time (None: one a CPU)."""
    compiler = find_compiler()
    build_dir.mkdir(parents=True, exist_ok=True)
    with open(build_dir / ".lock", "w") as lock, ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        # Of two builds at once the second finds what the first has made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return list(pool.map(lambda source: _compile(compiler, source, build_dir, extra), sources))


def build(out_dir: Path, build_dir: Path | None = None, jobs: int | None = None) -> Path:
    """Build the library into `out_dir` beside its header and return its path.

    Objects are kept in `build_dir` (default build/runtime_c beside runtime_c). Raises BuildError.
    """
    out_dir, build_dir = out_dir.resolve(), (build_dir or HERE.parent / "build" / "runtime_c").resolve()
    objects = compile_all(library_sources(), build_dir, [], jobs)
    out_dir.mkdir(parents=True, exist_ok=True)
    library, fresh = out_dir / LIBRARY, out_dir / f".{LIBRARY}.{os.getpid()}"
    _run([find_compiler(), "-shared", "-pthread", "-Wl,--no-undefined", *map(str, objects), "-o", str(fresh)])
    # A rename, so that a process that has the old library mapped keeps it.
    fresh.replace(library)
    shutil.copyfile(HERE / HEADER, out_dir / HEADER)
    return library


def build_program(source: Path, sanitize: bool = False) -> Path:
    """Build one test or benchmark with those objects of the library that it needs, and return its path."""
    build_dir = HERE.parent / "build" / ("runtime_c_sanitized" if sanitize else "runtime_c")
    extra = SANITIZE_FLAGS if sanitize else []
    *objects, own = compile_all([*library_sources(), source], build_dir, extra, None)
    program, archive = build_dir / source.stem, build_dir / f"{source.stem}.a"
    archive.unlink(missing_ok=True)
    _run(["ar", "rcs", str(archive), *map(str, objects)])
    _run([find_compiler(), "-pthread", *extra, str(own), str(archive), "-lm", "-o", str(program)])
    return program


def run_tests(sanitize: bool) -> int:
    """Build and run every tests/test_*.c. Returns the number of programs that failed."""
    failures = 0
    for source in sorted(HERE.glob("tests/test_*.c")):
        print(f"== {source.stem}", flush=True)
        failures += subprocess.run([str(build_program(source, sanitize))]).returncode != 0
    return failures


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="build libck_rt")
    parser.add_argument("out_dir", nargs="?", type=Path, default=HERE.parent / "ck" / "_lib")
    parser.add_argument("--tests", action="store_true", help="build and run the C tests")
    parser.add_argument("--sanitize", action="store_true", help="with sanitizers")
    parser.add_argument("--bench", metavar="NAME", help="build and run bench/bench_NAME.c")
    args = parser.parse_args()
    try:
        if args.tests:
            return 1 if run_tests(args.sanitize) else 0
        if args.bench:
            return subprocess.run([str(build_program(HERE / "bench" / f"bench_{args.bench}.c"))]).returncode
        print(build(args.out_dir))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
