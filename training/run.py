"""A run: one configuration's stages, each made from the outputs of those before it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recjpq.artifact import sha256_of
from recjpq.scoring import load_scorer
from training.backbone import Backbone
from training.baselines import BASELINES
from training.checkpoint import BEST, LAST, CheckpointStore, Progress
from training.codes import Codes, codes_made_from, make_codes
from training.codes.stage import CODES
from training.config import Config
from training.dataset import Dataset
from training.distributed import ALONE, Group
from training.errors import StageError
from training.evaluate import evaluate, torch_encoder
from training.export import check_beats_popularity, export
from training.files import fingerprint, read_json, replacing_file, write_json
from training.models import make_model
from training.new_items import NewItems, assign
from training.prepare import prepare
from training.ranker import DenseRanker, Ranker
from training.report_html import render_report
from training.sizes import served_bytes, trained_bytes
from training.split import Split, make_split
from training.train import Trainer


@dataclass(frozen=True)
class Run:
    """The stages of one configuration; each method is the CLI verb of the same name.

    Everything is below ``run.directory``: `dataset/`, `codes/`, `checkpoints/`, `report.json` (and
    `report.html`, `ranks.npz`), `artifacts/`.
    A stage whose output was made from the same inputs is not repeated.
    """

    config: Config
    group: Group = ALONE

    def prepare(self) -> Dataset:
        """Make `dataset/` from the interaction log."""
        return prepare(self.config.data, self._path("dataset"))

    def codes(self) -> Codes:
        """Make `codes/` from the training interactions."""
        seed, directory = self.config.run.seed, self._path("codes")
        return make_codes(self.config.codes, self.split, seed, directory, dim=self.config.model.dim)

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
        """Rank the test cases with the best weights into `report.json`, `report.html` and `ranks.npz`."""
        progress, weights = self._load_best()
        artifact = self._exported(weights)
        config, encode = self.config, torch_encoder(self._model)
        report, ranks = evaluate(
            encode, self._scorer, self.split, config.model.max_length, config.evaluation, config.run.seed
        )
        report |= {
            "name": config.run.name,
            "weights": weights,
            "best_epoch": progress.best_epoch,
            "bytes": trained_bytes(
                self._model,
                None if self._has_full_table else self._path("codes") / CODES,
                self._path("checkpoints") / LAST,
                artifact,
            ),
            "history": self._checkpoints.history(),
            "config": config.model_dump(mode="json"),
            "data": self.split.dataset.summary,
        }
        with replacing_file(self._path("ranks.npz")) as partial, partial.open("wb") as file:
            cases = self.split.test_cases()
            np.savez_compressed(
                file, allow_pickle=False, positions=cases.ends, targets=cases.targets, **ranks
            )
        with replacing_file(self._path("report.html")) as partial:
            partial.write_text(render_report(report), encoding="utf-8")
        write_json(self._path("report.json"), report)
        return report

    def export(self, version: str | None = None, *, force: bool = False) -> Path:
        """Write the best weights as `artifacts/<version>`, with the report of `evaluate` in its manifest.

        A model that does not beat popularity is refused, unless by `force`, which the manifest records.
        """
        report = read_json(self._path("report.json"), "evaluate")
        _, weights = self._load_best()
        if report["weights"] != weights or "headline" not in report:
            raise StageError(
                f"{self._path('report.json')}: of other weights or another release; "
                "run `recjpq-train evaluate` again"
            )
        forced = check_beats_popularity(report, force=force)
        told = ("protocol", "headline", "model", *BASELINES, "intervals", "difference", "exposure")
        metrics = {name: report[name] for name in told} | {"forced": forced}
        path = export(self.config, self._model, self.split.dataset, metrics, self._path("artifacts"), version)
        report["bytes"]["served"] = served_bytes(path)
        write_json(self._path("report.json"), report)
        write_json(self._path("exported.json"), self._exported_from(weights) | {"version": path.name})
        return path

    def exported(self) -> Path | None:
        """Return what the last `export` wrote, if it would be written again and is still there."""
        return self._exported(self._load_best()[1])

    def _exported(self, weights: str) -> Path | None:
        record = self._path("exported.json")
        last = read_json(record, "export") if record.exists() else {}
        path = self._path("artifacts") / str(last.get("version"))
        same = self._exported_from(weights).items() <= last.items()
        return path if same and path.is_dir() else None

    def _exported_from(self, weights: str) -> dict[str, str]:
        evaluation, dataset = self.config.evaluation.model_dump(mode="json"), self.split.dataset.summary
        return {
            "weights": weights,
            "name": self.config.run.name,
            "evaluation": fingerprint(evaluation),
            "dataset": dataset["fingerprint"],  # with the items' metadata
        }

    def assign(self, path: Path) -> NewItems:
        """Give codes to new items, from a later log or a table of similar items, with the best weights."""
        encode = torch_encoder(self.best_model())
        return assign(path, self.config, self.split.dataset, encode, self._codes.item_codes)

    def best_model(self) -> Backbone:
        """Return the model with the best weights."""
        self._load_best()
        return self._model

    @cached_property
    def split(self) -> Split:
        """The prepared log, split as configured."""
        return make_split(self.config, Dataset.load(self._path("dataset")))

    @cached_property
    def _codes(self) -> Codes:
        codes, config = Codes.load(self._path("codes")), self.config
        made_from = codes_made_from(config.codes, self.split, config.run.seed, dim=config.model.dim)
        if codes.fingerprint != made_from:
            raise StageError(
                f"{self._path('codes')}: made from another log, split or seed, or with other settings of "
                "[codes]; run `recjpq-train codes` again, or use the configuration that made it"
            )
        return codes

    @cached_property
    def _scorer(self) -> Ranker:
        return DenseRanker() if self._has_full_table else load_scorer(self._codes.item_codes)

    @cached_property
    def _model(self) -> Backbone:
        if self.config.run.threads:
            torch.set_num_threads(self.config.run.threads)
        torch.manual_seed(self.config.run.seed)
        items = self.split.dataset.num_items if self._has_full_table else self._codes.item_codes
        initial = None if self._has_full_table else self._codes.sub_embeddings
        return make_model(self.config, items, initial).to(self.group.device)

    @property
    def _has_full_table(self) -> bool:
        return self.config.model.item_embedding == "full"

    @property
    def _checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self._path("checkpoints"), self._made_from)

    def _load_best(self) -> tuple[Progress, str]:
        """Load the best weights; return where they come from, and what tells them from all others."""
        progress = self._checkpoints.load_best(self._model)
        return progress, sha256_of(self._path("checkpoints") / BEST)[:16]

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
        model = self.config.model
        if not model.relative_positions or model.backbone == "gru4rec":  # as in checkpoints older than it
            config["model"].pop("relative_positions")
        if self.config.train.schedule == "constant":
            config["train"].pop("max_epochs")
        if not self._has_full_table:
            return fingerprint("train 1", config, self._codes.fingerprint)  # which knows data and split
        data = [self.split.dataset.fingerprint]
        if self.split.cut is not None:  # a leave-one-out split follows from data, seed and configuration
            data.append(self.split.identity)
        return fingerprint("train 1", config, *data)

    def _path(self, name: str) -> Path:
        return self.config.run.directory / name
