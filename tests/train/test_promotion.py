"""Promotion: a checkpoint becomes the run's model, whole or not at all, and other programs agree with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import ConflictError, MalformedError, UsageError
from ck.frontend.gguf import GgufFile
from ck.frontend.model import open_model
from ck.runtime.resolve import resolve_model
from ck.runtime.trainable import Trainable, compile_trainable
from ck.runtime.weights import read_tensor
from ck.train.checkpoints import Checkpoints
from ck.train.export.source import promoted_step
from ck.train.promotion import candidates, choose, promote
from ck.train.rundir import RunDirectory
from ck.train.tokenizer_training import load_tokenizer
from tests.train import children
from tests.train.small_runs import corpus, options, template

FAMILIES = ("llama", "gemma3")
STEPS = 60


def quiet(line: str) -> None:
    raise AssertionError(f"nothing was to be said: {line}")


def promoted(run: Path) -> int | None:
    """The step that run.json names."""
    return promoted_step(json.loads((run / "run.json").read_text()))


@pytest.fixture(scope="module")
def made(training_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each family, best at its end."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "c.txt").write_text(corpus())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CK_CACHE_DIR", str(training_cache))
        patch.chdir(folder)
        return {
            family: ck.train(run=f"./{family}", steps=STEPS, **options(template=family, lr=5e-3)).path
            for family in FAMILIES
        }


@pytest.fixture(params=FAMILIES)
def run(request: pytest.FixtureRequest, made: dict[str, Path], training: Path) -> Path:
    """A copy of one, to be changed."""
    return shutil.copytree(made[request.param], training / "run", symlinks=True)


@pytest.fixture
def llama_run(made: dict[str, Path], training: Path) -> Path:
    return shutil.copytree(made["llama"], training / "run", symlinks=True)


def test_a_promoted_run_is_a_model(run: Path) -> None:
    with pytest.raises(UsageError, match=f"this run has no model yet; run: ck promote {run}"):
        resolve_model(str(run))
    path = promote(str(run), choose(str(run), "latest", quiet), quiet)
    assert path == resolve_model(str(run)) == run / "model.gguf"
    assert promoted(run) == STEPS
    checkpoint = Checkpoints(run).load(STEPS)
    file = GgufFile(path)
    assert file.tensors.keys() == checkpoint.weights.keys()
    assert all(np.array_equal(read_tensor(file, name), values) for name, values in checkpoint.weights.items())
    assert open_model(path).hp.context_length == 64
    # It has learnt what follows what: the text it goes on with is made of the corpus' words.
    model = ck.compile(run, kv="f32")
    text = model.generate("the small model reads", max_tokens=24, temp=0)
    assert len(text) > 10
    assert set(text) <= set(corpus())


@pytest.mark.oracle
def test_the_export_gives_transformers_the_logits_of_ck(run: Path, training: Path, measured: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ck.cli.main import main

    assert main(["promote", str(run), "--json"]) == 0
    assert main(["export", str(run), "--to", "hf", "-o", "hf"]) == 0
    assert main(["export", str(run), "--to", "gguf", "-o", "f32.gguf"]) == 0
    assert main(["export", str(run), "--to", "gguf:q8_0", "-o", "q8.gguf"]) == 0
    reference = AutoModelForCausalLM.from_pretrained(training / "hf", attn_implementation="eager").eval()
    model = ck.compile(run, dtype="f32", kv="f32")
    ids = model.tokenizer.encode(corpus())[:64]
    assert AutoTokenizer.from_pretrained(training / "hf")(corpus()).input_ids[:64] == ids
    with torch.no_grad():
        want = reference(torch.tensor([ids])).logits[0].double()
    ours = model(ids)
    worst = float(np.abs(ours - want.numpy()).max())
    measured(f"promoted run {want.abs().max():.1f}: max abs {worst:.1e} from transformers")
    assert worst <= 1e-4
    assert np.array_equal(ck.compile("f32.gguf", dtype="f32", kv="f32")(ids), ours)
    assert np.abs(ck.compile("q8.gguf", kv="f32")(ids) - ours).max() < 0.2
    # The training program scores the same text as well.
    trainable = trained(run)
    nll = trainable.evaluate(rows_of_ids(ids))
    logp = want.log_softmax(-1).numpy()
    assert np.allclose(nll[:-1], -logp[np.arange(63), ids[1:]], atol=1e-4)


def trained(run: Path) -> Trainable:
    family = json.loads((run / "run.json").read_text())["hyperparameters"]["arch"]
    weights = Checkpoints(run).load(STEPS).weights
    return compile_trainable(template(family), batch=2, seq=32, weights=weights)


def rows_of_ids(ids: list[int]) -> Any:
    from ck.runtime.trainable import sequences

    return sequences([ids], [[*ids[1:], -1]])


def test_which_checkpoint(llama_run: Path, training: Path) -> None:
    name = str(llama_run)
    found = candidates(name)
    assert [each.step for each in found] == [20, 40, 60]
    assert [each.is_latest for each in found] == [False, False, True]
    losses = [each.dev_loss for each in found]
    assert [each.is_best for each in found] == [loss == min(losses) for loss in losses]
    assert not any(each.is_promoted for each in found)
    best = next(each.step for each in found if each.is_best)
    assert choose(name, "best", quiet) == best
    assert choose(name, "40", quiet) == 40
    promote(name, 40, quiet)
    assert [each.is_promoted for each in candidates(name)] == [False, True, False]
    promote(name, 20, quiet)
    assert [each.is_promoted for each in candidates(name)] == [True, False, False]
    with pytest.raises(UsageError, match="step must be one that is kept, found 7; kept: 20, 40, 60"):
        choose(name, "7", quiet)
    with pytest.raises(UsageError, match="--step: latest, best or a number is required, found newest"):
        choose(name, "newest", quiet)
    # A damaged one is refused by its number, and passed over by latest.
    (llama_run / "checkpoints" / "step-60" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(MalformedError, match=r"weights\.safetensors must be \d+ bytes, found 0"):
        promote(name, 60, quiet)
    said: list[str] = []
    assert choose(name, "latest", said.append) == 40
    assert said[0].startswith("skipped step 60: ")
    assert promoted(llama_run) == 20
    bare = ck.train(
        run="./bare", steps=1, **options(data=["c.txt"], eval_every=9), sets=("data.dev_fraction=0.0",)
    )
    with pytest.raises(UsageError, match="no checkpoint has a dev loss; promote latest, or a --step"):
        choose(str(bare.path), "best", quiet)


def test_not_while_a_trainer_is_at_work(llama_run: Path) -> None:
    with (
        RunDirectory.open(str(llama_run)).lock(),
        pytest.raises(ConflictError, match="one trainer at a time"),
    ):
        promote(str(llama_run), STEPS, quiet)
    assert not (llama_run / "model.gguf").exists()


def promote_and_die(name: str) -> None:
    """Promote step 40 over step 20, ended by _exit at each call to the system in turn; a child of a test."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    model = Path(name) / "model.gguf"
    wanted: dict[int, bytes] = {}
    for step in (40, 20):
        promote(name, step, quiet)
        wanted[step] = model.read_bytes()
    trials, after = 0, {20: 0, 40: 0}
    while True:
        trials += 1
        child = os.fork()
        if child == 0:
            _die_at(trials)
            promote(name, 40, quiet)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = model.read_bytes()
        step = next(step for step, data in wanted.items() if data == found)
        after[step] += 1
        assert resolve_model(name) == model
        # The record is never ahead of the model.
        assert promoted(Path(name)) in {20, step}
        if os.waitstatus_to_exitcode(status) == 0:
            break
        if step == 40:
            promote(name, 20, quiet)
    assert promoted(Path(name)) == 40
    assert not list(Path(name).glob(".new-*")), "the lock's next holder clears what was left"
    print(json.dumps({"trials": trials, "earlier": after[20], "later": after[40]}))


def _die_at(calls: int) -> None:
    left = calls

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event.startswith(("os.", "open", "shutil.")):
            left -= 1
            if left == 0:
                os._exit(9)

    sys.addaudithook(count)


def test_killed_at_any_call_the_earlier_model_stays(llama_run: Path, measured: Any) -> None:
    code = "import sys; from tests.train.test_promotion import promote_and_die; promote_and_die(sys.argv[1])"
    command = [sys.executable, "-c", code, str(llama_run)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=children.environment(), timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured(f"promotion ended at each of its calls: {found}")
    assert found["earlier"] > 5
    assert found["later"] >= 2


def test_the_vocabulary_is_the_tokenizers(run: Path) -> None:
    promote(str(run), STEPS, quiet)
    ours, theirs = ck.compile(run, kv="f32").tokenizer, load_tokenizer(run / "tokenizer.json")
    assert ours.encode(corpus())[-50:] == list(theirs.encode(corpus())[-50:])
