"""`ck.compile`: a model file becomes a program, from the cache when it was compiled before."""

import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ck.backend.backends import Backend
from ck.errors import UsageError
from ck.frontend.gguf import GgufFile
from ck.runtime import products, store
from ck.runtime.building import find_or_build
from ck.runtime.executable import Executable
from ck.runtime.library import thread_count, trim_memory
from ck.runtime.resolve import resolve_model
from ck.runtime.weights import Weights

if TYPE_CHECKING:
    from ck.frontend.chat_template import ChatTemplate
    from ck.frontend.tokenizer import Tokenizer

KV_TYPES = ("f16", "f32")
# context_len, kv, dtype, chunk, as `compile_model` takes them.
Options = tuple[int | None, str, str | None, int]
Progress = Callable[[str], None]


class Model:
    """A compiled model: text in and out, logits, and everything the compiler made on the way."""

    def __init__(self, file: GgufFile, program: store.StoredProgram, threads: int | None) -> None:
        self.file = file
        self.program = program
        n_threads = thread_count(threads)
        started = time.perf_counter()
        weights = Weights(file, program.manifest.weights, program.constants, n_threads)
        file.drop_header_pages()
        options = program.record["options"]
        self.exe = Executable(
            program.compiled,
            program.manifest,
            weights,
            options["context_len"],
            options["window"],
            n_threads,
        )
        self.info: dict[str, Any] = {
            **program.record,
            "program": str(program.compiled),
            "directory": str(program.directory),
            "pack_ms": round((time.perf_counter() - started) * 1e3, 1),
            "weight_bytes": weights.n_bytes,
            "kv_bytes": sum(slot.n_bytes for slot in program.manifest.caches),
            "arena_bytes": program.manifest.arena_bytes,
        }

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """Made on first use: a program runs without it."""
        from ck.frontend.tokenizer import Tokenizer

        tokenizer = Tokenizer.from_gguf(self.file)
        # Building leaves free pages behind: 76 of 438 MiB resident for Gemma 3 270M's 262144 tokens, 7 of 159
        # for SmolLM2-135M's 49152; giving them back takes 6 ms (2 cores, 2026-11-23). Packing leaves none.
        trim_memory()
        self.file.drop_header_pages()
        return tokenizer

    @cached_property
    def chat_template(self) -> "ChatTemplate | None":
        """The file's chat template; None for a base model."""
        from ck.frontend.chat_template import ChatTemplate

        metadata = self.file.metadata
        if "tokenizer.chat_template" not in metadata:
            return None
        return ChatTemplate(
            metadata.text("tokenizer.chat_template"), self._special("bos"), self._special("eos")
        )

    def _special(self, name: str) -> str:
        """The text of a special token; empty where the file names none."""
        key = f"tokenizer.ggml.{name}_token_id"
        if key not in self.file.metadata:
            return ""
        return self.tokenizer.piece(self.file.metadata.integer(key)).decode(errors="replace")

    def __call__(self, ids: Any) -> NDArray[np.float32]:
        """Logits [T, V] of token ids [T], from an empty cache."""
        with self.exe.lock:
            self.exe.reset()
            return self.exe.score(ids)

    def generate(self, prompt: str, max_tokens: int = 64, seed: int = -1, **sampling: Any) -> str:
        """The model's answer to `prompt`, wrapped in its chat template when it has one.

        `sampling` are `SamplingParams`' fields, with llama.cpp's defaults; temp=0 is argmax. A `seed` below 0
        is drawn.
        """
        from ck.runtime.chat import Conversation
        from ck.runtime.generate import Session
        from ck.runtime.sampling import Sampler, SamplingParams

        sampler = Sampler(SamplingParams(seed=seed, **sampling))
        talk = Conversation(Session(self.exe, self.tokenizer), self.chat_template, None)
        with self.exe.lock:
            return "".join(piece.text for piece in talk.reply(prompt, sampler, max_tokens))

    def ir(self, stage: str) -> str:
        """The IR's text at a stage of the pipeline. Raises UsageError for another name."""
        try:
            return self.program.ir(stage)
        except KeyError as error:
            raise UsageError(str(error.args[0])) from error

    def source(self, backend: str | None = None) -> str:
        """The text that was compiled, C or LLVM's; or that which the backend of that name would compile."""
        return products.source(self.program, backend)

    def assembly(self) -> str:
        """The instructions of the program."""
        return products.assembly(self.program)

    def compiled(self, backend: str) -> bytes:
        """The file that the backend of that name makes: c a shared object, llvm an object."""
        return products.compiled(self.program, backend)

    def explain(self) -> str:
        """Each generated kernel and each call: members, why a neighbour is not in it, bytes, buffers."""
        from ck.runtime.explain import explain

        return explain(self.ir("kernels"), self.ir("buffers"))


def compile_model(
    model: str | os.PathLike[str] | Any,
    context_len: int | None = None,
    kv: str = "f16",
    dtype: str | None = None,
    threads: int | None = None,
    chunk: int = 512,
    backend: str | None = None,
    force: bool = False,
    check: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Compile a GGUF file, a run directory or a known name, or load it from the cache.

    context_len  positions of a sequence; None is the smaller of the model's and 4096, 0 the model's
    kv           f16 or f32
    dtype        None keeps the file's storage types; "f32" dequantises every weight
    threads      default: CK_THREADS, else what affinity and quota allow
    chunk        rows of a prefill step at most
    backend      c or llvm; None is C where a C compiler works, else LLVM, with a CkWarning
    force        compile even what is in the cache
    check        execute the program before and after every pass and compiled, on made-up weights, and compare
    progress     called with the name of each stage of a compilation, with a line of each check

    Raises UsageError, MalformedError, UnsupportedError, MachineError, ResourceError, and GateError from a
    check: each one line.
    """
    options = _options(context_len, kv, dtype, chunk)
    path = resolve_model(_argument(model))
    file = GgufFile(path)
    if check:
        from ck.runtime.check import check_model

        check_model(path, options, progress or (lambda _: None))

    def fill(directory: Path, made_by: Backend) -> tuple[object, ...]:
        return _fill(directory, made_by, path, options, progress or (lambda _: None)), path.resolve()

    program = find_or_build((file.header_digest(), options), fill, backend, force)
    return Model(file, program, threads)


def _options(context_len: int | None, kv: str, dtype: str | None, chunk: int) -> Options:
    """What shapes a program. Raises UsageError."""
    if kv not in KV_TYPES:
        raise UsageError(f"kv: one of {', '.join(KV_TYPES)} is required, found {kv}")
    if dtype not in (None, "f32"):
        raise UsageError(f"dtype: f32 or None is required, found {dtype}")
    if chunk < 1:
        raise UsageError(f"chunk: 1 row at least is required, found {chunk}")
    return context_len, kv, dtype, chunk


def _argument(model: Any) -> str:
    """What may stand for a model, as text."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(cast("str | os.PathLike[str]", model))
    raise UsageError(
        f"model: a file or a known name is required, found {type(model).__name__}; "
        'a template is compiled with mode="train"'
    )


def _fill(directory: Path, made_by: Backend, path: Path, options: Options, progress: Progress) -> str:
    # The compiler proper is imported here alone: a cached program never needs it.
    from ck.runtime.compilation import compile_into

    text = compile_into(directory, path, options, made_by, progress)
    (directory / "model.gguf").symlink_to(path.resolve())
    return text
