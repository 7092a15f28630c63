"""What tasks ask of a model, in tokens: how likely continuations and whole texts are, and replies.

A sequence that is longer than the context loses its beginning. Requests that begin alike are answered one
after the other, and what they share is fed once: logits depend on the tokens alone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ck.errors import UsageError
from ck.evaluate.log_probs import log_prob_of
from ck.evaluate.windows import row_pieces
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.executable import Executable
from ck.runtime.generate import Session
from ck.runtime.sampling import Sampler

Ids = Sequence[int]


class Likelihood(NamedTuple):
    """ln p of a continuation, and whether the likeliest token at each of its places is its own."""

    log_prob: float
    greedy: bool


def likelihoods(
    exe: Executable, requests: Sequence[tuple[Ids, Ids]], done: Callable[[], None]
) -> list[Likelihood]:
    """Of each (context, continuation), one token of context at least; `done` is called after each.

    Raises UsageError when a continuation does not fit the context of the program.
    """
    found: dict[int, Likelihood] = {}
    fed: list[int] = []
    exe.reset()
    for at in sorted(range(len(requests)), key=lambda n: [*requests[n][0], *requests[n][1]]):
        context, continuation = requests[at]
        if len(continuation) > exe.n_ctx:
            raise UsageError(
                f"a continuation must fit the context of {exe.n_ctx} tokens, one has {len(continuation)}"
            )
        ids = [*context, *continuation][-(exe.n_ctx + 1) :][:-1]
        found[at] = _likelihood(exe, fed, ids, continuation)
        fed = ids
        done()
    return [found[at] for at in range(len(requests))]


def _likelihood(exe: Executable, fed: Ids, ids: list[int], continuation: Ids) -> Likelihood:
    """Of `continuation`, when `ids` are all tokens but its last; the program has been fed `fed`."""
    first = len(ids) - len(continuation)
    limit = min(first, len(fed))
    kept = next((n for n in range(limit) if fed[n] != ids[n]), limit)
    if kept == 0 or not exe.rewind(kept):
        exe.reset()
        kept = 0
    if kept < first:
        exe.prefill(np.array(ids[kept:first], np.int32))
    log_prob, greedy, wanted = 0.0, True, np.array(continuation, np.int32)
    for piece in row_pieces(len(continuation), exe.n_vocab):
        logits = exe.score(np.array(ids[first:][piece], np.int32))
        log_prob += float(log_prob_of(logits, wanted[piece]).sum())
        greedy = greedy and bool((logits.argmax(-1) == wanted[piece]).all())
    return Likelihood(log_prob, greedy)


def rolling(ids: Ids, prefix: int, n_ctx: int) -> Iterator[tuple[list[int], list[int]]]:
    """A text as (context, continuation)s that foretell each of its tokens once, `prefix` before the first.

    Each foretells `n_ctx` tokens after one, the last what is left, after as many as there is room for.
    """
    for start in range(0, len(ids), n_ctx):
        stop = min(start + n_ctx, len(ids))
        context = ids[max(0, stop - n_ctx - 1) : start] if start else [prefix]
        yield list(context), list(ids[start:stop])


def reply(session: Session, prompt: Ids, sampler: Sampler, until: Sequence[str], max_tokens: int) -> str:
    """What the model says after `prompt`, up to the first of the texts `until`, `max_tokens` at most.

    The prompt keeps its last tokens when there is not room for both. Raises UsageError when there is none.
    """
    room = session.engine.n_ctx - max_tokens
    if room < 1:
        raise UsageError(
            f"a reply of {max_tokens} tokens needs a longer context than {session.engine.n_ctx}; raise -c"
        )
    text = ""
    for piece in session.stream(list(prompt)[-room:], sampler, max_tokens):
        text += piece.text
        if any(stop in text for stop in until if stop):
            break
    return cut_off(text, until)


def cut_off(text: str, until: Sequence[str]) -> str:
    """`text` up to the first of the texts `until`; empty ones end nothing."""
    ends = [at for stop in until if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))]


def encode(tokenizer: Tokenizer, text: str, special: bool) -> list[int]:
    """The ids of `text`, control tokens that it spells among them, after BOS where the vocabulary wants one.

    No BOS comes before a text that begins with it, nor when `special` is not set.
    """
    ids = tokenizer.encode(text, add_special=False, parse_special=True)
    if not special or not tokenizer.add_bos or tokenizer.bos_id is None or ids[:1] == [tokenizer.bos_id]:
        return ids
    return [tokenizer.bos_id, *ids]
