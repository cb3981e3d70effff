"""The peer: the same encoder and server, with the scoring inside the ONNX graph (`recommender.onnx`).

    RECJPQ_MODEL_PATH=... python -m benchmarks.service_peer

The graph is cut where the encoder ends, at its score tables (a few kilobytes), so that the service's own code
runs the two halves; its second half, sum and top-k over the whole catalogue, takes the scorer's place.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx.utils
import onnxruntime
import uvicorn

from recjpq.scoring import GrowingScorer, ItemIndices, TopK
from service.app import create_app
from service.logs import configure_logging
from service.model import Model, load_model
from service.settings import Settings, read_settings

TABLES = "encoder/score_tables"


class GraphScorer:
    """A scorer that is the second half of `recommender.onnx`; see `recjpq.scoring.Scorer`."""

    backend = "onnxruntime"

    def __init__(self, recommender: Path, num_items: int, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            _second_half(recommender), options, providers=["CPUExecutionProvider"]
        )
        self._num_items = num_items

    @property
    def num_items(self) -> int:
        """N."""
        return self._num_items

    def top_k(
        self,
        score_tables: npt.NDArray[np.float32],
        k: int,
        *,
        exclude: Sequence[ItemIndices | None] | None = None,
        allow: object = None,
    ) -> list[TopK]:
        """Return each row's best items; raises ValueError for filters, which are not in the graph."""
        if allow is not None:
            raise ValueError("recommender.onnx has no filters; ask without")
        rows = exclude or [None] * len(score_tables)
        return [self._best(table[None], k, row) for table, row in zip(score_tables, rows, strict=True)]

    def _best(self, table: npt.NDArray[np.float32], k: int, exclude: ItemIndices | None) -> TopK:
        given = exclude is not None and len(exclude) > 0
        items = np.asarray(exclude if given else [0], dtype=np.int64)[None]  # (1, L): the graph masks these
        inputs = {
            TABLES: table,
            "items": items,
            "lengths": np.array([items.shape[1]], dtype=np.int64),
            "k": np.array([k], dtype=np.int64),
            "exclude_seen": np.array(given),
        }
        ids, scores = self._session.run(["top_items", "top_scores"], inputs)
        eligible = np.isfinite(scores[0])
        return TopK(ids[0][eligible].astype(np.int32), scores[0][eligible])


def load_peer(settings: Settings, path: Path) -> Model:
    """Load the artifact as the service does, and let its graph score."""
    model = load_model(settings, path)
    graph = path / "recommender.onnx"
    scorer = GraphScorer(graph, model.catalogue.num_items, settings.encoder_threads)
    return replace(model, scorer=cast(GrowingScorer, scorer))  # no items are added here


def _second_half(path: Path) -> bytes:
    """Return the graph from the score tables on."""
    recommender = onnx.load(path)
    if not any(TABLES in node.output for node in recommender.graph.node):
        raise ValueError(f"{path}: expected a value {TABLES}; export the model again")
    if TABLES not in {value.name for value in recommender.graph.value_info}:
        free = onnx.helper.make_tensor_value_info(TABLES, onnx.TensorProto.FLOAT, ["B", "M", "V"])
        recommender.graph.value_info.append(free)
    extractor = onnx.utils.Extractor(recommender)
    half = extractor.extract_model(
        [TABLES, "items", "lengths", "k", "exclude_seen"], ["top_items", "top_scores"]
    )
    serialised: bytes = half.SerializeToString()
    return serialised


def main() -> int:
    """Serve until a signal."""
    settings = read_settings()
    configure_logging(settings.log_level)
    app = create_app(settings, load_model=load_peer)
    uvicorn.run(app, host=settings.host, port=settings.port, lifespan="on", log_config=None, access_log=False,
                server_header=False, proxy_headers=False, timeout_keep_alive=75)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
