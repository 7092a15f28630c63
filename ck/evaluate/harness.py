"""The model as lm-evaluation-harness takes one: tasks ask it for likelihoods of texts and for replies.

A request is answered as the harness's own model of transformers answers it: a text gets BOS where the
vocabulary wants one, control tokens that it spells count as such, an empty context is BOS, or EOS without it.
The package is imported on use and is not needed for anything else.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ck.errors import MachineError, NetworkError, UnsupportedError, UsageError
from ck.evaluate.likelihood import encode, likelihoods, reply, rolling
from ck.runtime.generate import Session
from ck.runtime.model import Model
from ck.runtime.sampling import Sampler, SamplingParams

# Said of a request that says nothing.
MAX_REPLY = 256
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Names of a task's settings and of the sampler's.
_SAMPLING = {"top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
_READ = {"until", "do_sample", "temperature", *_MAX_TOKENS, *_SAMPLING}
# transformers' defaults, which tasks were written for.
_DRAW: dict[str, Any] = {"top_k": 50, "top_p": 1.0, "min_p": 0.0, "seed": 1234}

Request = tuple[Any, Sequence[int], Sequence[int]]
# Called with what is asked, requests done and requests in all.
Progress = Callable[[str, int, int], None]


def evaluate_tasks(
    model: Model,
    names: Sequence[str],
    folder: Path | None = None,
    n_shots: int | None = None,
    limit: int | None = None,
    chat: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The harness's results of the tasks `names`, its own or those described in `folder`.

    `n_shots` examples before each question, None is the task's; `limit` questions of each task at most;
    `chat` wraps them in the model's template. Raises MachineError without the package, UsageError for a task
    that there is not, NetworkError when a task's data cannot be had.
    """
    evaluator = _harness("evaluator")
    if chat and model.chat_template is None:
        raise UsageError("the model has no chat template; leave out --apply-chat-template")
    manager = _manager(names, folder)
    try:
        results: dict[str, Any] = evaluator.simple_evaluate(
            model=harness_model(model, progress),
            tasks=list(names),
            num_fewshot=n_shots,
            limit=limit,
            apply_chat_template=chat,
            task_manager=manager,
        )
    except OSError as error:
        # A failing disk has a number, what a hub says has none.
        if error.errno is not None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NetworkError(f"tasks: the data of {', '.join(names)} could not be had, {reason}") from error
    return results


def require_harness() -> None:
    """Raise MachineError with the command that installs the package when it is not there."""
    _harness("api.model")


def table(results: Mapping[str, Any]) -> str:
    """The results as the harness prints them."""
    make: Callable[..., str] = _harness("utils").make_table
    groups = make(results, "groups") if results.get("groups") else ""
    return make(results) + groups


def harness_model(model: Model, progress: Progress | None = None) -> Any:
    """`model` as a model of the harness. Raises MachineError without the package."""
    base: Any = _harness("api.model").TemplateLM
    return type("CkModel", (_Answers, base), {})(model, progress)


def _manager(names: Sequence[str], folder: Path | None) -> Any:
    """The harness's list of tasks, which knows all `names`. Its own thousands are read only when needed."""
    make: Any = _harness("tasks").TaskManager
    if folder is not None:
        own = make(include_path=str(folder), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    every = make(include_path=None if folder is None else str(folder))
    known: list[str] = every.all_tasks
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"task {unknown[0]}: no such task{_nearest(unknown[0], known)}")
    return every


def _harness(name: str) -> Any:
    try:
        import_module("lm_eval")
        return import_module(f"lm_eval.{name}")
    except ImportError as error:
        raise MachineError(
            f"tasks: needs lm_eval, {error.name} is not installed; run: pip install 'ck-engine[tasks]'"
        ) from error


def _nearest(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


class _Answers:
    """What the harness calls of a model; it is joined with the harness's own class."""

    def __init__(self, model: Model, progress: Progress | None) -> None:
        super().__init__()
        self._model, self._progress = model, progress
        tokenizer = model.tokenizer
        if tokenizer.eos_id is None:
            raise UnsupportedError("tasks need a vocabulary with an EOS token, the model's has none")
        self._bos_id, self._eos_id = tokenizer.bos_id, tokenizer.eos_id

    @property
    def eot_token_id(self) -> int:
        return self._eos_id

    @property
    def prefix_token_id(self) -> int:
        return self._eos_id if self._bos_id is None else self._bos_id

    @property
    def max_length(self) -> int:
        return self._model.exe.n_ctx

    @property
    def tokenizer_name(self) -> str:
        return self._model.file.label

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return encode(self._model.tokenizer, string, add_special_tokens is not False)

    def _loglikelihood_tokens(self, requests: Sequence[Request], **_: Any) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        done = self._counter("continuations", len(pairs))
        return [(each.log_prob, each.greedy) for each in likelihoods(self._model.exe, pairs, done)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        done, found = self._counter("texts", len(requests)), list[float]()
        for request in requests:
            ids = self.tok_encode(request.args[0])
            windows = list(rolling(ids, self.prefix_token_id, self.max_length))
            parts = likelihoods(self._model.exe, windows, lambda: None)
            found.append(sum(part.log_prob for part in parts))
            done()
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        session = Session(self._model.exe, self._model.tokenizer)
        done, found = self._counter("replies", len(requests)), list[str]()
        for request in requests:
            text, settings = request.args
            sampler, until, max_tokens = read_settings(settings)
            found.append(reply(session, self.tok_encode(text), sampler, until, max_tokens))
            done()
        return found

    def chat_template(self, chat_template: bool | str = False) -> str:
        template = self._model.chat_template
        return "" if template is None or chat_template is False else template.source

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        template = self._model.chat_template
        assert template is not None, "asked for before"
        return template.render(chat_history, add_generation_prompt)

    def _counter(self, what: str, n: int) -> Callable[[], None]:
        count = iter(range(1, n + 1))
        progress = self._progress
        return lambda: None if progress is None else progress(what, next(count), n)


def read_settings(given: Mapping[str, Any]) -> tuple[Sampler, list[str], int]:
    """The sampler, the texts that end a reply and its tokens at most, by a task's settings.

    Without do_sample or a temperature the likeliest token is taken. Raises UsageError for a setting that is
    not known.
    """
    if unknown := sorted(given.keys() - _READ):
        raise UsageError(f"a task's setting must be one of {', '.join(sorted(_READ))}, found {unknown[0]}")
    until: Any = given.get("until") or ()
    max_tokens = next((int(given[name]) for name in _MAX_TOKENS if given.get(name) is not None), MAX_REPLY)
    temperature = float(given.get("temperature") or 0.0)
    draws = given.get("do_sample", temperature > 0) and temperature > 0
    params: dict[str, Any] = {"temp": 0.0}
    if draws:
        chosen = {ours: given[name] for name, ours in _SAMPLING.items() if given.get(name) is not None}
        params = {**_DRAW, **chosen, "temp": temperature}
    texts = [until] if isinstance(until, str) else [str(text) for text in until]
    return Sampler(SamplingParams(**params)), texts, max_tokens
