"""runtime_c: its C tests, plain and under sanitizers; its build; its exports; dequantize equal to gguf's."""

import ctypes
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gguf
import numpy as np
import pytest

from ck.dtypes import BY_NAME, StorageType

RUNTIME_C = Path(__file__).resolve().parents[2] / "runtime_c"
C_TESTS = sorted(path.stem for path in RUNTIME_C.glob("tests/test_*.c"))


def load_build() -> ModuleType:
    """runtime_c/build.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("ck_runtime_build", RUNTIME_C / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the library and its header, built from the tree as it is."""
    out_dir = tmp_path_factory.mktemp("lib")
    build.build(out_dir)
    return out_dir


@pytest.fixture(scope="module")
def library(built: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(built / build.LIBRARY))


# The first one compiles everything.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", C_TESTS)
@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
def test_c(name: str, sanitize: bool) -> None:
    program = build.build_program(RUNTIME_C / "tests" / f"{name}.c", sanitize)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert re.search(r"^[1-9]\d* passed, 0 failed, \d+ skipped$", done.stdout, re.MULTILINE)


def test_every_family_has_a_test_or_is_named_in_one() -> None:
    text = "".join(path.read_text() for path in RUNTIME_C.glob("tests/*.[ch]"))
    for family in (path.name for path in (RUNTIME_C / "kernels").iterdir() if path.is_dir()):
        calls = f"ck_{family}" in text or f"kernels/{family}/kernels.inc" in text
        assert calls, f"no test in runtime_c/tests calls a kernel of {family}"


def test_the_library_exports_what_the_header_declares(built: Path) -> None:
    preprocessed = subprocess.run(
        [build.find_compiler(), "-E", "-P", built / build.HEADER], capture_output=True, text=True, check=True
    ).stdout
    declared = set(re.findall(r"\b(ck_\w+)\(", preprocessed))
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", built / build.LIBRARY], capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[-1] for line in symbols.splitlines()} == declared


def test_a_second_build_compiles_nothing(tmp_path: Path) -> None:
    build_dir = tmp_path / "with space" / "build"
    source = RUNTIME_C / "cpu.c"
    (first,) = build.compile_all([source], build_dir, [], None)
    made = first.stat().st_mtime_ns
    (second,) = build.compile_all([source], build_dir, [], None)
    assert second.stat().st_mtime_ns == made
    (other,) = build.compile_all([source], build_dir, ["-O0"], None)
    assert other.stat().st_mtime_ns > made


def test_without_a_compiler_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(
        build.BuildError, match=r"^[^\n]*a C compiler is required[^\n]*apt-get install gcc[^\n]*$"
    ):
        build.find_compiler()


def test_an_unknown_suffix_is_named() -> None:
    with pytest.raises(build.BuildError, match=r"must be one of scalar, avx2, .* found sse9"):
        build.isa_flags(Path("f32__sse9.c"))


@pytest.mark.parametrize("mask", ["scalar", "scalar,avx2", "scalar,avx2,avx512bw", ""])
def test_the_mask_chooses_the_path(built: Path, mask: str) -> None:
    code = f"import ctypes; f = ctypes.CDLL({str(built / build.LIBRARY)!r}).ck_isa_path; "
    code += "f.restype = ctypes.c_char_p; print(f().decode())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"CK_ISA_MASK": mask}, capture_output=True, text=True, check=True
    )
    highest = mask.split(",")[-1]
    assert done.stdout.strip() in ([highest, "scalar"] if highest else list(build.ISA_FLAGS))


# Scales and values that matter most: zeros, infinities, NaN, subnormals, the largest, as f16 and as f32.
SPECIAL = np.array([0, 0x8000, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 1, 0x83FF, 0x7BFF, 0x7F80, 0xFF80], np.uint16)


def random_blocks(storage: StorageType, n_blocks: int, seed: int) -> np.ndarray:
    """[n_blocks, file_bytes] random bytes; in half of them random 16-bit words are special values."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (n_blocks, storage.file_bytes), np.uint8)
    words = blocks[: n_blocks // 2].view(np.uint16)
    chosen = rng.random(words.shape) < 0.3
    words[chosen] = rng.choice(SPECIAL, int(chosen.sum()))
    return blocks


@pytest.mark.parametrize("storage", BY_NAME.values(), ids=lambda storage: storage.name)
def test_dequantize_equals_gguf(library: ctypes.CDLL, storage: StorageType) -> None:
    blocks = random_blocks(storage, 4096, seed=storage.ggml_id)
    with np.errstate(all="ignore"):
        want = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(storage.ggml_id)).reshape(-1)
    got = np.empty(len(blocks) * storage.block, np.float32)
    # Off by one byte: a tensor of a file begins anywhere.
    shifted = np.concatenate([np.zeros(1, np.uint8), blocks.reshape(-1)])[1:]
    dequantize = library[f"ck_dequantize_{storage.name}"]
    dequantize(
        ctypes.c_void_p(got.ctypes.data), ctypes.c_void_p(shifted.ctypes.data), ctypes.c_int64(got.size)
    )
    assert got.shape == want.shape
    same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
    assert same.all(), f"{np.count_nonzero(~same)} of {got.size} differ, the first at {np.argmin(same)}"
