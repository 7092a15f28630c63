"""`ck run` in this process: what goes to stdout and to stderr, what reaches the sampler, what is refused."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from ck.cli.run import command
from ck.frontend.sampling_defaults import SamplingDefaults
from ck.runtime.samplers.params import SamplingParams
from tests.cli.stand_in import BOS, EOG, REPLY

Install = Callable[..., list[Any]]


def spoken(ids: list[int]) -> bytes:
    """The text of ids, which BOS begins."""
    assert ids[0] == BOS
    return bytes(id for id in ids if id < EOG)


def test_flags_preset_what_the_sampler_presets() -> None:
    context = click.Context(command)
    params = {parameter.name: parameter.get_default(context) for parameter in command.params}
    for name, field in inspect.signature(SamplingParams).parameters.items():
        # A flag for several values has none of its own, and means the sampler's.
        given = {name: params[name]} if isinstance(params[name], str | float | int) else {}
        assert getattr(SamplingParams(**given), name) == field.default, name


def test_a_prompt_gets_the_answer_alone(ck_main: Any, model: str, stand_in: Install) -> None:
    calls = stand_in()
    result = ck_main("run", model, "--prompt", "What?", "--temp", "0", "-t", "1", "-c", "99", "-b", "7")
    assert (result.code, result.out) == (0, REPLY + "\n")
    assert re.match(r"context 99, threads 1, seed \d+\n\d+ prompt tokens .*; stopped by eog\n$", result.err)
    options = calls[0].options
    assert callable(options.pop("progress"))
    expected = {"context_len": 99, "threads": 1, "chunk": 7, "kv": "f16", "dtype": None, "backend": None}
    expected |= {"activations": "q16"}
    assert options == expected | {"quantize": None, "adapter": None, "force": False, "check": False}
    assert spoken(calls[0].model.exe.fed).startswith(b"[user]What?[assistant]Paris")


def test_a_seed_is_printed_and_kept(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in()
    assert "seed 42\n" in ck_main("run", model, "-p", "x", "--seed", "42").err
    seeds = {re.findall(r"seed (\d+)", ck_main("run", model, "-p", "x").err)[0] for _ in range(3)}
    assert len(seeds) == 3


def test_the_number_of_tokens_is_limited(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in()
    result = ck_main("run", model, "-p", "x", "-n", "5")
    assert result.out == REPLY[:5] + "\n"
    assert result.err.endswith("stopped by length\n")


def test_json(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in()
    result = ck_main("run", model, "-p", "What?", "--json", "--seed", "3", "-n", "5")
    data = json.loads(result.out)
    assert data["schema_version"] == 1
    assert (data["prompt"], data["answer"], data["seed"]) == ("What?", "Paris", 3)
    assert data["answer_ids"] == list(b"Paris")
    assert spoken(data["prompt_ids"]) == b"[user]What?[assistant]"
    assert data["stats"]["stop"] == "length"
    assert data["stats"]["n_generated"] == 5


def test_token_ids_go_to_stderr(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in(reply="ab")
    result = ck_main("run", model, "-p", "x", "--chat-template", "none", "--show-token-ids")
    assert result.out == "ab\n"
    assert "prompt ids: 257 120\nanswer ids: 97 98\n" in result.err


def test_a_base_model_says_so_in_one_line(ck_main: Any, model: str, stand_in: Install) -> None:
    calls = stand_in(base=True)
    result = ck_main("run", model, "-p", "Once")
    assert result.err.splitlines()[0] == "a model.gguf has no chat template: completing raw text"
    assert result.err.count("raw text") == 1
    assert calls[0].model.exe.fed[:5] == [257, *b"Once"]


def test_a_system_message(ck_main: Any, model: str, stand_in: Install) -> None:
    calls = stand_in()
    ck_main("run", model, "-p", "x", "--system", "Be brief")
    assert spoken(calls[0].model.exe.fed).startswith(b"[system]Be brief[user]x")
    stand_in(base=True)
    result = ck_main("run", model, "-p", "x", "--system", "Be brief")
    assert result.code == 2
    assert "system: needs a chat template, the model has none" in result.err


THOUGHT = "<think>\nhm\n</think>\n\nParis."


def test_thinking_goes_to_stderr(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in(reply=THOUGHT, thinks=True)
    result = ck_main("run", model, "-p", "x")
    assert result.out == "Paris.\n"
    assert "\n[thinking]\nhm\n[/thinking]\n" in result.err
    data = json.loads(ck_main("run", model, "-p", "x", "--json").out)
    assert (data["answer"], data["thinking"]) == ("Paris.", "hm")
    assert bytes(data["answer_ids"]).decode() == THOUGHT
    # Cut off in the middle of a thought there is no answer.
    result = ck_main("run", model, "-p", "x", "-n", "9")
    assert result.out == "\n"
    assert "[thinking]\nh\n[/thinking]\n" in result.err


def test_thinking_off_turns_it_off_and_hides_it(ck_main: Any, model: str, stand_in: Install) -> None:
    calls = stand_in(reply=THOUGHT, thinks=True)
    result = ck_main("run", model, "-p", "x", "--thinking", "off")
    assert result.out == "Paris.\n"
    assert "hm" not in result.err
    assert spoken(calls[0].model.exe.fed).startswith(b"[user]x[assistant]<think></think>")


def test_thinking_without_a_switch_is_one_line(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in()
    result = ck_main("run", model, "-p", "x", "--thinking", "on")
    assert (result.code, result.out) == (0, REPLY + "\n")
    assert result.err.count("ck: thinking: the chat template has no switch, it knows no thinking\n") == 1
    stand_in(base=True)
    result = ck_main("run", model, "-p", "x", "--thinking", "on")
    assert (result.code, result.out) == (2, "")


def test_prompts_from_files(ck_main: Any, model: str, stand_in: Install, tmp_path: Path) -> None:
    calls = stand_in()
    (tmp_path / "p.txt").write_text("two\r\nlines\r\n", newline="")
    assert ck_main("run", model, "-f", str(tmp_path / "p.txt")).code == 0
    assert spoken(calls[0].model.exe.fed).startswith(b"[user]two\nlines[assistant]")
    (tmp_path / "p.txt").write_bytes(b"caf\xe9\n")
    line = f"ck: {tmp_path / 'p.txt'}: must be UTF-8, byte 3 is not\n"
    assert ck_main("run", model, "-f", str(tmp_path / "p.txt")) == (3, "", line)
    missing = ck_main("run", model, "-f", "missing")
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "missing: must be a readable file, No such file" in missing.err


USAGE = [
    (["--json"], "--json needs --prompt or --file"),
    (["-p", "x", "-f", "y"], "--prompt and --file exclude each other"),
    (["-p", "x", "--top-p", "2"], "top_p: must be from 0 to 1, got 2.0"),
    (["-p", "x", "--temp", "nan"], "temp: must be a finite number, got nan"),
    (["-p", "x", "--seed", "-7"], "seed: must be -1 or from 0"),
    (["-p", "x", "--temp", "warm"], "'warm' is not a valid float"),
    (["-p", "x", "-t", "0"], "0 is not in the range"),
    (["-p", "x", "-n", "-2"], "-2 is not in the range"),
    (["-p", "x", "--kv", "q8"], "'q8' is not one of 'f16', 'f32'"),
    (["-p", "x", "-l", "5"], "must be an id and a signed number, as 15043+1, got 5"),
    (["-p", "x", "-l", "x+1"], "must be an id and a signed number"),
    (["-p", "x", "-l", "5+nan"], "must be an id and a signed number"),
    (["-p", "x", "--samplers", "top_k;topp"], "samplers: each must be one of penalties;dry;"),
    (["-p", "x", "--dry-base", "0.5"], "dry_base: must be 1 or more, got 0.5"),
    (["-p", "x", "--mirostat", "3"], "mirostat: must be from 0 to 2, got 3"),
    (["-p", "x", "--xtc-probability", "2"], "xtc_probability: must be from 0 to 1, got 2.0"),
    (["-p", "x", "--stop", ""], "stop: a text must have one character at least"),
    (["-p", ""], None),
]


@pytest.mark.parametrize(("words", "message"), USAGE, ids=lambda value: str(value))
def test_usage_errors(
    words: list[str], message: str | None, ck_main: Any, model: str, stand_in: Install
) -> None:
    calls = stand_in()
    result = ck_main("run", model, *words)
    if message is None:
        assert result.code == 0
        return
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err
    # All of it is known before anything is loaded.
    assert calls == []


def test_a_prompt_longer_than_the_context(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in()
    result = ck_main("run", model, "-p", "x" * 50, "-c", "40")
    assert (result.code, result.out) == (8, "")
    assert result.err.splitlines()[-1].startswith("ck: prompt: must fit the context of 40 tokens, it has 68")


def test_a_missing_model(ck_main: Any) -> None:
    result = ck_main("run", "missing.gguf", "-p", "x")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("ck: missing.gguf: no such file")


def test_force_compile_is_passed_on(ck_main: Any, model: str, stand_in: Install) -> None:
    calls = stand_in()
    assert ck_main("run", model, "-p", "x", "--force-compile").code == 0
    assert calls[0].options["force"] is True


def test_generate_only_says_nothing(ck_main: Any, model: str, stand_in: Install) -> None:
    calls = stand_in()
    assert ck_main("run", model, "--generate-only") == (0, "", "")
    assert calls[0].model.exe.fed == []


def test_pieces_and_ascii(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in(reply="\u00e9a")
    words = ["run", model, "-p", "x", "--chat-template", "none", "--show-token-pieces"]
    result = ck_main(*words)
    assert result.out == "\u00e9a\n"
    assert r"prompt pieces: '<begin>' 'x'" "\n" r"answer pieces: '\xc3' '\xa9' 'a'" "\n" in result.err
    assert ck_main(*words, "--ascii-display").out == "\\xe9a\n"
    data = ck_main(*words, "--ascii-display", "--json").out
    assert data.isascii()
    assert json.loads(data)["answer"] == "\u00e9a"


def test_stop_texts(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in(reply="one\n\ntwo")
    result = ck_main("run", model, "-p", "x", "--stop", r"\n\n", "--stop", "zz")
    assert result.out == "one\n"
    assert result.err.endswith("stopped by stop\n")
    data = json.loads(ck_main("run", model, "-p", "x", "--stop", "two", "--json").out)
    assert (data["answer"], data["stats"]["stop"]) == ("one\n\n", "stop")


def test_settings_reach_the_sampler(ck_main: Any, model: str, stand_in: Install) -> None:
    stand_in()
    words = [
        "--samplers",
        "top_k;temp",
        "-l",
        "80-inf",
        "-l",
        "65+1.5",
        "--mirostat-ent",
        "3",
        "--typical",
        "0.5",
    ]
    words += [
        "--dry-sequence-breaker",
        r"\n",
        "--dry-sequence-breaker",
        ":",
        "--ignore-eos",
        "-n",
        "3",
        "--seed",
        "1",
    ]
    data = json.loads(ck_main("run", model, "-p", "x", "--json", *words).out)["sampling"]
    assert data["samplers"] == ["top_k", "temperature"]
    assert data["logit_bias"] == [[80, "-inf"], [65, 1.5]]
    assert (data["mirostat_tau"], data["typ_p"], data["ignore_eos"]) == (3.0, 0.5, True)
    assert data["dry_sequence_breakers"] == ["\n", ":"]
    data = json.loads(ck_main("run", model, "-p", "x", "--json", "--dry-sequence-breaker", "none").out)[
        "sampling"
    ]
    assert data["dry_sequence_breakers"] == []
    # The likeliest first letter is banned, and the end is too.
    assert not ck_main("run", model, "-p", "x", *words, "--temp", "0").out.startswith("P")


def test_what_the_model_says_of_sampling(ck_main: Any, model: str, stand_in: Install) -> None:
    calls = stand_in(sampling=SamplingDefaults("generation_config.json", {"temp": 0.6, "top_k": 7}))
    run = ["run", model, "-p", "x", "--json", "--seed", "1"]
    result = ck_main(*run, "--top-k", "3")
    data = json.loads(result.out)["sampling"]
    assert (data["temp"], data["top_k"], data["top_p"]) == (0.6, 3, 0.95)
    assert (
        "sampling: temp 0.6 from generation_config.json; in place of its top_k 7 what was given\n"
        in result.err
    )
    result = ck_main(*run, "--no-model-sampling")
    assert json.loads(result.out)["sampling"]["temp"] == 0.8
    assert "sampling:" not in result.err
    assert len(calls) == 2


def test_the_environment_is_the_user(
    ck_main: Any, model: str, stand_in: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(sampling=SamplingDefaults("x", {"temp": 0.6}))
    monkeypatch.setenv("CK_RUN_TEMP", "1.5")
    assert json.loads(ck_main("run", model, "-p", "x", "--json").out)["sampling"]["temp"] == 1.5
