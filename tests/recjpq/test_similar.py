"""Similarity of items by their sub-embeddings."""

import numpy as np
import pytest

from recjpq.scoring import load_scorer
from recjpq.similar import SubEmbeddingSimilarity

M, V, W, N = 4, 5, 6, 30


def test_the_scorer_finds_the_items_of_the_largest_mean_cosine():
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(M, V, W)).astype(np.float32)
    codes = rng.integers(0, V, size=(N, M), dtype=np.uint8)
    similarity = SubEmbeddingSimilarity(embeddings)
    scorer = load_scorer(codes, "numpy")
    for item in range(N):
        own, others = (
            embeddings[np.arange(M), codes[item]],
            embeddings[np.arange(M), codes],
        )  # (M, W), (N, M, W)
        norms = np.linalg.norm(own, axis=1) * np.linalg.norm(others, axis=2)  # (N, M)
        expected = ((own * others).sum(axis=2) / norms).mean(axis=1)
        [best] = scorer.top_k(similarity.score_table(codes[item]), N)
        assert best.scores == pytest.approx(expected[best.ids], abs=1e-6)
        assert best.scores[0] == pytest.approx(1, abs=1e-6)
        assert np.array_equal(codes[best.ids[0]], codes[item])


def test_a_sub_embedding_of_length_zero_is_like_nothing():
    embeddings = np.ones((1, 3, 2), dtype=np.float32)
    embeddings[0, 1] = 0
    table = SubEmbeddingSimilarity(embeddings).score_table(np.array([0], dtype=np.uint8))
    np.testing.assert_allclose(table, [[[1, 0, 1]]], atol=1e-6)
    assert table.dtype == np.float32
    table = SubEmbeddingSimilarity(embeddings).score_table(np.array([1], dtype=np.uint8))
    np.testing.assert_array_equal(table, [[[0, 0, 0]]])
