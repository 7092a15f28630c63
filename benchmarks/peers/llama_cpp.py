"""Build llama.cpp from the PyPI source package llama-cpp-python, once, and print its programs' paths.

    python benchmarks/peers/llama_cpp.py [--jobs N]
    python benchmarks/peers/llama_cpp.py --source       fetch only, and print where the source is

The build is native, with weight repacking, in `<cache>/peers/llama_cpp-<version>`. With gcc its AMX
kernels are left out: gcc 12 forgets the memory operands of the tile instructions and the program crashes on
the first prompt. clang-19, when it is there, builds them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from ck.errors import CkError, MachineError, NetworkError, UsageError
from ck.runtime.paths import cache_root, private_dir

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
PROGRAMS = (
    "llama-bench", "llama-completion", "llama-perplexity", "llama-quantize", "llama-gguf-split",
    "llama-imatrix",
)  # fmt: skip
# Storage types that llama-quantize writes and ck reads; those of the second line in blocks of 256.
TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL")
WIDE_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON", "-DGGML_CPU_REPACK=ON",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
)  # fmt: skip
# A native build asks the compiler, not these options, whether there is AMX: take its macros away as well.
WITHOUT_AMX = ("-DGGML_AMX_INT8=OFF", "-DGGML_AMX_TILE=OFF")
WITHOUT_AMX_FLAGS = "-U__AMX_INT8__ -U__AMX_TILE__ -U__AMX_BF16__"


def folder() -> Path:
    """Where this version's source, build and record lie."""
    return cache_root() / "peers" / f"llama_cpp-{VERSION}"


def program(name: str) -> Path:
    """The built program `name`. Raises MachineError with the command that builds it when it is not there."""
    path = folder() / "build" / "bin" / name
    if not os.access(path, os.X_OK):
        raise MachineError(f"{path}: not built; run: python benchmarks/peers/llama_cpp.py")
    return path


def describe() -> str:
    """One line: version and compiler of the build."""
    record = json.loads((folder() / "build.json").read_text())
    return f"llama.cpp of {PACKAGE} {VERSION}, {record['compiler']}, {record['amx']}"


def quantize(source: Path, out: Path, kind: str, threads: int) -> None:
    """Write `source` to `out`, every matrix stored as `kind`, or as what llama-quantize takes for it where
    rows are no multiple of its block. Raises MachineError with the last line it says when it fails.
    """
    words = ["--allow-requantize", "--pure", source, out, kind, threads]
    done = subprocess.run([program("llama-quantize"), *map(str, words)], capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise MachineError(f"{source}: llama-quantize must make {kind} of it, it says: {lines[-1]}")


def chosen_types(words: str) -> list[str]:
    """The types that `words`, names separated by commas or "all", names. Raises UsageError for another."""
    known = [*TYPES, *WIDE_TYPES]
    names = known if words == "all" else words.split(",")
    for name in names:
        if name not in known:
            raise UsageError(f"--types: all, or names of {', '.join(known)}, are required, found {name}")
    return names


def build(jobs: int) -> None:
    """Fetch, configure and compile; nothing happens when the record of a finished build is there."""
    place = private_dir(folder())
    record = place / "build.json"
    if record.exists() and all((place / "build" / "bin" / name).exists() for name in PROGRAMS):
        return
    for tool, package in (("cmake", "cmake"), ("make", "make"), ("c++", "g++")):
        if shutil.which(tool) is None:
            raise MachineError(f"llama.cpp: needs {tool}, which is missing; run: apt-get install {package}")
    source, log = fetch_source(place), place / "build.log"
    options, facts = _compiler()
    configure = ["cmake", "-S", str(source), "-B", str(place / "build"), *OPTIONS, *options]
    compile_ = ["cmake", "--build", str(place / "build"), f"-j{jobs}", "--target", *PROGRAMS]
    print(f"building llama.cpp (log: {log}) ...", file=sys.stderr)
    with log.open("w") as out:
        for command in (configure, compile_):
            if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode:
                raise MachineError(f"llama.cpp: the build failed; the reason is at the end of {log}")
    record.write_text(json.dumps(facts))


def fetch_source(place: Path) -> Path:
    """The source tree of llama.cpp inside the package's, fetched and unpacked when absent."""
    root = place / f"{PACKAGE.replace('-', '_')}-{VERSION}"
    if not root.exists():
        # Not "--no-binary :all:", which would also compile the tools that read the metadata.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
        if subprocess.run([*command, "--dest", place, f"{PACKAGE}=={VERSION}"], check=False).returncode:
            raise NetworkError(f"llama.cpp: pip could not download {PACKAGE}=={VERSION}")
        partial = place / "unpacking"
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(root.with_name(root.name + ".tar.gz")) as archive:
            archive.extractall(partial, filter="data")
        (partial / root.name).rename(root)
    return root / "vendor" / "llama.cpp"


def _compiler() -> tuple[list[str], dict[str, str]]:
    """The cmake options of the compiler to use, and the facts to record about it."""
    if shutil.which("clang-19") and shutil.which("clang++-19"):
        options = ["-DCMAKE_C_COMPILER=clang-19", "-DCMAKE_CXX_COMPILER=clang++-19"]
        return options, {"compiler": _version("clang-19"), "amx": "AMX where the machine has it"}
    flags = [f"-DCMAKE_{language}_FLAGS={WITHOUT_AMX_FLAGS}" for language in ("C", "CXX")]
    return [*WITHOUT_AMX, *flags], {"compiler": _version("cc"), "amx": "without AMX"}


def _version(compiler: str) -> str:
    text = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return text.splitlines()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Build llama.cpp and print the paths of its programs.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    parser.add_argument("--source", action="store_true", help="fetch and print the source's path, no build")
    given = parser.parse_args()
    try:
        if given.source:
            print(fetch_source(private_dir(folder())))
            return 0
        build(given.jobs)
        for name in PROGRAMS:
            print(program(name))
    except CkError as error:
        print(f"llama_cpp.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
