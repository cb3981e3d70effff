"""Checkpoints: everything that decides what a training run does next."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch

from training.errors import CheckpointError
from training.files import replacing_file

LAST = "last.pt"
BEST = "best.pt"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes:
        epoch: epochs that are finished. batch: batches of the next one that are done.
        step: optimiser steps in all.
        loss_sum, tokens, sequences, seconds: of the epoch under way.
        best_ndcg, best_epoch: of the weights kept, those of the best validation or of the last; -1 before
            the first; epochs count from 1.
        history: one entry per finished epoch: loss, speed, peak memory, validation metrics.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    tokens: int = 0
    sequences: int = 0
    seconds: float = 0.0
    best_ndcg: float = -1.0
    best_epoch: int = -1
    history: tuple[dict[str, float], ...] = field(default=())

    def after_step(self, loss_sum: float, tokens: int, sequences: int, seconds: float) -> Self:
        """Return the progress after one more batch: its tokens' losses, and how long it took."""
        return replace(
            self,
            batch=self.batch + 1,
            step=self.step + 1,
            loss_sum=self.loss_sum + loss_sum,
            tokens=self.tokens + tokens,
            sequences=self.sequences + sequences,
            seconds=self.seconds + seconds,
        )

    def after_epoch(self, metrics: dict[str, float]) -> Self:
        """Return the progress after an epoch that ended with these metrics."""
        entry = {"epoch": self.epoch + 1, "step": self.step, "loss": self.loss, **self.speed, **metrics}
        return replace(
            self,
            epoch=self.epoch + 1,
            batch=0,
            loss_sum=0.0,
            tokens=0,
            sequences=0,
            seconds=0.0,
            history=(*self.history, entry),
        )

    @property
    def loss(self) -> float:
        """The mean loss of the epoch under way."""
        return self.loss_sum / self.tokens

    @property
    def speed(self) -> dict[str, float]:
        """Of the epoch under way, without its validation: seconds, and what was done in each."""
        seconds = max(self.seconds, 1e-9)  # 0 in the checkpoint of an earlier release
        return {
            "seconds": self.seconds,
            "sequences_per_second": self.sequences / seconds,
            "tokens_per_second": self.tokens / seconds,
        }


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """The directory of one run's checkpoints; `made_from` is the fingerprint of data and configuration."""

    directory: Path
    made_from: str
    writes: bool = True
    """Of several processes that train together only one writes; all read what it wrote."""

    def check_writable(self) -> None:
        """Write nothing: raises OSError now, and not after an epoch, if nothing can be written."""
        if self.writes:
            with replacing_file(self.directory / "probe") as partial:
                partial.touch()
            (self.directory / "probe").unlink()

    def save(self, progress: Progress, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write `last.pt`, whole or not at all."""
        state = {
            "progress": asdict(progress),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        self._write(LAST, state)

    def save_best(self, progress: Progress, model: torch.nn.Module) -> None:
        """Write `best.pt`: the weights to evaluate and export."""
        self._write(BEST, {"progress": asdict(progress), "model": model.state_dict()})

    def resume(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load `last.pt` if there is one and return where it stopped.

        Raises:
            CheckpointError: it was made from other data or another configuration, or is no checkpoint.
        """
        if not (self.directory / LAST).exists():
            return Progress()
        state = self._read(LAST)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return _progress(state)

    def load_best(self, model: torch.nn.Module) -> Progress:
        """Load `best.pt` into the model; raises CheckpointError when there is none or it does not fit."""
        state = self._read(BEST)
        model.load_state_dict(state["model"])
        return _progress(state)

    def history(self) -> tuple[dict[str, float], ...]:
        """Return every finished epoch's entry, also those after the best one."""
        return _progress(self._read(LAST)).history

    def discard(self) -> None:
        """Remove the run's checkpoints."""
        for name in (LAST, BEST):
            (self.directory / name).unlink(missing_ok=True)

    def _write(self, name: str, state: dict[str, Any]) -> None:
        if not self.writes:
            return
        with replacing_file(self.directory / name) as partial:
            torch.save({"format": _FORMAT, "made_from": self.made_from, **state}, partial)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        if not path.exists():
            begun = (self.directory / LAST).exists()
            what_to_do = "pass --restart to start again" if begun else "run `recjpq-train train` first"
            raise CheckpointError(f"{path}: missing; {what_to_do}")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load has no error of its own for a file that is not one of its
            raise CheckpointError(
                f"{path}: not a checkpoint ({error}); pass --restart to start again"
            ) from error
        if state.get("format") != _FORMAT or state.get("made_from") != self.made_from:
            raise CheckpointError(
                f"{path}: made from other data, another configuration or another release; run with the "
                "configuration that made it, choose another run.directory, or pass --restart to start again"
            )
        return state


def _progress(state: dict[str, Any]) -> Progress:
    fields = state["progress"]
    return Progress(**{**fields, "history": tuple(fields["history"])})
