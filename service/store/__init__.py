"""The sequence store: each user's recent events, by item id, behind one protocol."""

from service.store.open import STORES, open_store
from service.store.protocol import TOMBSTONE_MS, AppendResult, Event, Retention, SequenceStore

__all__ = ["STORES", "TOMBSTONE_MS", "AppendResult", "Event", "Retention", "SequenceStore", "open_store"]
