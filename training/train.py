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
from torch import Tensor
from tqdm import tqdm

from training.backbone import Backbone
from training.batches import Batch, TrainingSequences
from training.checkpoint import CheckpointStore, Progress
from training.config import Config
from training.distributed import ALONE, Group
from training.errors import CheckpointError, DataError, DivergedError
from training.evaluate import rank_targets, torch_encoder
from training.loss import Loss, make_loss
from training.memory import peak_rss_bytes
from training.metrics import metrics_at
from training.ranker import Ranker
from training.split import Split
from training.tracking import Tracker, tracked

VALIDATION_K = 10
RANK_SEED = 0x9E3779B1
"""Sets the dropout of one process apart from another's; PyTorch's CPU generator heeds 32 bits of a seed."""


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """Ctrl-C or SIGTERM: the checkpoint is written and the run can be resumed."""


@dataclass(frozen=True, slots=True)
class Step:
    """What all processes together did in a step."""

    loss_sum: float
    tokens: int
    sequences: int
    learning_rate: float
    gradient_norm: Tensor
    stop_requested: bool


@dataclass(frozen=True, slots=True)
class Trainer:
    """One training run, built by `Trainer.of` and run by `run`.

    Every batch, negative and dropout mask is a function of (seed, step), so a run that is killed and
    started again ends with the same weights as one that was not. Of several processes each computes its
    rows' part of the gradients; the first alone validates, reports and writes.
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
    group: Group

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
        group: Group = ALONE,
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
        store = replace(store, writes=group.leads)
        say = report if group.leads else _say_nothing
        return cls(config, split, model, scorer, store, optimizer, loss, sequences, say, group)

    def run(self) -> Progress:
        """Train until validation NDCG@10 stops improving, or to the end; the model has the weights kept.

        Raises:
            Interrupted: Ctrl-C or SIGTERM, after the checkpoint was written.
            DivergedError: the loss is no longer a number; the last good checkpoint is kept.
            CheckpointError: there is a checkpoint of something else.
            ProcessError: another process has stopped.
        """
        progress = self._resume()
        if not self._finished(progress):
            self.store.check_writable()
            progress = self._train(progress)
            self.report(f"peak memory {peak_rss_bytes() / 1e6:,.0f} MB")
        self.store.load_best(self.model)
        return progress

    def _resume(self) -> Progress:
        progress = self.store.resume(self.model, self.optimizer)
        if self.group.lead(progress.step) != progress.step:
            raise CheckpointError(
                f"{self.store.directory}: process {self.group.rank + 1} found step {progress.step} there, "
                "the first process another; expected one run.directory that every process sees"
            )
        if progress.step and not self._finished(progress):
            batches = len(self.sequences)
            batch = f"batch {progress.batch + 1} of {batches}"
            where = batch if progress.batch < batches else "its validation"
            self.report(f"resuming at epoch {progress.epoch + 1}, {where}")
        return progress

    def _train(self, progress: Progress) -> Progress:
        leads = self.group.leads
        with (
            _stop_requests() as stop_requested,
            tracked(self.config, progress.step, self.report, leads=leads) as trackers,
        ):
            while not self._finished(progress):
                progress = self._epoch(progress, stop_requested, trackers)
                progress = self.group.lead(self._validate(progress, trackers) if leads else progress)
                self.store.save(progress, self.model, self.optimizer)
                (stop,) = self.group.sums(stop_requested())
                if stop:  # asked since the last step: while validating
                    raise Interrupted
        return progress

    def _epoch(
        self, progress: Progress, stop_requested: Callable[[], bool], trackers: list[Tracker]
    ) -> Progress:
        self.model.train()
        saved_at = stepped_at = time.monotonic()
        rows = slice(self.group.rank, None, self.group.size)
        with self._bar(progress) as bar:
            for batch in self.sequences.epoch(progress.epoch, progress.batch, rows):
                step = self._step(batch, progress.step, stop_requested)
                now = time.monotonic()
                progress = progress.after_step(step.loss_sum, step.tokens, step.sequences, now - stepped_at)
                stepped_at = now
                self._show(bar, progress)
                self._track(step, progress, trackers)
                if step.stop_requested:
                    self.store.save(progress, self.model, self.optimizer)
                    self.group.lead(None)  # one that ends before it is written would have the first killed
                    raise Interrupted
                if now - saved_at > self.config.train.checkpoint_minutes * 60:
                    self.store.save(progress, self.model, self.optimizer)
                    saved_at = now
        return progress

    def _bar(self, progress: Progress) -> "tqdm[None]":
        description = f"epoch {progress.epoch + 1}"
        total, done = len(self.sequences), progress.batch
        quiet = None if self.group.leads else True  # None: unless on a terminal
        return tqdm(total=total, initial=done, desc=description, unit="batch", disable=quiet, leave=False)

    def _show(self, bar: "tqdm[None]", progress: Progress) -> None:
        best = f"{progress.best_ndcg:.4f}" if progress.best_epoch >= 0 else "none yet"
        speed = (bar.format_dict["rate"] or 0) * self.config.train.batch_size
        text = f"loss {progress.loss:.4f}, {speed:.0f} sequences/s, best validation NDCG@10 {best}"
        bar.set_postfix_str(text, refresh=False)
        bar.update()

    def _step(self, batch: Batch, step: int, stop_requested: Callable[[], bool]) -> Step:
        options, parameters = self.config.train, list(self.model.parameters())
        loss, own_tokens = self._loss(batch, self.config.run.seed * 1_000_003 + step)
        loss_sum, tokens, sequences, stop = self.group.sums(
            loss.item() * own_tokens, own_tokens, len(batch.lengths), stop_requested()
        )
        self._refuse_diverged("loss", loss_sum / tokens, step)
        learning_rate = options.learning_rate * self._rate_at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        if own_tokens:
            (loss * (own_tokens / tokens)).backward()
        self.group.sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, options.gradient_clip)
        self._refuse_diverged("gradient's norm", norm.item(), step)
        self.optimizer.step()
        return Step(loss_sum, int(tokens), int(sequences), learning_rate, norm, bool(stop))

    def _refuse_diverged(self, what: str, value: float, step: int) -> None:
        options = self.config.train
        if not math.isfinite(value):
            raise DivergedError(
                f"the {what} is {value} at step {step + 1}; the last good checkpoint is kept: "
                f"lower train.learning_rate (now {options.learning_rate}) or train.gradient_clip "
                f"(now {options.gradient_clip}) and pass --restart"
            )

    def _loss(self, batch: Batch, seed: int) -> tuple[Tensor, int]:
        """Return the mean loss of this process's targets, and how many they are."""
        device = self.model.device
        if not len(batch.lengths):
            return torch.zeros(()), 0
        torch.manual_seed(seed + self.group.rank * RANK_SEED)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._in_bfloat16(device)):
            states, targets = self.model.training_pairs(batch)  # (T, D), (T,)
        if self.group.size > 1 and self.config.train.loss == "sampled_softmax":
            torch.manual_seed(seed)  # negatives of the whole batch: every process draws the same
        return self.loss(self.model.embedding, states.float(), targets), len(targets)

    def _in_bfloat16(self, device: torch.device) -> bool:
        precision = self.config.train.precision
        able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return precision == "bfloat16" or (precision == "auto" and able)

    def _track(self, step: Step, progress: Progress, trackers: list[Tracker]) -> None:
        if not trackers or progress.step % self.config.run.track_steps:
            return
        values = {
            "loss": step.loss_sum / step.tokens,
            "learning_rate": step.learning_rate,
            "gradient_norm": step.gradient_norm.item(),
            **progress.speed,
        }
        for tracker in trackers:
            tracker.log(progress.step, {f"train/{name}": value for name, value in values.items()})

    def _rate_at(self, step: int) -> float:
        """Return the share of the learning rate: a linear warm-up, then the schedule."""
        options = self.config.train
        warm = min(1.0, (step + 1) / (options.warmup_steps + 1))
        if options.schedule == "constant":
            return warm
        return warm * 0.5 * (1.0 + math.cos(math.pi * step / (options.max_epochs * len(self.sequences))))

    def _validate(self, progress: Progress, trackers: list[Tracker]) -> Progress:
        options = self.config.train
        metrics = self._validation_metrics()
        ndcg = metrics[f"ndcg@{VALIDATION_K}"]
        loss, speed = progress.loss, progress.speed
        for tracker in trackers:
            tracker.log(progress.step, {f"validation/{name}": value for name, value in metrics.items()})
            tracker.log(
                progress.step, {"epoch/loss": loss} | {f"epoch/{name}": speed[name] for name in speed}
            )
        progress = progress.after_epoch({"peak_rss_bytes": peak_rss_bytes(), **metrics})
        if ndcg > progress.best_ndcg or options.select == "last":
            progress = replace(progress, best_ndcg=ndcg, best_epoch=progress.epoch)
            self.store.save_best(progress, self.model)
        waited = progress.epoch - progress.best_epoch
        best = f"best {progress.best_ndcg:.4f}, {waited} of {options.patience} without a better one"
        note = best if waited else "kept" if options.select == "last" else "best"
        self.report(
            f"epoch {progress.epoch}: loss {loss:.4f}, validation NDCG@10 {ndcg:.4f} ({note}); "
            f"{speed['seconds']:.1f} s, {speed['sequences_per_second']:,.0f} sequences/s, "
            f"{speed['tokens_per_second']:,.0f} tokens/s"
        )
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


def _say_nothing(_text: str) -> None:
    """Report for a process that is not the first."""


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
