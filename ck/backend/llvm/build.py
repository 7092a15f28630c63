"""From LLVM IR to an object file: llvmlite, for the features this CPU reports; its identity for cache keys.

The CPU's name is not asked for: virtual machines give names whose features they do not have.
"""

import hashlib
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ck.errors import InternalError, MachineError


@cache
def binding() -> Any:
    """llvmlite's binding, ready for this machine. Raises MachineError when it is missing or does not load."""
    if _package() is None:
        raise MachineError("LLVM: package llvmlite is required, found none; run: pip install llvmlite")
    try:
        llvm = import_module("llvmlite.binding")
    except (ImportError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MachineError(f"llvmlite: does not load: {first}; run: pip install llvmlite") from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def _machine(features: str | None = None) -> Any:
    """Code for these features, `+avx2,-avx512f,…`; without, for those that this CPU reports."""
    llvm = binding()
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(features=features, opt=3, reloc="pic", codemodel="small")


def _optimised(text: str, machine: Any) -> Any:
    """The module of `text`, optimised. Raises InternalError for text that LLVM does not take."""
    llvm = binding()
    layout = f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"\n'
    try:
        module = llvm.parse_assembly(layout + text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"LLVM does not take the program: {error}") from error
    # The IR says what is a vector. Unrolled, its loops run no faster and compile half as fast.
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module


def build_object(source: Path, target: Path, features: str | None = None) -> None:
    """Compile the text in `source` into the object file `target`, for this CPU or one with `features`.

    Raises MachineError without llvmlite, InternalError for text that LLVM does not take.
    """
    machine = _machine(features)
    target.write_bytes(machine.emit_object(_optimised(source.read_text(), machine)))


def assembly(text: str) -> str:
    """The machine's instructions for `text`. Raises what `build_object` raises."""
    machine = _machine()
    return machine.emit_assembly(_optimised(text, machine))


def identity() -> str:
    """llvmlite's version, path, size and time, and the CPU's features, without loading it."""
    found = _package()
    if found is None or found.origin is None:
        return "llvmlite missing"
    library = next(Path(found.origin).parent.glob("binding/*llvmlite.*"), Path(found.origin))
    info = library.stat()
    try:
        release = version("llvmlite")
    except PackageNotFoundError:
        release = "of unknown version"
    return f"llvmlite {release} {library} {info.st_size} {info.st_mtime_ns} cpu {_cpu_digest()}"


def _package() -> ModuleSpec | None:
    """Where llvmlite lies."""
    try:
        return find_spec("llvmlite")
    except (ImportError, ValueError):
        # Something in this process forbids the import, or has put a module without origin in its place.
        return None


def _cpu_digest() -> str:
    """Changes with the features that the kernel reports."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:8]
