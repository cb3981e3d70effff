"""Searching among items' texts."""

import numpy as np
import pyarrow as pa
import pytest

from recjpq.text_index import MOST_WORDS, TEXT_CHARACTERS, TextIndex

TITLES = [
    "Amélie (2001)",
    "The Stars, Above",
    "Custard",
    "STRASSE & Straße",
    None,
    "日本語の本",
    "star  star",
]
ITEMS = np.array([4, 2, 0, 6, 5, 3, 1], dtype=np.int32)  # in their order of preference


def index_of(*columns):
    return TextIndex(columns, ITEMS[: len(columns[0])])


def titles_found(query, limit=10):
    found = index_of(pa.array(TITLES)).find(query, limit)
    assert found.dtype == np.int32
    return [TITLES[ITEMS.tolist().index(item)] for item in found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("amelie", ["Amélie (2001)"]),
        ("AMÉLIE 2001", ["Amélie (2001)"]),
        ("2001, ame", ["Amélie (2001)"]),
        ("star", ["The Stars, Above", "star  star", "Custard"]),  # beginnings of words before insides
        ("star above", ["The Stars, Above"]),
        ("above star the", ["The Stars, Above"]),
        ("straße", ["STRASSE & Straße"]),
        ("本", ["日本語の本"]),
        ("none", []),
        ("star none", []),
        ("", []),
        ("  ", []),
        ("&%_.*", []),
        ("\ud7ff\x00", []),
    ],
)
def test_words_are_found_without_case_and_accents(query, expected):
    assert titles_found(query) == expected


def test_no_more_than_the_limit():
    assert titles_found("star", 2) == ["The Stars, Above", "star  star"]


def test_every_text_column_counts_and_no_other():
    index = index_of(
        pa.array(["a1", "b2"]),
        pa.array(["red", None]).dictionary_encode(),
        pa.array([77, 88]),
        pa.array([["x"], ["y"]]),
        pa.array(["no", "blue"], pa.large_string()),
    )
    assert index.find("a1 red", 9).tolist() == [4]
    assert index.find("b2 blue", 9).tolist() == [2]
    assert index.find("77", 9).tolist() == index.find("x", 9).tolist() == []


def test_a_word_does_not_reach_over_two_columns():
    assert index_of(pa.array(["ab"]), pa.array(["cd"])).find("abcd", 9).tolist() == []


def test_long_texts_and_queries_are_cut():
    index = index_of(pa.array(["x" * TEXT_CHARACTERS + "end", "b"]))
    assert index.find("end", 9).tolist() == []
    assert index.find("x " * 5000, 9).tolist() == [4]
    words = " ".join(f"x{'x' * n}" for n in range(MOST_WORDS))
    assert index.find(words, 9).tolist() == [4]


def test_without_a_column_of_text_nothing_is_found():
    assert index_of(pa.array([1, 2])).find("1", 9).tolist() == []


def test_every_item_is_found_by_its_own_title():
    rng = np.random.default_rng(3)
    alphabet = np.array(list("aáb cdé-F'9ß"))
    titles = ["".join(rng.choice(alphabet, size=rng.integers(1, 9))) for _ in range(200)]
    index = TextIndex([pa.array(titles)], np.arange(200, dtype=np.int32))
    assert len(index) == 200
    for item, title in enumerate(titles):
        if any(character.isalnum() for character in title):
            assert item in index.find(title, 200)
