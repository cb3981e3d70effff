"""A history as the model sees it: known items, oldest first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recjpq.growing_catalogue import GrowingCatalogue
from recjpq.scoring import ItemIndices


@dataclass(frozen=True, slots=True)
class History:
    """A history looked up in a catalogue.

    Attributes:
        known: item indices of the items that the catalogue has, oldest first, repeats kept; int32.
        unknown_items: the ids that it does not have, each once, in the order of their first appearance.
        received: how many entries were looked up.
    """

    known: ItemIndices
    unknown_items: list[str]
    received: int

    @classmethod
    def look_up(cls, item_ids: Sequence[str], catalogue: GrowingCatalogue) -> "History":
        """Look ids up, oldest first."""
        indices = catalogue.indices_of(item_ids)
        unknown = (item_ids[position] for position in np.flatnonzero(indices < 0).tolist())
        return cls(indices[indices >= 0], list(dict.fromkeys(unknown)), len(item_ids))

    def window(self, length: int) -> ItemIndices:
        """Return the last `length` known items."""
        return self.known[-length:]
