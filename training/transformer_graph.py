"""SASRec and BERT4Rec as graphs for serving: the functions that were trained, in fewer operations.

Exact but for rounding (weights are multiplied in float64):

* The last block computes one position and makes no keys and values. A query's score of position l is
  ``q . (W_k x_l) = (W_k^T q) . x_l``, and what it attends to ``W_v (sum_l a_l x_l)``: D^2 operations each in
  place of L D^2.
* With one head ``W_q W_k^T`` and ``W_v W_o`` are one matrix each: rows are compared with the normed rows
  themselves, and there is no projection.
* A key's bias moves all scores of a query alike and falls out of the softmax; a value's goes through the
  projection into its bias, for attention's weights sum to 1.
* Rows of all histories lie below one another, so that a layer is one Gemm with its bias.

Shapes: B batch, L length, K positions (L, and the MASK if any), M splits, V sub-ids, H heads, D width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from training.bert4rec import BERT4Rec
from training.embedding import RecJPQEmbedding
from training.graph_builder import GraphBuilder
from training.relative_bias import RelativeBias
from training.sasrec import SASRec
from training.transformer import Block

OPSET = 20
"""The first with Gelu."""

Matrix = npt.NDArray[np.float64]
Map = tuple[Matrix, Matrix]
"""Weight and bias of ``x @ weight + bias``."""


def transformer_graph(model: SASRec | BERT4Rec, embedding: RecJPQEmbedding) -> onnx.ModelProto:
    """Return ``item_codes uint8 (B, L, M), lengths int64 (B,) -> score_tables float32 (B, M, V)``."""
    return _TransformerGraph(model, embedding).build()


@dataclass(frozen=True, slots=True)
class _Attention:
    """A block's attention, its scale in the query; `key` and `projection` are None where they are merged."""

    query: Map
    key: Map | None
    value: Map
    projection: Map | None

    @classmethod
    def of(cls, block: Block) -> Self:
        w_q, b_q = _map_of(block.query)
        (w_k, w_v), (_, b_v) = (np.split(part, 2, axis=-1) for part in _map_of(block.key_value))
        w_o, b_o = _map_of(block.projection)
        scale = (len(w_q) / block.num_heads) ** -0.5
        w_q, b_q, b_o, none = w_q * scale, b_q * scale, b_v @ w_o + b_o, np.zeros_like(b_q)
        if block.num_heads == 1:
            return cls((w_q @ w_k.T, b_q @ w_k.T), None, (w_v @ w_o, b_o), None)
        return cls((w_q, b_q), (w_k, none), (w_v, none), (w_o, b_o))

    @property
    def rows(self) -> Map:
        """All that is made of every row, side by side."""
        maps = [each for each in (self.query, self.key, self.value) if each is not None]
        return np.concatenate([weight for weight, _ in maps], axis=1), np.concatenate([b for _, b in maps])


class _TransformerGraph:
    def __init__(self, model: SASRec | BERT4Rec, embedding: RecJPQEmbedding) -> None:
        self.g = GraphBuilder()
        self.model = model
        self.embedding = embedding
        self.dim, self.heads = model.config.dim, model.config.num_heads
        self.causal = isinstance(model, SASRec)
        self.activation = "Relu" if self.causal else "Gelu"
        self._positions()

    def build(self) -> onnx.ModelProto:
        M, V = self.embedding.table_shape
        x = self._embed()  # (B * K, D), as everything up to the last block
        for block in cast("Iterable[Block]", self.model.blocks):
            x = self._block(block, x)
        state = self._norm(self.model.final_norm, self._last_block(self.model.last_block, x))  # (B, D)
        if isinstance(self.model, BERT4Rec):
            linear, _, norm = cast("tuple[nn.Linear, nn.GELU, nn.LayerNorm]", tuple(self.model.head))
            state = self._norm(norm, self.g.op("Gelu", self._gemm(state, _map_of(linear))))
        self.g.output(self._score_tables(state), "score_tables")
        return self.g.model(
            "encoder",
            [
                helper.make_tensor_value_info("item_codes", TensorProto.UINT8, ["B", "L", M]),
                helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"]),
            ],
            [helper.make_tensor_value_info("score_tables", TensorProto.FLOAT, ["B", M, V])],
            opset=OPSET,
        )

    def _positions(self) -> None:
        """Make what all blocks share.

        `columns` int64 (L,). `positions` int64 (B, K): rows of the position embedding, counted back. `hidden`
        float (B, 1, K): minus infinity at what lies beyond a row's length. `later` float (K, K), if causal:
        minus infinity at what comes after.
        """
        g, longest = self.g, self.model.config.max_length
        lengths = g.op("Unsqueeze", "lengths", g.ints([1]))  # (B, 1)
        self.batch, self.width = (g.op("Shape", "item_codes", start=i, end=i + 1) for i in (0, 1))
        columns = self.columns = g.op("Range", g.ints(0), g.op("Squeeze", self.width), g.ints(1))
        remaining = g.op("Sub", lengths, columns)  # (B, L): 1 at the newest item, less beyond it
        if self.causal:
            self.newest = g.op("Sub", lengths, g.ints(1))
            ages = g.op("Sub", remaining, g.ints(1))
            self.positions = g.op("Clip", ages, g.ints(0), g.ints(longest - 1))
            later = g.op("Greater", columns, g.op("Unsqueeze", columns, g.ints([1])))
            self.later = g.op("Where", later, g.floats(-np.inf), g.floats(0))
        else:  # the MASK goes first, where every row has it; its position is 0
            mask = g.op("Sub", lengths, lengths)
            items = g.op("Clip", remaining, g.ints(0), g.ints(longest))
            self.positions = g.op("Concat", mask, items, axis=1)
            remaining = g.op("Concat", lengths, remaining, axis=1)
            self.width = g.op("Add", self.width, g.ints([1]))
        hidden = g.op("Where", g.op("Greater", remaining, g.ints(0)), g.floats(0), g.floats(-np.inf))
        self.hidden = g.op("Unsqueeze", hidden, g.ints([1]))

    def _embed(self) -> str:
        """Return items, and the MASK's vector, with their positions: (B * K, D)."""
        g, M, V, dim = self.g, *self.embedding.table_shape, self.dim
        sub_embeddings = _numpy(self.embedding.sub_embeddings) * dim**0.5  # (M, V, W)
        W = sub_embeddings.shape[2]
        tables = sub_embeddings.reshape(M * V, W)
        rows = g.op("Cast", "item_codes", to=TensorProto.INT32)
        rows = g.op("Add", rows, g.ints(np.arange(M) * V, np.int32))  # (B, L, M)
        if isinstance(self.model, BERT4Rec):
            # In place of the MASK's codes, rows of its own below the tables: a part of it for each split.
            mask = _numpy(self.model.mask) * dim**0.5
            parts = np.zeros((M, W))
            parts[: dim // W] = mask.reshape(-1, W)
            tables = np.concatenate([tables, parts])
            shape = g.op("Concat", self.batch, g.ints([1, M]), axis=0)
            mask_rows = g.op("Expand", g.ints(np.arange(M)[None, None] + M * V, np.int32), shape)
            rows = g.op("Concat", mask_rows, rows, axis=1)  # (B, K, M)
        items = g.op("Gather", g.floats(tables), rows)  # (B, K, M, W)
        if self.embedding.additive:
            items = g.op("ReduceSum", items, g.ints([2]), keepdims=0)
        else:
            items = g.op("Reshape", items, g.ints([0, 0, dim]))
        positions = g.op("Gather", g.floats(_numpy(self.model.positions.weight)), self.positions)
        return g.op("Reshape", g.op("Add", items, positions), g.ints([-1, dim]))

    def _block(self, block: Block, x: str) -> str:
        """Map every position: (B * K, D) -> (B * K, D)."""
        g, H, attention = self.g, self.heads, _Attention.of(block)
        normed = self._norm(block.attention_norm, x)
        rows = self._by_history(self._gemm(normed, attention.rows), attention.rows[1].size)
        parts = 2 if attention.key is None else 3
        query, *key, value = g.ops("Split", rows, outputs=parts, axis=2, num_outputs=parts)
        if attention.key is None:
            scores = g.op("MatMul", query, g.op("Transpose", self._by_history(normed), perm=[0, 2, 1]))
            hidden = self.hidden
        else:
            shape = g.ints([0, 0, H, -1])
            query, value = (
                g.op("Transpose", g.op("Reshape", each, shape), perm=[0, 2, 1, 3]) for each in (query, value)
            )
            keys = g.op("Transpose", g.op("Reshape", key[0], shape), perm=[0, 2, 3, 1])
            scores = g.op("MatMul", query, keys)  # (B, H, K, K)
            hidden = self.hidden if self.causal else g.op("Unsqueeze", self.hidden, g.ints([1]))
        # Padding comes after all that a causal row looks at.
        scores = g.op("Add", scores, self.later if self.causal else hidden)
        if block.bias is not None:
            scores = g.op("Add", scores, self._bias(block.bias))
        attended = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
        if attention.projection is not None:
            attended = g.op("Transpose", attended, perm=[0, 2, 1, 3])
        attended = g.op("Reshape", attended, g.ints([-1, self.dim]))
        return self._finish(block, x, attended, attention.projection)

    def _last_block(self, block: Block, x: str) -> str:
        """Map the position that scores the next item: (B * K, D) -> (B, D)."""
        g, H, D, attention = self.g, self.heads, self.dim, _Attention.of(block)
        normed = self._by_history(self._norm(block.attention_norm, x))
        query = self._gemm(self._at_newest(normed), attention.query)  # (B, D)
        if attention.key is not None:
            heads = g.op("Reshape", query, g.ints([-1, H, 1, D // H]))
            query = g.op("MatMul", heads, g.floats(attention.key[0].T.reshape(H, D // H, D)))  # (B, H, 1, D)
        query = g.op("Reshape", query, g.ints([-1, H, D]))
        scores = g.op("MatMul", query, g.op("Transpose", normed, perm=[0, 2, 1]))  # (B, H, K)
        scores = g.op("Add", scores, self.hidden)
        if block.bias is not None:
            scores = g.op("Add", scores, self._bias_at_newest(block.bias))
        weights = g.op("Softmax", scores, axis=-1)
        attended = g.op("MatMul", weights, normed)  # (B, H, D)
        if attention.projection is not None:
            heads = g.op("Reshape", attended, g.ints([-1, H, 1, D]))
            w_v = attention.value[0].reshape(D, H, D // H).transpose(1, 0, 2)
            attended = g.op("MatMul", heads, g.floats(w_v))  # (B, H, 1, D/H)
        attended = g.op("Reshape", attended, g.ints([-1, D]))
        newest = self._at_newest(self._by_history(x))
        return self._finish(block, newest, attended, attention.projection or attention.value)

    def _bias(self, bias: RelativeBias) -> str:
        """Return what distances add to the scores of all positions: (H, K, K), or with a MASK a row's own."""
        g, (queries, keys) = self.g, self._bias_columns(bias)
        if self.causal:  # columns are positions
            of_queries = g.op("Gather", g.floats(queries), self.columns, axis=1)  # (H, K, 2F)
            of_keys = g.op("Gather", g.floats(keys), self.columns, axis=0)  # (K, 2F)
            return g.op("MatMul", of_queries, g.op("Transpose", of_keys, perm=[1, 0]))
        of_queries = g.op("Gather", g.floats(queries[:, ::-1]), self.positions, axis=1)  # (H, B, K, 2F)
        of_keys = g.op("Gather", g.floats(keys[::-1]), self.positions, axis=0)  # (B, K, 2F)
        of_keys = g.op("Unsqueeze", g.op("Transpose", of_keys, perm=[0, 2, 1]), g.ints([1]))
        added = g.op("MatMul", g.op("Transpose", of_queries, perm=[1, 0, 2, 3]), of_keys)  # (B, H, K, K)
        return g.op("Squeeze", added, g.ints([1])) if self.heads == 1 else added

    def _bias_at_newest(self, bias: RelativeBias) -> str:
        """Return what distances add to the scores of the position that scores the next item: (B, H, K)."""
        queries, keys = self._bias_columns(bias)
        table = queries[:, -1] @ keys[::-1].T  # (H, positions): they count back from that one
        of_heads = self.g.op("Gather", self.g.floats(table), self.positions, axis=1)
        return self.g.op("Transpose", of_heads, perm=[1, 0, 2])

    def _bias_columns(self, bias: RelativeBias) -> tuple[Matrix, Matrix]:
        """Return the bias' columns of every position, the oldest first: (H, n, 2F), (n, 2F)."""
        positions = len(self.model.positions.weight)
        queries, keys = bias(torch.arange(positions), positions)
        return _numpy(queries), _numpy(keys)

    def _finish(self, block: Block, x: str, attended: str, projection: Map | None) -> str:
        x = self.g.op("Add", x, attended if projection is None else self._gemm(attended, projection))
        first, *_, last = (_map_of(layer) for layer in block.ffn if isinstance(layer, nn.Linear))
        inner = self.g.op(self.activation, self._gemm(self._norm(block.ffn_norm, x), first))
        return self.g.op("Add", x, self._gemm(inner, last))

    def _score_tables(self, state: str) -> str:
        """Score every sub-id: (B, D) -> (B, M, V)."""
        g, M, V = self.g, *self.embedding.table_shape
        sub_embeddings = _numpy(self.embedding.sub_embeddings)  # (M, V, W)
        if self.embedding.additive:
            tables = g.op("MatMul", state, g.floats(sub_embeddings.reshape(M * V, -1).T))
        else:
            parts = g.op("Reshape", state, g.ints([-1, M, 1, sub_embeddings.shape[2]]))
            tables = g.op("MatMul", parts, g.floats(sub_embeddings.transpose(0, 2, 1)))  # (B, M, 1, V)
        return g.op("Reshape", tables, g.ints([-1, M, V]))

    def _by_history(self, rows: str, width: int | None = None) -> str:
        """Return rows (B * K, width) as (B, K, width); D wide by default."""
        shape = self.g.op("Concat", self.batch, self.width, self.g.ints([width or self.dim]), axis=0)
        return self.g.op("Reshape", rows, shape)

    def _at_newest(self, x: str) -> str:
        """Take from (B, K, D) what scores the next item: the newest item's, or the MASK's; (B, D)."""
        if self.causal:
            return self.g.op("GatherND", x, self.newest, batch_dims=1)
        return self.g.op("Gather", x, self.g.ints(0), axis=1)

    def _norm(self, norm: nn.LayerNorm, x: str) -> str:
        scale, bias = self.g.floats(_numpy(norm.weight)), self.g.floats(_numpy(norm.bias))
        return self.g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=norm.eps)

    def _gemm(self, x: str, linear: Map) -> str:
        weight, bias = linear
        return self.g.op("Gemm", x, self.g.floats(weight), self.g.floats(bias))


def _map_of(layer: nn.Linear) -> Map:
    return _numpy(layer.weight).T, _numpy(layer.bias)


def _numpy(tensor: Tensor) -> Matrix:
    array: Matrix = tensor.detach().cpu().double().numpy()
    return array
