"""`ck train --parity off|suggest|run|require`: what a run's configuration wants of PyTorch.

Nothing of the comparison is imported for a run that does not want it.
"""

from collections.abc import Callable

from ck.train.config import TrainConfig

WANTS = ("run", "require")


def check_parity(config: TrainConfig) -> None:
    """Raise MachineError before training when the comparison that is wanted after it cannot be made here."""
    if config.run.parity in WANTS:
        from ck.train.parity.pytorch import pytorch

        pytorch()


def after_training(name: str, config: TrainConfig, say: Callable[[str], None]) -> None:
    """Do what `run.parity` says. Raises GateError where it requires a pass and there is none."""
    if config.run.parity == "suggest":
        say(f"to compare this run with PyTorch: ck parity {name}")
    elif config.run.parity in WANTS:
        from ck.train.parity.report import parity

        say("comparing with PyTorch")
        report = parity(name, lambda _: None)
        say(report.summary())
        if config.run.parity == "require":
            report.require(passed_only=True)
