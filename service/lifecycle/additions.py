"""Items added to the served catalogues, and items retired from them, without another model."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from recjpq.growing_catalogue import Addition
from recjpq.new_items import codes_from_similar
from service.errors import (
    InvalidRequestError,
    ItemNotFoundError,
    ItemsExistError,
    StateError,
    StateUnavailableError,
    VersionMismatchError,
    Violation,
)
from service.lifecycle.journal import Change, Journal, NewItem
from service.model import Model

MAX_TOLD = 20
"""How many ids an error names."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of items: how many were added, and how many had been before, with the same content."""

    added: int
    unchanged: int


class AddedItems:
    """The journal of changes, and the models that it is applied to; safe from many threads.

    A model is given every change, in order, of which each adds what the model lacks and can be given codes
    for: given codes hold for their version alone, similar items must be known.
    """

    def __init__(self, directory: Path) -> None:
        self._journal = Journal(directory)
        self._lock = threading.Lock()
        self._changes: list[Change] = []
        self._content: dict[str, NewItem] = {}
        self._models: WeakSet[Model] = WeakSet()

    def track(self, model: Model) -> None:
        """Apply all changes to a model, and from now on every further one, until it is let go of.

        Raises:
            StateError: the journal cannot be read.
        """
        with self._lock:
            self._read()
            _catch_up(model, self._changes)
            self._models.add(model)

    def follow(self) -> bool:
        """Apply what other processes have changed; say whether they have. Raises StateError as `track`."""
        if not self._journal.grown():
            return False
        with self._lock:
            return self._read()

    def add(self, items: Sequence[NewItem], model: Model, *, of_version: str | None) -> Added:
        """Add items for good, all or none.

        Args:
            items: distinct ids; `codes` are those of the model's version.
            model: the champion, which must be able to have them all.
            of_version: which version the caller takes it to be, or None.

        Raises:
            VersionMismatchError: it is another version.
            ItemsExistError: the model knows some of them, with another content.
            InvalidRequestError: some have metadata or codes that do not fit the model.
            StateUnavailableError: they cannot be written down.
        """
        version = model.description.version
        if of_version not in {None, version}:
            raise VersionMismatchError(f"Version {version!r} is served, not {of_version!r}.")
        items = [item.model_copy(update={"version": version}) if item.codes else item for item in items]
        with self._lock, self._journal.writing():
            self._read_for_writing()
            unchanged = self._unchanged(items, model)
            new = [item for item in items if item.item_id not in unchanged]
            if violations := [v for n, item in enumerate(items) for v in _violations(n, item, model)]:
                raise InvalidRequestError(violations)
            if new:
                self._write(Change(at=_now(), add=tuple(new)))
        return Added(len(new), len(unchanged))

    def retire(self, item_id: str, model: Model) -> None:
        """Never recommend an item again, in no version, unless it is added again.

        Raises:
            ItemNotFoundError: the champion does not know it.
            StateUnavailableError: it cannot be written down.
        """
        with self._lock, self._journal.writing():
            self._read_for_writing()
            index = model.catalogue.indices_of([item_id])
            if index[0] < 0:
                raise ItemNotFoundError(f"The model does not know item {item_id!r}.")
            if model.catalogue.is_offered(index)[0]:
                self._write(Change(at=_now(), retire=(item_id,)))

    def _read_for_writing(self) -> None:
        try:
            self._read()
        except StateError as error:
            raise StateUnavailableError(str(error)) from error

    def _read(self) -> bool:
        changes = self._journal.read_new()
        if changes:
            self._take(changes)
        return bool(changes)

    def _write(self, change: Change) -> None:
        self._journal.append(change)
        self._take([change])

    def _take(self, changes: Sequence[Change]) -> None:
        self._changes.extend(changes)
        for change in changes:
            self._content.update((item.item_id, item) for item in change.add)
            for item_id in change.retire:
                self._content.pop(item_id, None)
        for model in self._models:
            _catch_up(model, self._changes)

    def _unchanged(self, items: Sequence[NewItem], model: Model) -> set[str]:
        """Return the ids that were added before with the same content; raise ItemsExistError for another."""
        ids = [item.item_id for item in items]
        offered = {
            item_id for item_id, is_offered in zip(ids, _offered(model, ids), strict=True) if is_offered
        }
        unchanged = {item.item_id for item in items if self._content.get(item.item_id) == item} & offered
        if existing := sorted(offered - unchanged):
            told = ", ".join(existing[:MAX_TOLD]) + (", ..." if len(existing) > MAX_TOLD else "")
            raise ItemsExistError(f"{len(existing)} of the items exist, with another content: {told}")
        return unchanged


def _catch_up(model: Model, changes: Sequence[Change]) -> None:
    """Apply the changes that a model has not had yet."""
    catalogue = model.catalogue
    for change in changes[catalogue.changes :]:
        if change.add:
            _add(model, change.add)
        if change.retire:
            indices = catalogue.indices_of(change.retire)
            known = indices[indices >= 0]
            model.scorer.retire(known)
            catalogue.retire(known)
        catalogue.changes += 1


def _add(model: Model, items: Sequence[NewItem]) -> None:
    catalogue = model.catalogue
    lacking = [
        item
        for item, is_offered in zip(items, _offered(model, [i.item_id for i in items]), strict=True)
        if not is_offered
    ]
    coded = [(item, codes) for item in lacking if (codes := _codes(item, model)) is not None]
    if not coded:
        return
    ids = [item.item_id for item, _ in coded]
    codes = np.stack([codes for _, codes in coded])  # (n, M)
    catalogue.append(Addition(ids, codes, [catalogue.fitting(item.metadata)[0] for item, _ in coded]))
    try:
        indices = model.scorer.append(codes)
    except BaseException:
        catalogue.withdraw(len(ids))  # else every later item would have another's index
        raise
    catalogue.publish(indices)


def _offered(model: Model, item_ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Say of each id whether the model knows the item and may recommend it."""
    indices = model.catalogue.indices_of(item_ids)
    offered: npt.NDArray[np.bool_] = (indices >= 0) & model.catalogue.is_offered(indices)
    return offered


def _codes(item: NewItem, model: Model) -> npt.NDArray[np.uint8] | None:
    """Return an item's codes (M,) in a model's version, or None if it can have none there."""
    if item.codes is not None:
        if item.version != model.description.version or _wrong_codes(item.codes, model):
            return None  # wrong: of an artifact that stood under this name before
        return np.array(item.codes, dtype=np.uint8)
    indices = model.catalogue.indices_of(item.similar or ())
    known = indices >= 0
    if not known.any():
        return None
    weights = np.array(item.weights)[known] if item.weights else None
    rows = model.catalogue.item_codes[indices[known]]  # (S, M)
    return codes_from_similar(rows, np.arange(len(rows)), weights)


def _wrong_codes(codes: Sequence[int], model: Model) -> str | None:
    about = model.description
    if len(codes) != about.num_splits:
        return f"found {len(codes)} sub-ids, expected {about.num_splits}"
    if max(codes) >= about.num_sub_ids:
        return f"found sub-id {max(codes)}, expected less than {about.num_sub_ids}"
    return None


def _violations(number: int, item: NewItem, model: Model) -> list[Violation]:
    """Return what keeps a model from having an item, the `number`-th of its request."""
    misfits = model.catalogue.fitting(item.metadata)[1]
    wrong = {f"metadata/{_escaped(name)}": why for name, why in misfits.items()}
    if item.codes is not None:
        if why := _wrong_codes(item.codes, model):
            wrong["codes"] = why
    elif _codes(item, model) is None:
        wrong["similar"] = "the model knows none of these items"
    return [Violation(detail, f"/items/{number}/{field}") for field, detail in wrong.items()]


def _escaped(name: str) -> str:
    """Return a name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
