"""The stage `train`: early-stopped training that resumes to the same result after any interruption."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Self

import numpy as np
import torch
from tqdm import tqdm

from training.backbone import Backbone
from training.batches import Batch, TrainingSequences
from training.checkpoint import CheckpointStore, Progress
from training.config import Config
from training.errors import DataError, DivergedError
from training.evaluate import rank_targets, torch_encoder
from training.loss import Loss, make_loss
from training.metrics import metrics_at
from training.ranker import Ranker
from training.split import Split

VALIDATION_K = 10


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """Ctrl-C or SIGTERM: the checkpoint is written and the run can be resumed."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """One training run, built by `Trainer.of` and run by `run`.

    Every batch, negative and dropout mask is a function of (seed, step), so a run that is killed and
    started again ends with the same weights as one that was not.
    """

    config: Config
    split: Split
    model: Backbone
    scorer: Ranker
    store: CheckpointStore
    optimizer: torch.optim.Optimizer
    loss: Loss
    sequences: TrainingSequences
    report: Callable[[str], None]

    @classmethod
    def of(
        cls,
        config: Config,
        split: Split,
        *,
        model: Backbone,
        scorer: Ranker,
        store: CheckpointStore,
        report: Callable[[str], None] = tqdm.write,
    ) -> Self:
        """Build the trainer of a model; raises DataError when there is nothing to train on."""
        options = config.train
        sequences = TrainingSequences(
            split, config.model.max_length, options.batch_size, config.run.seed, windows=options.windows
        )
        if not sequences.num_sequences or not len(split.validation_users):
            raise DataError(
                "found no user with three or more events, expected some to train on and to validate with"
            )
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=options.weight_decay
        )
        _, items = split.training_interactions()
        loss = make_loss(options, np.bincount(items, minlength=split.dataset.num_items))
        return cls(config, split, model, scorer, store, optimizer, loss, sequences, report)

    def run(self) -> Progress:
        """Train until validation NDCG@10 stops improving; the model ends with the best weights.

        Raises:
            Interrupted: Ctrl-C or SIGTERM, after the checkpoint was written.
            DivergedError: the loss is no longer a number; the last good checkpoint is kept.
            CheckpointError: there is a checkpoint of something else.
        """
        progress = self.store.resume(self.model, self.optimizer)
        if progress.step and not self._finished(progress):
            self.report(
                f"resuming at epoch {progress.epoch + 1}, batch {progress.batch + 1} of {len(self.sequences)}"
            )
        with _stop_requests() as stop_requested:
            while not self._finished(progress):
                progress = self._validate(self._epoch(progress, stop_requested))
                self.store.save(progress, self.model, self.optimizer)
        self.store.load_best(self.model)
        return progress

    def _epoch(self, progress: Progress, stop_requested: Callable[[], bool]) -> Progress:
        self.model.train()
        saved_at = time.monotonic()
        with self._bar(progress) as bar:
            for batch in self.sequences.epoch(progress.epoch, progress.batch):
                torch.manual_seed(self.config.run.seed * 1_000_003 + progress.step)
                progress = progress.after_step(self._step(batch, progress.step), len(batch.targets))
                self._show(bar, progress)
                if stop_requested():
                    self.store.save(progress, self.model, self.optimizer)
                    raise Interrupted
                if time.monotonic() - saved_at > self.config.train.checkpoint_minutes * 60:
                    self.store.save(progress, self.model, self.optimizer)
                    saved_at = time.monotonic()
        return progress

    def _bar(self, progress: Progress) -> "tqdm[None]":
        description = f"epoch {progress.epoch + 1}"
        total, done = len(self.sequences), progress.batch
        return tqdm(total=total, initial=done, desc=description, unit="batch", disable=None, leave=False)

    def _show(self, bar: "tqdm[None]", progress: Progress) -> None:
        best = f"{progress.best_ndcg:.4f}" if progress.best_epoch >= 0 else "none yet"
        speed = (bar.format_dict["rate"] or 0) * self.config.train.batch_size
        loss = progress.loss_sum / progress.tokens
        text = f"loss {loss:.4f}, {speed:.0f} sequences/s, best validation NDCG@10 {best}"
        bar.set_postfix_str(text, refresh=False)
        bar.update()

    def _step(self, batch: Batch, step: int) -> float:
        options = self.config.train
        states, targets = self.model.training_pairs(batch)  # (T, D), (T,)
        loss = self.loss(self.model.embedding, states, targets)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(
                f"the loss is {value} at step {step + 1}; the last good checkpoint is kept: lower "
                f"train.learning_rate (now {options.learning_rate}) or train.gradient_clip "
                f"(now {options.gradient_clip}) and pass --restart"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate * self._rate_at(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.gradient_clip)
        self.optimizer.step()
        return value

    def _rate_at(self, step: int) -> float:
        """Return the share of the learning rate: a linear warm-up, then the schedule."""
        options = self.config.train
        warm = min(1.0, (step + 1) / (options.warmup_steps + 1))
        if options.schedule == "constant":
            return warm
        return warm * 0.5 * (1.0 + math.cos(math.pi * step / (options.max_epochs * len(self.sequences))))

    def _validate(self, progress: Progress) -> Progress:
        options = self.config.train
        metrics = self._validation_metrics()
        ndcg = metrics[f"ndcg@{VALIDATION_K}"]
        loss = progress.loss_sum / progress.tokens
        progress = progress.after_epoch({"loss": loss, **metrics})
        if ndcg > progress.best_ndcg or options.select == "last":
            progress = replace(progress, best_ndcg=ndcg, best_epoch=progress.epoch)
            self.store.save_best(progress, self.model)
        waited = progress.epoch - progress.best_epoch
        best = f"best {progress.best_ndcg:.4f}, {waited} of {options.patience} without a better one"
        note = best if waited else "best"
        self.report(f"epoch {progress.epoch}: loss {loss:.4f}, validation NDCG@10 {ndcg:.4f} ({note})")
        return progress

    def _finished(self, progress: Progress) -> bool:
        options = self.config.train
        waited = progress.epoch - progress.best_epoch if progress.epoch else 0
        return waited >= options.patience or progress.epoch >= options.max_epochs

    def _validation_metrics(self) -> dict[str, float]:
        cases, max_length = self.split.validation_cases(), self.config.model.max_length
        options = self.config.evaluation
        ranks = rank_targets(
            torch_encoder(self.model), self.scorer, cases, max_length, options, depth=VALIDATION_K
        )
        return metrics_at(ranks, [VALIDATION_K])


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag; a second one acts as usual."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for each, handler in previous.items():
            signal.signal(each, handler)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
