"""Which items meet conditions on their attributes: checked against the rule for one item."""

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recjpq.attributes import Attributes, Condition, Value
from recjpq.errors import FilterError

COLUMNS = {
    "kind": (pa.string(), ["shoes", "bags", None, "shoes", "hats", ""]),
    "tags": (pa.list_(pa.string()), [["a", "b"], [], None, ["b", None], ["c"], ["a", "a"]]),
    "price": (pa.float64(), [1.5, None, 3.0, -2.0, 10.0, 0.0]),
    "year": (pa.int16(), [1999, 2000, None, 2001, 2002, 1999]),
    "new": (pa.bool_(), [True, False, None, True, False, False]),
    "sizes": (pa.large_list(pa.int64()), [[1, 2], [3], [], None, [2], [9]]),
}
N = 6


def holds(condition: Condition, value: Any) -> bool:
    """Say whether one item's value, a list of values or None, meets a condition: the specification."""
    values = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
    return (
        (condition.any_of is None or any(v in condition.any_of for v in values))
        and not any(v in condition.none_of for v in values)
        and (condition.at_least is None or any(v >= condition.at_least for v in values))
        and (condition.at_most is None or any(v <= condition.at_most for v in values))
    )


@pytest.fixture(params=["plain", "dictionary"])
def attributes(request: pytest.FixtureRequest) -> Attributes:
    columns = {name: pa.array(values, dtype) for name, (dtype, values) in COLUMNS.items()}
    if request.param == "dictionary":
        columns["kind"] = columns["kind"].dictionary_encode()
    return Attributes(columns, N)


def allowed(attributes: Attributes, **conditions: Condition) -> list[int]:
    return np.flatnonzero(attributes.allowed(tuple(conditions.items()))).tolist()


@pytest.mark.parametrize(
    ("name", "condition", "expected"),
    [
        ("kind", Condition(("shoes",)), [0, 3]),
        ("kind", Condition(("shoes", "hats", "no such")), [0, 3, 4]),
        ("kind", Condition(none_of=("shoes",)), [1, 2, 4, 5]),  # an item without a value has none
        ("tags", Condition(("a",)), [0, 5]),
        ("tags", Condition(("b", "c"), none_of=("a",)), [3, 4]),
        ("tags", Condition(none_of=("b",)), [1, 2, 4, 5]),
        ("price", Condition(at_least=0.0, at_most=3.0), [0, 2, 5]),
        ("year", Condition((1999, 2001.0)), [0, 3, 5]),
        ("year", Condition((1999.5, 10**30)), []),  # no item has it, which is no mistake
        ("year", Condition(at_least=2000.5), [3, 4]),
        ("new", Condition((True,)), [0, 3]),
        ("new", Condition(none_of=(True,)), [1, 2, 4, 5]),
        ("sizes", Condition((2,)), [0, 4]),
        ("sizes", Condition(at_least=3.0), [1, 5]),
    ],
)
def test_one_condition(attributes: Attributes, name: str, condition: Condition, expected: list[int]) -> None:
    assert allowed(attributes, **{name: condition}) == expected
    values = COLUMNS[name][1]
    assert [i for i in range(N) if holds(condition, values[i])] == expected


def test_all_conditions_must_hold(attributes: Attributes) -> None:
    assert allowed(attributes, kind=Condition(("shoes",)), price=Condition(at_least=0.0)) == [0]


VALUES: dict[str, list[Value]] = {
    "kind": ["shoes", "bags", "", "x"], "tags": ["a", "b", "c", "x"], "price": [1.5, 3, 0, 7],
    "year": [1999, 2000, 7], "new": [True, False], "sizes": [1, 2, 9, 7],
}  # fmt: skip


@given(data=st.data(), name=st.sampled_from(list(COLUMNS)))
def test_columns_and_single_items_agree(data: st.DataObject, name: str) -> None:
    values = st.lists(st.sampled_from(VALUES[name]), max_size=3).map(tuple)
    bound = st.none() | st.floats(-3, 2003)
    numbers = name in {"price", "year", "sizes"}
    condition = Condition(
        data.draw(st.none() | values),
        data.draw(values),
        data.draw(bound) if numbers else None,
        data.draw(bound) if numbers else None,
    )
    dtype, column = COLUMNS[name]
    found = Attributes({name: pa.array(column, dtype)}, N).allowed(((name, condition),))
    assert found.tolist() == [holds(condition, value) for value in column]


@pytest.mark.parametrize(
    ("name", "condition", "message"),
    [
        ("colour", Condition(("red",)), "no such attribute; there are kind, tags"),
        ("kind", Condition((3,)), "found 3, expected text"),
        ("price", Condition(none_of=("cheap",)), "found 'cheap', expected a number"),
        ("price", Condition((True,)), "found True, expected a number"),
        ("new", Condition((1,)), "found 1, expected true or false"),
        ("kind", Condition(at_least=1.0), "min and max need an attribute of numbers; this one has text"),
    ],
)
def test_what_no_item_could_meet_is_refused(
    attributes: Attributes, name: str, condition: Condition, message: str
) -> None:
    with pytest.raises(FilterError, match=message) as error:
        attributes.allowed(((name, condition),))
    assert error.value.attribute == name


def test_answers_are_kept_and_cannot_be_changed(attributes: Attributes) -> None:
    filters = (("kind", Condition(("shoes",))),)
    found = attributes.allowed(filters)
    assert attributes.allowed(filters) is found
    with pytest.raises(ValueError, match="read-only"):
        found[0] = False


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recjpq.attributes.CACHE_BYTES", 1)
    attributes = Attributes({"n": pa.array(range(N))}, N)
    first = attributes.allowed((("n", Condition((0,))),))
    for value in range(100):
        attributes.allowed((("n", Condition(at_least=float(value))),))
    assert attributes.allowed((("n", Condition((0,))),)) is not first


def test_long_values_count_in_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recjpq.attributes.CACHE_BYTES", 20_000)
    attributes = Attributes({"kind": pa.array(["shoes"] * N)}, N)
    first = attributes.allowed((("kind", Condition(("shoes",))),))
    attributes.allowed((("kind", Condition(("x" * 2000,))),))
    assert attributes.allowed((("kind", Condition(("shoes",))),)) is first
    attributes.allowed((("kind", Condition(none_of=("y" * 5000,))),))
    assert attributes.allowed((("kind", Condition(("shoes",))),)) is not first


def test_many_threads_get_the_same_answers(attributes: Attributes) -> None:
    wrong: list[Any] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for year in rng.integers(1998, 2003, size=200).tolist():
            expected = [value == year for value in COLUMNS["year"][1]]
            if attributes.allowed((("year", Condition((year,))),)).tolist() != expected:
                wrong.append(year)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("dtype", "values", "condition", "expected"),
    [
        (pa.float32(), [0.1, 20_000_001.0], Condition((0.1,)), [0]),
        (pa.float32(), [0.5, 1.0], Condition((20_000_001,)), []),
        (pa.float64(), [0.5], Condition((10**400, 2**53 + 1)), []),
        (pa.float64(), [0.5], Condition(none_of=(10**400,)), [0]),
        (pa.int64(), [2**53 + 1, 5], Condition(at_least=6.5), [0]),
        (pa.int64(), [2**63 - 1, -(2**63)], Condition(at_least=-1e300, at_most=1e300), [0, 1]),
        (pa.uint64(), [2**64 - 1, 0], Condition(at_most=-0.5), []),
        (pa.int8(), [1, 100], Condition(at_least=1e10), []),
        (pa.int8(), [1, 100], Condition((10**30, 1)), [0]),
    ],
)
def test_numbers_beyond_a_columns_type(
    dtype: pa.DataType, values: list[Any], condition: Condition, expected: list[int]
) -> None:
    assert allowed(Attributes({"x": pa.array(values, dtype)}, len(values)), x=condition) == expected


@pytest.mark.parametrize("dtype", [pa.list_(pa.list_(pa.string())), pa.string_view(), pa.date32()])
def test_columns_that_cannot_be_asked_for_say_so(dtype: pa.DataType) -> None:
    with pytest.raises(FilterError, match="but the attribute is"):
        Attributes({"x": pa.nulls(2, dtype)}, 2).check((("x", Condition(("a",))),))
