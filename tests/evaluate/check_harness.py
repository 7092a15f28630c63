"""Tasks of the real lm-evaluation-harness, without a download: `make eval-tasks`.

The package and what it needs take 600 MB, so `./test` does without; its model of transformers is the oracle.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import ck
from ck.cli.main import main
from ck.evaluate.harness import evaluate_tasks, harness_model, table
from tests.frontend.folders import PROSE, TEMPLATE, add_tokenizer, byte_level, write_folder
from tests.frontend.random_models import small

# The harness reads the descriptions of all its tasks, thousands of files, when asked for one of them.
pytestmark = pytest.mark.timeout(1800)

N_CTX = 96
WORDS = PROSE.split()
TASKS = {
    # Answers that share their question, one with a space before them, one of several tokens.
    "own_choice": """
task: own_choice
dataset_path: json
dataset_kwargs:
  data_files: {test: DATA}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    # Texts longer than the context, which roll over it.
    "own_text": """
task: own_text
dataset_path: json
dataset_kwargs:
  data_files: {test: DATA}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]
""",
    "own_reply": """
task: own_reply
dataset_path: json
dataset_kwargs:
  data_files: {test: DATA}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["a"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in f32 with a tokenizer that puts BOS first."""
    core = byte_level()
    hp = small("llama", n_vocab=core.get_vocab_size())
    path = write_folder(tmp_path_factory.mktemp("models") / "m", hp)
    return add_tokenizer(path, core, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with TASKS and their data."""
    path = tmp_path_factory.mktemp("tasks")
    data = path / "data.jsonl"
    rows = [
        {
            "question": " ".join(WORDS[7 * n : 7 * n + 3 + 9 * n]),
            "choices": [f" {WORDS[n]}", " ".join(["", *WORDS[n : n + 3]]), " and"],
            "answer": n % 3,
            "text": " ".join(WORDS[5 * n : 40 + 20 * n]),
        }
        for n in range(6)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in TASKS.items():
        (path / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    return path


def responses(results: dict[str, Any], task: str) -> list[Any]:
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return [sample["resps"] for sample in samples]


def test_every_kind_of_request_is_answered_as_by_transformers(
    folder: Path, tasks: Path, training_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))
    model = ck.compile(folder, kv="f32", context_len=N_CTX)
    said = list[tuple[str, int, int]]()
    ours = evaluate_tasks(model, [*TASKS], tasks, progress=lambda *line: said.append(line))
    hf = import_module("lm_eval.models.huggingface").HFLM
    reference = hf(pretrained=str(folder), device="cpu", dtype="float32", max_length=N_CTX)
    manager = import_module("lm_eval.tasks").TaskManager(include_path=str(tasks), include_defaults=False)
    evaluate = import_module("lm_eval.evaluator").simple_evaluate
    theirs = evaluate(model=reference, tasks=[*TASKS], task_manager=manager)
    assert said[-1][1:] in [(18, 18), (6, 6)]
    for task in TASKS:
        a, b = responses(ours, task), responses(theirs, task)
        if task == "own_reply":
            assert a == b
            assert any(text for [[text]] in a)
            continue
        for one, other in zip(a, b, strict=True):
            for [x], [y] in zip(one, other, strict=True):
                (p, *greedy), (q, *their_greedy) = (v if isinstance(v, tuple) else (v,) for v in (x, y))
                assert p == pytest.approx(q, abs=1e-3)
                assert greedy == their_greedy
    for task, scores in theirs["results"].items():
        found = {key: ours["results"][task][key] for key, value in scores.items() if isinstance(value, float)}
        assert found
        assert found == pytest.approx({key: scores[key] for key in found}, rel=1e-4, nan_ok=True)
    assert all(f"|{task}" in table(ours) for task in TASKS)


def test_a_chat_s_prompt_is_the_template_s(folder: Path, tasks: Path) -> None:
    model = ck.compile(folder, kv="f32", context_len=N_CTX)
    adapter = harness_model(model)
    hf = import_module("lm_eval.models.huggingface").HFLM
    reference = hf(pretrained=str(folder), device="cpu", dtype="float32", max_length=N_CTX)
    history = [{"role": "user", "content": "Who?"}]
    prompt = adapter.apply_chat_template(history)
    assert prompt == reference.apply_chat_template(history)
    # The template writes BOS itself.
    assert adapter.tok_encode(prompt) == reference.tok_encode(prompt)
    assert adapter.tok_encode(prompt).count(1) == 1
    results = evaluate_tasks(model, ["own_choice"], tasks, n_shots=1, limit=2, chat=True)
    assert len(results["samples"]["own_choice"]) == 2


def test_the_command(
    folder: Path, tasks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    words = ["eval", "tasks", str(folder), "--include-path", str(tasks), "-c", str(N_CTX), "--kv", "f32"]
    assert main([*words, "--tasks", "own_choice,own_reply", "--limit", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n-samples"]["own_choice"] == {"original": 6, "effective": 2}
    assert found["results"].keys() == {"own_choice", "own_reply"}
    assert main([*words, "--tasks", "own_choice"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("|  Tasks   |")
    assert "continuations: 18 of 18" in printed.err
    assert main([*words, "--tasks", "own_choise"]) == 2
    line = "ck: task own_choise: no such task; did you mean own_choice?"
    assert line in capsys.readouterr().err
    # One of the harness's own, whose data is on a hub.
    assert main([*words, "--tasks", "arc_easy"]) == 7
    assert "ck: tasks: the data of arc_easy could not be had, " in capsys.readouterr().err
