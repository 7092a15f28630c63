"""The LLVM backend: what it writes, what it refuses, what it builds, and objects in this process."""

import ctypes
import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from ck.backend.c.build import compiler
from ck.backend.llvm import build
from ck.backend.llvm.build import assembly, binding, build_object, identity
from ck.backend.llvm.load import LoadedObject
from ck.backend.llvm.program import emit_program
from ck.backend.llvm.text import emit_module
from ck.backend.llvm.values import Declarations
from ck.errors import InternalError, MachineError
from ck.frontend.architectures import ARCHITECTURES
from ck.ir.dialects import context
from ck.passes.pipeline import run_stages
from ck.runtime.library import HEADER
from tests.backend.compile import expand, parse
from tests.backend.row_kernels import COLUMNS, KERNELS
from tests.backend.test_model_programs import stages
from tests.backend.test_text import SCALED
from tests.models import MODELS
from tests.passes.training import module_of, template

SCALED_LLVM = """\
define void @scaled(ptr readonly %x, ptr readonly %gate.w, ptr noalias %y, i64 %begin, i64 %end) #0 {
entry:
  br label %rows

rows:
  %t = phi i64 [ %begin, %entry ], [ %t.next, %columns.end ]
  %rows.more = icmp slt i64 %t, %end
  br i1 %rows.more, label %rows.body, label %rows.end

rows.body:
  br label %columns

columns:
  %i = phi i64 [ 0, %rows.body ], [ %i.next, %columns.body ]
  %columns.more = icmp slt i64 %i, 32
  br i1 %columns.more, label %columns.body, label %columns.end

columns.body:
  %x.at = getelementptr inbounds [40 x float], ptr %x, i64 %t, i64 %i
  %a = load <16 x float>, ptr %x.at, align 4
  %gate.w.at = getelementptr inbounds float, ptr %gate.w, i64 %i
  %w = load <16 x float>, ptr %gate.w.at, align 4
  %s = fadd <16 x float> %a, %w
  %p = fmul <16 x float> splat (float 0x3FD5555560000000), %s
  %y.at = getelementptr inbounds [40 x float], ptr %y, i64 %t, i64 %i
  store <16 x float> %p, ptr %y.at, align 4
  %i.next = add nsw i64 %i, 16
  br label %columns

columns.end:
  %x.at_1 = getelementptr inbounds [40 x float], ptr %x, i64 %t, i64 32
  %a.live = load <8 x float>, ptr %x.at_1, align 4
"""


def test_text_reads_as_written() -> None:
    assert emit_module(parse(SCALED)).startswith(SCALED_LLVM)


@pytest.mark.parametrize("kernel", KERNELS)
def test_printed_and_parsed_ir_gives_the_same_text(kernel: str) -> None:
    module = expand(parse("\n".join(KERNELS[kernel](columns) for columns in COLUMNS[:7])))
    assert emit_module(parse(str(module))) == emit_module(module)


def refused(body: str) -> str:
    with pytest.raises(InternalError) as error:
        emit_module(parse(f"func.func @f(%x: f32, %m: memref<4xf32>) {{ {body}\nfunc.return }}"))
    return str(error.value)


def test_refusals() -> None:
    stored = "%c = arith.constant 0 : index memref.store %y, %m[%c] : memref<4xf32>"
    assert refused(f"%y = math.exp %x : f32 {stored}") == "LLVM: no spelling for operation math.exp"
    dense = "arith.constant dense<[1.0, 2.0]> : vector<2xf32>"
    extract = "vector.extract %d[1] : f32 from vector<2xf32>"
    assert "one value in all lanes" in refused(f"%d = {dense} %y = {extract} {stored}")
    wide = "%w = arith.extf %x : f32 to f128 %y = arith.truncf %w : f128 to f32"
    assert refused(f"{wide} {stored}") == "LLVM: no spelling for type f128"


def test_no_vector_of_a_wide_machine_is_taken_apart() -> None:
    """16 lanes are multiplied by one instruction where registers have 512 bits, the tail's 8 by another."""
    text = assembly(emit_module(parse(SCALED)))
    if "+avx512f" not in binding().get_host_cpu_features().flatten().split(","):
        pytest.skip("this machine has no registers of 512 bits")
    registers = {line.split("%")[-1][:3] for line in re.findall(r"\tvmul.*", text)}
    assert registers == {"zmm", "ymm"}


# Programs.


def declared(text: str) -> dict[str, str]:
    """The parameters of each function of libck_rt that a program calls, as LLVM has them."""
    return dict(re.findall(r"^declare void @(ck_\w+)\((.*)\)$", text, re.MULTILINE))


def prototypes() -> dict[str, str]:
    """The same, of each function that ck_rt.h declares."""
    command = [*compiler(), "-E", "-P", str(HEADER)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for name, parameters in re.findall(r"\b(ck_\w+)\(([^;]*)\);", text):
        plain = re.sub(r"\([^()]*\)\(.*?\)", "*", parameters)
        kinds = [_kind(parameter) for parameter in plain.split(",")]
        found[name] = ", ".join(kinds)
    return found


def _kind(parameter: str) -> str:
    if "*" in parameter:
        return "ptr"
    words = {"int64_t": "i64", "int": "i32", "float": "float", "void": ""}
    return words[parameter.split()[0]]


def scheduled_programs(cut: Callable[..., Path]) -> list[ModuleOp]:
    """Inference and training, of every demo model and family, in both precisions and with both optimizers."""
    modules = [stages(cut(model))[1] for model in MODELS]
    for family, (optimizer, dtype) in product(ARCHITECTURES, (("adamw", "f32"), ("sgd", "bf16"))):
        built = module_of(template(family), budget=0.5, optimizer=optimizer, dtype=dtype, decay="all")
        list(run_stages(context(), built.module))
        modules.append(built.module)
    return modules


def test_calls_are_those_of_the_header(cut: Callable[..., Path]) -> None:
    """C's compiler checks them; here nobody else does."""
    known, called = prototypes(), set[str]()
    for module in scheduled_programs(cut):
        calls = declared(emit_program(module))
        assert {"ck_pool_run", "ck_barrier"} <= set(calls)
        assert calls == {name: known[name] for name in calls}
        called |= set(calls)
    assert {"ck_rope", "ck_packed_attention", "ck_packed_delta_rule"} <= called


def test_a_kernel_is_called_in_one_way() -> None:
    declarations = Declarations()
    for _ in range(2):
        declarations.add("ck_rope", "void", "ptr, i64")
    with pytest.raises(InternalError, match="@ck_rope is called in two ways"):
        declarations.add("ck_rope", "void", "ptr, float")


def test_what_is_not_scheduled_is_refused(cut: Callable[..., Path]) -> None:
    text = stages(cut(MODELS[0]))[0]["buffers"]
    with pytest.raises(InternalError, match=r"^LLVM: rt.alloc is not scheduled; run the whole pipeline$"):
        emit_program(Parser(context(), text).parse_module())


# Objects.

TWICE = """
@ck_answer = constant i32 42
define i32 @ck_twice(i32 %x) {
entry:
  %y = add i32 %x, %x
  ret i32 %y
}
"""
CALLS = """
declare void @ck_nowhere(i32)
declare i64 @strlen(ptr)
define void @ck_call() {
entry:
  call void @ck_nowhere(i32 1)
  ret void
}
define i64 @ck_length(ptr %text) {
entry:
  %n = call i64 @strlen(ptr %text)
  ret i64 %n
}
"""


def built(text: str, folder: Path) -> Path:
    source, target = folder / "program.ll", folder / "program.o"
    source.write_text(text)
    build_object(source, target)
    return target


def test_an_object_is_loaded_from_its_file(tmp_path: Path) -> None:
    target = built(TWICE, tmp_path)
    moved = target.rename(tmp_path / "elsewhere.o")
    loaded = [LoadedObject(moved) for _ in range(2)]
    moved.unlink()
    for each in loaded:
        assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(each.address("ck_twice"))(21) == 42
        assert ctypes.c_int.from_address(each.address("ck_answer")).value == 42
    assert loaded[0].address("ck_twice") != loaded[1].address("ck_twice")
    with pytest.raises(InternalError, match=r"elsewhere\.o: the program has no symbol ck_thrice$"):
        loaded[0].address("ck_thrice")


def test_the_same_text_gives_the_same_object(tmp_path: Path) -> None:
    first = built(TWICE, tmp_path).read_bytes()
    assert built(TWICE, tmp_path).read_bytes() == first


def test_a_missing_symbol_is_one_line(tmp_path: Path) -> None:
    target = built(CALLS, tmp_path)
    with pytest.raises(MachineError) as caught:
        LoadedObject(target)
    wanted = f"{target}: does not load: it calls ck_nowhere, which nothing has; compile it again"
    assert str(caught.value) == wanted


@pytest.mark.parametrize("junk", [b"", b"\x7fELF\x02", b"int main;" * 100, "half"])
def test_what_is_no_object_is_one_line(junk: bytes | str, tmp_path: Path) -> None:
    target = built(TWICE, tmp_path)
    target.write_bytes(junk if isinstance(junk, bytes) else target.read_bytes()[:200])
    with pytest.raises(MachineError, match=r"^.*program\.o: does not load: this is no object file; .*$"):
        LoadedObject(target)


# The compiler.


@pytest.fixture
def forget_llvmlite() -> Iterator[None]:
    """llvmlite is imported once a process."""
    binding.cache_clear()
    yield
    binding.cache_clear()


@pytest.mark.usefixtures("forget_llvmlite")
def test_without_llvmlite_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"no module {name}\nand more")

    monkeypatch.setattr(build, "import_module", fail)
    for attempt in (lambda: binding(), lambda: LoadedObject(tmp_path / "program.o")):
        with pytest.raises(
            MachineError, match=r"^llvmlite: does not load: no module llvmlite.binding; run: "
        ):
            attempt()
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    assert identity() == "llvmlite missing"


def test_text_that_llvm_does_not_take_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="LLVM does not take the program"):
        built("define void @f() { nonsense }", tmp_path)


def test_the_identity_names_the_library_and_the_processor() -> None:
    assert identity() == identity()
    assert re.fullmatch(r"llvmlite [\d.]+\S* /.*libllvmlite\.so \d+ \d+ cpu [0-9a-f]{8}", identity())
