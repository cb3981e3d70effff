"""A run: one configuration's stages, each made from the outputs of those before it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from recjpq.scoring import Scorer, load_scorer
from training.checkpoint import CheckpointStore, Progress
from training.codes import Codes, make_codes
from training.config import Config
from training.dataset import Dataset
from training.distributed import ALONE, Group
from training.errors import StageError
from training.evaluate import evaluate, torch_encoder
from training.export import export
from training.files import fingerprint, read_json, write_json
from training.prepare import prepare
from training.sasrec import SASRec
from training.split import Split
from training.train import Trainer


@dataclass(frozen=True)
class Run:
    """The stages of one configuration; each method is the CLI verb of the same name.

    Everything is below ``run.directory``: `dataset/`, `codes/`, `checkpoints/`, `report.json`, `artifacts/`.
    A stage whose output was made from the same inputs is not repeated.
    """

    config: Config
    group: Group = ALONE

    def prepare(self) -> Dataset:
        """Make `dataset/` from the interaction log."""
        return prepare(self.config.data, self._path("dataset"))

    def codes(self) -> Codes:
        """Make `codes/` from the training interactions."""
        return make_codes(self.config.codes, self.split, self.config.run.seed, self._path("codes"))

    def train(self, *, restart: bool = False) -> Progress:
        """Train, or go on training, into `checkpoints/`; `restart` discards what is there."""
        if restart and self.group.leads:
            self._checkpoints.discard()
        self.group.lead(None)  # nobody reads what is about to be discarded
        return Trainer.of(
            self.config,
            self.split,
            model=self._model,
            scorer=self._scorer,
            store=self._checkpoints,
            group=self.group,
        ).run()

    def evaluate(self) -> dict[str, Any]:
        """Rank the test cases with the best weights into `report.json`."""
        progress, weights = self._load_best()
        encode = torch_encoder(self._model)
        report = evaluate(
            encode, self._scorer, self.split, self.config.model.max_length, self.config.evaluation
        )
        report |= {
            "weights": weights,
            "best_epoch": progress.best_epoch,
            "history": progress.history,
        }
        write_json(self._path("report.json"), report)
        return report

    def export(self, version: str | None = None) -> Path:
        """Write the best weights as `artifacts/<version>`, with the report of `evaluate` in its manifest."""
        report = read_json(self._path("report.json"), "evaluate")
        _, weights = self._load_best()
        if report["weights"] != weights:
            raise StageError(
                f"{self._path('report.json')}: of other weights; run `recjpq-train evaluate` again"
            )
        metrics = {name: report[name] for name in ("protocol", "model", "popularity")}
        path = export(self.config, self._model, self.split.dataset, metrics, self._path("artifacts"), version)
        write_json(self._path("exported.json"), {"weights": weights, "version": path.name})
        return path

    def exported(self) -> Path | None:
        """Return what the last `export` wrote, if it is of the best weights and still there."""
        record = self._path("exported.json")
        last = read_json(record, "export") if record.exists() else {}
        path = self._path("artifacts") / str(last.get("version"))
        _, weights = self._load_best()
        return path if last.get("weights") == weights and path.is_dir() else None

    @cached_property
    def split(self) -> Split:
        """The leave-one-out split of the prepared log."""
        dataset = Dataset.load(self._path("dataset"))
        return Split.leave_one_out(dataset, self.config.train.validation_users, self.config.run.seed)

    @cached_property
    def _codes(self) -> Codes:
        return Codes.load(self._path("codes"))

    @cached_property
    def _scorer(self) -> Scorer:
        return load_scorer(self._codes.item_codes)

    @cached_property
    def _model(self) -> SASRec:
        if self.config.run.threads:
            torch.set_num_threads(self.config.run.threads)
        torch.manual_seed(self.config.run.seed)
        item_codes = torch.from_numpy(self._codes.item_codes.copy())
        return SASRec(self.config.model, item_codes, self.config.codes.num_sub_ids).to(self.group.device)

    @property
    def _checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self._path("checkpoints"), self._made_from)

    def _load_best(self) -> tuple[Progress, str]:
        """Load the best weights; return where they come from, and a fingerprint of what made them."""
        progress = self._checkpoints.load_best(self._model)
        return progress, fingerprint(self._made_from, progress.best_epoch)

    @property
    def _made_from(self) -> str:
        config = self.config.model_dump(
            mode="json",
            include={"run": {"seed"}, "model": True, "train": True, "evaluation": {"exclude_seen"}},
        )
        for how_long in ("checkpoint_minutes", "patience"):  # they change no step: raise and go on
            config["train"].pop(how_long)
        if self.config.train.precision == "auto":
            config["train"].pop("precision")
        if self.config.train.schedule == "constant":
            config["train"].pop("max_epochs")
        return fingerprint("train 1", config, self._codes.fingerprint)

    def _path(self, name: str) -> Path:
        return self.config.run.directory / name
