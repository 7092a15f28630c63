"""Stop texts: where a reply ends, however it is cut into pieces, and that no part of one is ever seen."""

import random
from typing import Any, cast

import pytest

from ck.errors import UsageError
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.generate import Engine, Session
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler
from ck.runtime.stops import StopFinder
from tests.cli.stand_in import Executable
from tests.cli.stand_in import Tokenizer as Bytes

# Stop texts, what the model says, what is seen, whether it was stopped.
CASES: list[tuple[list[str], str, str, bool]] = [
    # None, and none that comes.
    ([], "", "", False),
    ([], "Paris.", "Paris.", False),
    (["x"], "", "", False),
    (["x"], "Paris.", "Paris.", False),
    (["Rome"], "Paris.", "Paris.", False),
    (["a much longer text than the reply"], "a much longer", "a much longer", False),
    # One character.
    (["."], "Paris. Yes.", "Paris", True),
    (["P"], "Paris.", "", True),
    (["\n"], "Paris.\nYes", "Paris.", True),
    (["\n"], "\n", "", True),
    ([" "], " Paris", "", True),
    (["\0"], "a\0b", "a", True),
    # Several characters: at the beginning, in the middle, at the end, alone.
    (["User:"], "User: hi", "", True),
    (["User:"], "Paris.\nUser: hi", "Paris.\n", True),
    (["\nUser:"], "Paris.\nUser: hi", "Paris.", True),
    (["User:"], "Paris.\nUser:", "Paris.\n", True),
    (["User:"], "User:", "", True),
    (["###"], "a###b###c", "a", True),
    (["</s>"], "a</s>", "a", True),
    (["<|im_end|>"], "Paris<|im_end|>\n", "Paris", True),
    # What only begins like one is the model's own.
    (["User:"], "Use this.", "Use this.", False),
    (["User:"], "Paris.\nUser", "Paris.\nUser", False),
    (["User:"], "U", "U", False),
    (["###"], "a##b#c", "a##b#c", False),
    (["###"], "a##", "a##", False),
    (["\n\n"], "a\nb\nc\n", "a\nb\nc\n", False),
    (["\n\n"], "a\nb\n\nc", "a\nb", True),
    (["}\n\n"], '{"a": 1}', '{"a": 1}', False),
    (["}\n\n"], '{"a": 1}\n', '{"a": 1}\n', False),
    (["abcd"], "abcabcabc", "abcabcabc", False),
    (["</s>"], "</s", "</s", False),
    (["<|im_end|>"], "a <|im_start|> b", "a <|im_start|> b", False),
    # What begins like one goes over into one.
    (["###"], "a####", "a", True),
    (["aab"], "aaab", "a", True),
    (["abab"], "aabab", "a", True),
    (["ababc"], "abababc", "ab", True),
    (["aaa"], "baaab", "b", True),
    (["abcd"], "abcabcd", "abc", True),
    (["</s>"], "<</s>", "<", True),
    (["nano"], "banananano", "banana", True),
    (["\n\nUser"], "\n\n\nUser", "\n", True),
    (["a b"], "a a b", "a ", True),
    # Several: the one that is complete first; of two that are complete together, the longer.
    (["x", "y"], "ayx", "a", True),
    (["y", "x"], "axy", "a", True),
    (["ab", "xabc"], "xabc", "x", True),
    (["xabc", "ab"], "xabc", "x", True),
    (["bc", "abc"], "abc", "", True),
    (["abc", "bc"], "zbc", "z", True),
    (["c", "abc"], "abc", "", True),
    (["abcd", "bcx"], "abcx", "a", True),
    (["abcd", "bc"], "abcd", "a", True),
    (["abcde", "cdx", "dy"], "abcdy", "abc", True),
    (["User:", "Assistant:"], "Assist Assistant: User:", "Assist ", True),
    (["stop", "stop"], "a stop", "a ", True),
    (["aa", "ab"], "aab", "", True),
    (["ba", "bb"], "abba", "a", True),
    # Characters of two, three and four bytes, and such as look alike.
    (["é"], "café!", "caf", True),
    (["é"], "cafe\u0301!", "cafe\u0301!", False),
    (["é!"], "caféé!", "café", True),
    (["東京"], "首都は東京です", "首都は", True),
    (["東京"], "東北", "東北", False),
    (["\U0001f600"], "hi \U0001f600", "hi ", True),
    (["\U0001f600\U0001f601"], "\U0001f600\U0001f600\U0001f601", "\U0001f600", True),
    (["\U0001f600"], "\U0001f601\U0001f602", "\U0001f601\U0001f602", False),
    (["\ufffd"], "a\ufffdb", "a", True),
    (["\u2581"], "a\u2581b", "a", True),
    # Case and blanks count.
    (["user:"], "User: user:", "User: ", True),
    (["a  b"], "a b a  b", "a b ", True),
    (["\r\n"], "a\nb\r\nc", "a\nb", True),
    (["\t"], "a\tb", "a", True),
]


def test_there_are_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize(("stops", "reply", "seen", "found"), CASES, ids=lambda value: repr(value)[:30])
def test_a_reply_in_pieces(stops: list[str], reply: str, seen: str, found: bool) -> None:
    for size in (1, 2, 3, 7, 100):
        finder, so_far = StopFinder(stops), ""
        for start in range(0, len(reply), size):
            so_far += finder.feed(reply[start : start + size])
            assert seen.startswith(so_far), size
        assert so_far + finder.finish() == seen, size
        assert finder.found == found, size


@pytest.mark.parametrize(("stops", "reply", "seen", "found"), CASES, ids=lambda value: repr(value)[:30])
def test_a_reply_in_bytes(stops: list[str], reply: str, seen: str, found: bool) -> None:
    session, text = talk(reply, stops)
    assert text == seen
    assert session.stats.stop == ("stop" if found else "eog")


def talk(reply: str | bytes, stops: list[str], n_ctx: int = 400, **limits: Any) -> tuple[Session, str]:
    """A session after a reply, each token of which is a byte, and its text."""
    exe = Executable("", n_ctx, 64, 1)
    exe.reply = reply.encode() if isinstance(reply, str) else reply
    session = Session(cast("Engine", exe), cast("Tokenizer", Bytes()), stop=stops)
    pieces = list(session.stream([65], Sampler(SamplingParams(temp=0)), **limits))
    return session, "".join(piece.text for piece in pieces)


def naive(stops: list[str], reply: str) -> str:
    """What is seen, by the definition."""
    ends = [(reply.find(stop) + len(stop), -len(stop)) for stop in stops if stop in reply]
    return reply[: min(ends)[0] + min(ends)[1]] if ends else reply


def test_random_replies_are_by_the_definition() -> None:
    draw = random.Random(1)
    for _ in range(3000):
        stops = ["".join(draw.choices("ab", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 3))]
        reply = "".join(draw.choices("abc", k=draw.randint(0, 12)))
        finder, text, rest = StopFinder(stops), "", reply
        while rest:
            n = draw.randint(1, 4)
            text += finder.feed(rest[:n])
            rest = rest[n:]
        assert text + finder.finish() == naive(stops, reply), (stops, reply)


def test_what_cannot_become_a_stop_text_is_not_held_back() -> None:
    finder = StopFinder(["###", "\nUser:"])
    assert [finder.feed(text) for text in ("Par", "is", "#", "#", "x", "\n", "Us", "a")] == [
        "Par", "is", "", "", "##x", "", "", "\nUsa"
    ]  # fmt: skip


REASONS: list[tuple[bytes, list[str], dict[str, Any], str, str]] = [
    (b"Paris", [], {}, "Paris", "eog"),
    (b"Paris", ["r"], {}, "Pa", "stop"),
    (b"Paris", ["s"], {"max_tokens": 5}, "Pari", "stop"),
    (b"Paris", ["s"], {"max_tokens": 4}, "Pari", "length"),
    (b"Paris", ["is!"], {"max_tokens": 4}, "Pari", "length"),
    (b"Paris", ["is!"], {"max_tokens": 5}, "Paris", "length"),
    (b"Paris", ["is!"], {}, "Paris", "eog"),
    (b"Paris", ["Paris"], {"max_tokens": 5}, "", "stop"),
    (b"Paris", ["P"], {"max_tokens": 0}, "", "length"),
    (b"Paris is", ["zz"], {"n_ctx": 4}, "Pari", "context"),
    (b"Paris is", ["ri"], {"n_ctx": 4}, "Pa", "stop"),
    (b"Paris", ["x"], {"should_stop": lambda: True}, "", "interrupted"),
    # A character that the reply ends inside of, with and without a stop text.
    (b"caf\xc3", ["x"], {}, "caf\ufffd", "eog"),
    (b"caf\xc3\xa9", ["x"], {"max_tokens": 4}, "caf\ufffd", "length"),
    (b"caf\xc3\xa9", ["\u00e9"], {"max_tokens": 4}, "caf\ufffd", "length"),
    (b"caf\xc3\xa9", ["\u00e9"], {"max_tokens": 5}, "caf", "stop"),
    (b"\xf0\x9f\x98\x80!", ["!"], {}, "\U0001f600", "stop"),
    (b"\xff\xfe", ["x"], {}, "\ufffd\ufffd", "eog"),
]


@pytest.mark.parametrize(("reply", "stops", "limits", "seen", "reason"), REASONS)
def test_why_a_reply_ended(
    reply: bytes, stops: list[str], limits: dict[str, Any], seen: str, reason: str
) -> None:
    session, text = talk(reply, stops, **limits)
    assert (text, session.stats.stop) == (seen, reason)


def test_a_control_token_may_be_a_stop_text_and_is_not_shown() -> None:
    class Hidden(Bytes):
        def piece(self, token: int) -> bytes:
            return b"<|end|>" if token == 2 else super().piece(token)

        def is_control(self, token: int) -> bool:
            return token == 2 or super().is_control(token)

    def reply(stops: list[str]) -> tuple[str, str]:
        exe = Executable("ab\x02cd", 400, 64, 1)
        session = Session(cast("Engine", exe), cast("Tokenizer", Hidden()), stop=stops)
        pieces = session.stream([65], Sampler(SamplingParams(temp=0)))
        return "".join(piece.text for piece in pieces), session.stats.stop

    assert reply([]) == ("abcd", "eog")
    assert reply(["<|end|>"]) == ("ab", "stop")
    assert reply(["b<|end|>c"]) == ("a", "stop")
    assert reply(["b<|end|>x"]) == ("abcd", "eog")
    assert reply(["bcd"]) == ("abcd", "eog")


def test_tokens_of_a_stop_text_are_counted_and_the_next_turn_goes_without_them() -> None:
    session, text = talk("Paris###more", ["###"])
    assert (text, bytes(session.reply)) == ("Paris", b"Paris###")
    assert session.stats.n_generated == 8
    list(session.stream([65, *b"Paris", 66], Sampler(SamplingParams(temp=0)), max_tokens=1))
    assert session.stats.n_cached == 6


@pytest.mark.parametrize(
    ("stops", "words"),
    [
        ([""], "stop: a text must have one character at least"),
        ("###", "stop: must be a list of texts, found the"),
    ],
)
def test_refusals(stops: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        StopFinder(stops)
    with pytest.raises(UsageError, match=words):
        talk("a", stops)
