"""`ck.compile`: a model becomes a program, from the cache when it was compiled before."""

import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ck.backend.backends import Backend
from ck.errors import UsageError
from ck.frontend.model import open_file
from ck.frontend.model_file import ModelFile
from ck.runtime import products, store
from ck.runtime.building import find_or_build, wanted_backend
from ck.runtime.executable import Executable
from ck.runtime.library import thread_count, trim_memory
from ck.runtime.options import Options
from ck.runtime.resolve import resolve_adapter, resolve_model
from ck.runtime.weights import Weights

if TYPE_CHECKING:
    from ck.frontend.chat_template import ChatTemplate
    from ck.frontend.sampling_defaults import SamplingDefaults
    from ck.frontend.tokenizer import Tokenizer
    from ck.runtime.chat import Conversation, ThinkingMode
    from ck.runtime.chat_state import StateKeeper

Progress = Callable[[str], None]


class Model:
    """A compiled model: text in and out, logits, and everything the compiler made on the way."""

    def __init__(self, file: ModelFile, program: store.StoredProgram, threads: int | None) -> None:
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
        tokenizer = self.file.tokenizer()
        # Building leaves free pages behind: 76 of 438 MiB resident for Gemma 3 270M's 262144 tokens, 7 of 159
        # for SmolLM2-135M's 49152; giving them back takes 6 ms (2 cores, 2026-11-23). Packing leaves none.
        trim_memory()
        self.file.drop_header_pages()
        return tokenizer

    @cached_property
    def chat_template(self) -> "ChatTemplate | None":
        """The model's chat template; None for a base model."""
        from ck.frontend.chat_template import template_of

        source = self.file.chat_template
        return None if source is None else template_of(source, self.tokenizer)

    @property
    def sampling(self) -> "SamplingDefaults | None":
        """How the model wants its tokens drawn; None when it says nothing. Raises MalformedError."""
        return self.file.sampling

    def __call__(self, ids: Any) -> NDArray[np.float32]:
        """Logits [T, V] of token ids [T], from an empty cache."""
        with self.exe.lock:
            self.exe.reset()
            return self.exe.score(ids)

    def generate(
        self,
        prompt: str,
        max_tokens: int = 64,
        seed: int = -1,
        thinking: "ThinkingMode" = "auto",
        stop: Sequence[str] = (),
        model_sampling: bool = True,
        **sampling: Any,
    ) -> str:
        """The model's answer to `prompt`, wrapped in its chat template when it has one.

        What the model thinks before it answers is left out. `thinking` on or off turns it on or off where the
        template can, with a CkWarning where it cannot. `sampling` are `SamplingParams`' fields; what is not
        given is the model's own, unless `model_sampling` is false, else llama.cpp's; temp=0 is argmax. A
        `seed` below 0 is drawn. The answer ends before any text of `stop`.
        """
        from ck.runtime.sampling import Sampler, settle

        params = settle({"seed": seed, **sampling}, self.sampling if model_sampling else None)
        sampler = Sampler(params, self.tokenizer)
        talk = self.conversation(None, thinking, stop)
        with self.exe.lock:
            return "".join(piece.text for piece in talk.reply(prompt, sampler, max_tokens))

    def conversation(
        self, system: str | None = None, thinking: "ThinkingMode" = "auto", stop: Sequence[str] = ()
    ) -> "Conversation":
        """A conversation, whose replies see the turns before; it has the program until another begins."""
        from ck.runtime.chat import Conversation
        from ck.runtime.generate import Session

        session = Session(self.exe, self.tokenizer, stop=stop)
        return Conversation(session, self.chat_template, system, thinking)

    @cached_property
    def keeper(self) -> "StateKeeper":
        """What saves conversations to files and loads them: `keeper.save(talk, path)`, `load(talk, path)`."""
        from ck.runtime.chat_state import StateKeeper, fingerprint
        from ck.runtime.state_file import StateIdentity

        options, caches = self.program.record["options"], tuple(self.program.manifest.caches)
        return StateKeeper(
            self.exe, lambda: StateIdentity(fingerprint(self.file), self.file.name, options, caches)
        )

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
    quantize: str | None = None,
    tokenizer: Any = None,
    threads: int | None = None,
    chunk: int = 512,
    activations: str = "q16",
    adapter: str | os.PathLike[str] | None = None,
    backend: str | None = None,
    force: bool = False,
    check: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Compile a model, or load it from the cache.

    model        a GGUF file, a transformers folder, a run directory, a name, a transformers object
    context_len  positions of a sequence; None is the smaller of the model's and 4096, 0 the model's
    kv, dtype    of the cache: f16 or f32; of the weights: "f32" dequantises all, None leaves their types
    quantize     q8_0, q6_k, q4_k, q4_0, ..: how the matrices of a folder or an object are stored
    tokenizer    the transformers tokenizer of a model in this process; text needs it
    threads      default: CK_THREADS, else what affinity and quota allow
    chunk        rows of a prefill step at most
    activations  rows for quantised weights: q16, of 15 bits, or q8, of 8: less exact, faster on AVX-512 VNNI
    adapter      an adapter in PEFT's format, a folder or a name on the hub, which is merged on load
    backend      c or llvm; None is C where a C compiler works, else LLVM, with a CkWarning
    force, check compile even what is in the cache; compare every pass's program with the one before
    progress     called with the name of each stage of a compilation, with a line of each check

    Raises UsageError, MalformedError, UnsupportedError, MachineError, ResourceError, GateError.
    """
    options, made_by = Options(context_len, kv, dtype, chunk, activations).checked(), wanted_backend(backend)
    file, tell = _adapted(_open(model, quantize, tokenizer), adapter), progress or _silent
    if check:
        _check(file, options, tell)
    fill = partial(_fill, file, options, tell)
    program = find_or_build((file.header_digest(), options), fill, made_by, force)
    return Model(file, program, threads)


def _silent(line: str) -> None:
    """The progress of a caller that shows none."""


def _check(file: ModelFile, options: Options, progress: Progress) -> None:
    from ck.runtime.check import check_model

    check_model(file, options, progress)


def _open(model: Any, quantize: str | None, tokenizer: Any) -> ModelFile:
    """The model that `model` means."""
    if isinstance(model, str | os.PathLike):
        if tokenizer is not None:
            raise UsageError("tokenizer: a model on disk has its own; leave it out")
        return open_file(resolve_model(os.fspath(cast("str | os.PathLike[str]", model))), quantize)
    from ck.frontend.huggingface.live import LiveModel, is_live

    if is_live(model):
        return LiveModel(model, tokenizer, quantize)
    raise UsageError(
        "model: a file, a folder, a name or a transformers model is required, "
        f'found {type(model).__name__}; a template is compiled with mode="train"'
    )


def _adapted(file: ModelFile, adapter: str | os.PathLike[str] | None) -> ModelFile:
    """The model with the adapter, if there is one, in it."""
    if adapter is None:
        return file
    from ck.runtime.adapted_model import AdaptedModel

    return AdaptedModel(file, resolve_adapter(adapter))


def _fill(
    file: ModelFile, options: Options, progress: Progress, directory: Path, made_by: Backend
) -> tuple[object, ...]:
    """Put the program of a model into `directory`; returns what tells it from others."""
    # The compiler proper is imported here alone: a cached program never needs it.
    from ck.runtime.compilation import compile_into

    text = compile_into(directory, file, options, made_by, progress)
    record = file.record()
    for part in () if record["file"] is None else record.get("parts", (record,)):
        (directory / part["file"]).symlink_to(part["path"])
    return text, None if file.path is None else file.path.resolve()
