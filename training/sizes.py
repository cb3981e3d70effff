"""How many bytes a trained model takes: what would be served, and what training keeps."""

from pathlib import Path
from typing import Any

from recjpq.artifact.manifest import ENCODER, ITEM_CODES
from training.backbone import Backbone


def trained_bytes(
    model: Backbone, item_codes: Path | None, training_state: Path, artifact: Path | None
) -> dict[str, Any]:
    """Return the sizes of a trained model, for its report.

    `weights` are all parameters, `item_weights` those of the item embedding among them; `training_state` is
    the checkpoint to resume from: weights, the optimiser's moments, progress. `served`
    is what a service would hold: for a full item table its weights, else the files that `export` writes.

    Args:
        model: the trained model.
        item_codes: `item_codes.npy`, or None for a full item table.
        training_state: `last.pt`.
        artifact: of these weights, if it has been exported already.
    """
    sizes = {name: each.numel() * each.element_size() for name, each in model.named_parameters()}
    weights = sum(sizes.values())
    return {
        "weights": weights,
        "item_weights": sum(size for name, size in sizes.items() if name.startswith("embedding.")),
        "item_codes": item_codes.stat().st_size if item_codes else 0,
        "training_state": training_state.stat().st_size,
        "served": (served_bytes(artifact) if artifact else None) if item_codes else weights,
    }


def served_bytes(artifact: Path) -> int:
    """Return the bytes of what a service loads to score: the encoder and the codes."""
    return sum((artifact / name).stat().st_size for name in (ENCODER, ITEM_CODES))
