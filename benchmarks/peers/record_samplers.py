"""Record what llama.cpp's samplers make of random logits, for tests/runtime/test_sampler_chains.py.

    python benchmarks/peers/llama_cpp.py           once: builds the peer
    python benchmarks/peers/record_samplers.py     writes tests/data/samplers.npz

Each case has ck's settings, the tokens that came before, and a row of logits. What is recorded: the tokens
that are left at the end of llama.cpp's chain, the probability of each, and the token that was drawn. A case
of several rows goes on with one chain, which accepts what it has drawn. Chains are put together as by
llama.cpp's own programs, common/sampling.cpp. Tokens are the first of GPT-2's vocabulary.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_export
import llama_cpp
import numpy as np

from ck.errors import CkError, GateError
from ck.frontend.gguf import GgufFile
from ck.frontend.tokenizer import Tokenizer
from ck.frontend.vocabulary import read_vocabulary
from ck.runtime.paths import private_dir
from ck.runtime.samplers.params import SamplingParams

ROOT = Path(__file__).parents[2]
OUT = ROOT / "tests" / "data" / "samplers.npz"
PROBE = Path(__file__).with_name("sampler_probe.c")
VOCABULARY = "ggml-vocab-gpt-2.gguf"
N_VOCAB, N_ROWS = 300, 6
# Filters off: what is recorded is the sampler in question.
PLAIN: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temp": 1.0}
# Tokens of GPT-2: "\n" is 198, ":" 25, " t" 256, " a" 257, "he" 258.
LOOP = [70, 71, 72, 73, 70, 71, 72]
SEEN = [1, 2, 3, 2, 1, 2, 9, 9, 9, 9, 40, 41]

SINGLE: list[dict[str, Any]] = [
    {}, {"temp": 0.3}, {"temp": 2.5}, {"top_k": 1}, {"top_k": 5}, {"top_k": 299}, {"top_k": 1000},
    {"top_p": 0.1}, {"top_p": 0.5}, {"top_p": 0.9}, {"top_p": 0.999}, {"top_p": 0.5, "min_keep": 25},
    {"min_p": 0.02}, {"min_p": 0.3}, {"min_p": 1.0}, {"min_p": 0.5, "min_keep": 9},
    {"typ_p": 0.1}, {"typ_p": 0.5}, {"typ_p": 0.95}, {"typ_p": 0.2, "min_keep": 30},
    {"top_n_sigma": 0.5}, {"top_n_sigma": 1.0}, {"top_n_sigma": 2.5},
    {"xtc_probability": 1.0}, {"xtc_probability": 1.0, "xtc_threshold": 0.02},
    {"xtc_probability": 1.0, "xtc_threshold": 0.5}, {"xtc_probability": 1.0, "xtc_threshold": 0.6},
    {"xtc_probability": 1.0, "xtc_threshold": 0.01, "min_keep": 299},
    {"dynatemp_range": 0.5}, {"dynatemp_range": 2.0},
    {"temp": 0.7, "dynatemp_range": 0.6, "dynatemp_exp": 2.0},
    {"top_k": 20, "dynatemp_range": 0.9, "dynatemp_exp": 0.5},
    {"logit_bias": [[7, 4.0], [11, -2.5]]}, {"logit_bias": [[7, 4.0], [11, "-inf"], [250, 6.5]], "top_k": 10},
    {"logit_bias": [[7, 4.0], [7, 1.0]]},
]  # fmt: skip
AFTER: list[dict[str, Any]] = [
    {"repeat_penalty": 1.5}, {"repeat_penalty": 0.7}, {"frequency_penalty": 0.4}, {"presence_penalty": 0.9},
    {"repeat_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": -0.5},
    {"repeat_penalty": 1.5, "repeat_last_n": 3}, {"repeat_penalty": 1.5, "repeat_last_n": 0},
]  # fmt: skip
DRY: list[tuple[list[int], dict[str, Any]]] = [
    (LOOP, {}), (LOOP, {"dry_base": 1.1}), (LOOP, {"dry_allowed_length": 3}),
    (LOOP, {"dry_allowed_length": 4}),
    (LOOP, {"dry_penalty_last_n": 4}), (LOOP, {"dry_penalty_last_n": 6}), (LOOP, {"dry_penalty_last_n": 0}),
    (LOOP, {"dry_allowed_length": 0}), (LOOP[:2], {}), ([], {}), ([5] * 40, {}), ([5, 6] * 25, {}),
    ([70, 71, 198, 73, 70, 71, 198], {}), ([70, 71, 198, 73, 74, 70, 71, 198, 73, 74], {}),
    ([198, 198, 198, 198], {}), (LOOP, {"dry_sequence_breakers": []}),
    ([70, 71, 198] * 4, {"dry_sequence_breakers": []}),
    # "the" over two tokens; "he" inside and at the end of others.
    ([256, 258, 80, 81, 82, 256, 258, 80, 81, 82], {"dry_sequence_breakers": [" the"]}),
    ([80, 81, 256, 258, 81, 82, 80, 81, 256, 258, 81], {"dry_sequence_breakers": [" the"]}),
    ([80, 81, 82, 256, 83, 80, 81, 82, 256], {"dry_sequence_breakers": [" the"]}),
    ([72, 68, 80, 81, 72, 68, 80, 81], {"dry_sequence_breakers": ["he", "i"]}),
]  # fmt: skip
DEFAULT: dict[str, Any] = {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temp": 0.8}
CHAINS: list[tuple[list[int], dict[str, Any]]] = [
    ([], DEFAULT), (SEEN, {**DEFAULT, "repeat_penalty": 1.3}), (LOOP, {**DEFAULT, "dry_multiplier": 0.8}),
    ([], {**DEFAULT, "typ_p": 0.7}), ([], {**DEFAULT, "xtc_probability": 1.0, "xtc_threshold": 0.05}),
    ([], {**DEFAULT, "top_n_sigma": 1.5}), ([], {**DEFAULT, "top_n_sigma": 0.6, "dynatemp_range": 0.4}),
    ([], {**DEFAULT, "temp": 1.4, "samplers": ["temperature", "top_k", "top_p"]}),
    ([], {**DEFAULT, "temp": 2, "samplers": ["top_k", "temperature", "xtc", "min_p"], "xtc_probability": 1}),
    (SEEN, {**DEFAULT, "repeat_penalty": 1.8, "samplers": ["top_k", "temperature", "penalties", "top_p"]}),
    ([], {**DEFAULT, "samplers": ["min_p", "typ_p", "top_p", "top_k"], "typ_p": 0.8}),
    ([], {**DEFAULT, "samplers": ["temperature"]}), ([], {**DEFAULT, "samplers": []}),
    (SEEN + LOOP, {**DEFAULT, "dry_multiplier": 0.5, "repeat_penalty": 1.1, "presence_penalty": 0.2,
                   "typ_p": 0.9, "top_n_sigma": 2.0, "dynatemp_range": 0.3, "logit_bias": [[70, 3.0]]}),
    (SEEN, {**DEFAULT, "temp": 0.0, "repeat_penalty": 3.0}), ([], {**DEFAULT, "temp": 0.0, "typ_p": 0.3}),
    ([], {**DEFAULT, "temp": 0.0, "xtc_probability": 1.0, "xtc_threshold": 0.02}),
]  # fmt: skip
MIROSTAT: list[dict[str, Any]] = [
    {"mirostat": 1}, {"mirostat": 1, "mirostat_tau": 2.0, "mirostat_eta": 0.5}, {"mirostat": 1, "temp": 0.6},
    {"mirostat": 2}, {"mirostat": 2, "mirostat_tau": 2.0, "mirostat_eta": 0.5},
    {"mirostat": 2, "temp": 0.6, "logit_bias": [[7, 4.0]], "repeat_penalty": 2.0},
]  # fmt: skip


def cases() -> list[dict[str, Any]]:
    """Settings, tokens before and rows of all cases."""
    found = [(list[int](), {**PLAIN, **given}, [n % N_ROWS]) for n, given in enumerate(SINGLE)]
    found += [(SEEN, {**PLAIN, **given}, [n % N_ROWS]) for n, given in enumerate(AFTER)]
    found += [
        (seen, {**PLAIN, "dry_multiplier": 0.8, **given}, [n % N_ROWS]) for n, (seen, given) in enumerate(DRY)
    ]
    found += [(seen, given, [n % N_ROWS]) for n, (seen, given) in enumerate(CHAINS)]
    found += [(list[int](), {**PLAIN, **given}, list(range(N_ROWS))) for given in MIROSTAT]
    return [{"seen": seen, "settings": settings, "rows": rows} for seen, settings, rows in found]


def steps(p: SamplingParams) -> list[str]:
    """llama.cpp's chain for `p`, as the probe's commands."""
    bias = " ".join(f"{token} {value}" for token, value in p.logit_bias)
    found = [f"logit_bias {N_VOCAB} {bias}"] if bias else []
    if p.mirostat:
        vocabulary = f"{N_VOCAB} " if p.mirostat == 1 else ""
        name = "mirostat" if p.mirostat == 1 else "mirostat_v2"
        found += [f"temperature {p.temp} 0 1", f"{name} {vocabulary}{p.mirostat_tau} {p.mirostat_eta}"]
        return found
    breakers = " ".join(text.encode().hex() for text in p.dry_sequence_breakers)
    dry = f"{p.dry_multiplier} {p.dry_base} {p.dry_allowed_length} {p.dry_penalty_last_n}"
    penalties = f"{p.repeat_last_n} {p.repeat_penalty} {p.frequency_penalty} {p.presence_penalty}"
    made = {
        "penalties": f"{N_VOCAB} {penalties}",
        "dry": f"{dry} {breakers}",
        "top_n_sigma": f"{p.top_n_sigma}",
        "top_k": f"{p.top_k}",
        "typ_p": f"{p.typ_p} {p.min_keep}",
        "top_p": f"{p.top_p} {p.min_keep}",
        "min_p": f"{p.min_p} {p.min_keep}",
        "xtc": f"{p.xtc_probability} {p.xtc_threshold} {p.min_keep}",
        "temperature": f"{p.temp} {p.dynatemp_range} {p.dynatemp_exp}",
    }
    return [*found, *(f"{name} {made[name]}" for name in p.samplers), "dist"]


def params_of(settings: dict[str, Any]) -> SamplingParams:
    """Settings as JSON has them, where an infinity is a text."""
    pairs = [(token, float(value)) for token, value in settings.get("logit_bias", ())]
    return SamplingParams(**{**settings, "logit_bias": pairs})


class Probe:
    """The probe at work."""

    def __init__(self, program: Path, model: Path) -> None:
        self._child = subprocess.Popen(
            [program, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def say(self, line: str) -> None:
        """Give a command."""
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def apply(self) -> tuple[int, list[int], list[float]]:
        """The token drawn, and what is left, by token."""
        assert self._child.stdout is not None
        self.say("apply")
        words = self._child.stdout.readline().split()
        if not words:
            raise GateError("sampler_probe: must answer each apply, it has ended")
        left = sorted((int(id), float(p)) for id, p in zip(words[1::2], words[2::2], strict=True))
        return int(words[0]), [id for id, _ in left], [p for _, p in left]


def record(case: dict[str, Any], rows: Any, probe: Probe) -> None:
    """Put what llama.cpp makes of it into `case`."""
    probe.say("new")
    for step in steps(params_of(case["settings"])):
        probe.say(f"add {step}")
    probe.say("accept " + " ".join(map(str, case["seen"])))
    case["results"] = []
    for n in case["rows"]:
        probe.say("row " + " ".join(repr(float(value)) for value in rows[n]))
        drawn, ids, probabilities = probe.apply()
        probe.say(f"accept {drawn}")
        case["results"].append({"drawn": drawn, "ids": ids, "p": [float(f"{p:.7g}") for p in probabilities]})


def main() -> int:
    try:
        source = llama_cpp.fetch_source(private_dir(llama_cpp.folder()))
        model = source / "models" / VOCABULARY
        probe = Probe(check_export.build_probe(PROBE), model)
        metadata = GgufFile(model).metadata
        vocabulary = read_vocabulary(metadata, len(metadata.strings("tokenizer.ggml.tokens")))
        tokenizer = Tokenizer.from_vocabulary(vocabulary)
        random = np.random.default_rng(20261126)
        rows = random.normal(scale=[[1], [2], [3], [4], [2], [3]], size=(N_ROWS, N_VOCAB)).astype(np.float32)
        found = cases()
        for case in found:
            record(case, rows, probe)
        pieces = [tokenizer.piece(token).hex() for token in range(N_VOCAB)]
        text = {"peer": llama_cpp.describe(), "vocabulary": VOCABULARY, "pieces": pieces, "cases": found}
        np.savez_compressed(OUT, rows=rows, text=np.frombuffer(json.dumps(text).encode(), np.uint8))
    except CkError as error:
        print(f"record_samplers.py: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{OUT}: {len(found)} cases, {OUT.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
