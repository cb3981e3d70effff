"""Search among items' ids and texts, in whatever case and with or without accents.

One folded line of text for each item, in one Arrow buffer, scanned for every query without the GIL: 100,000
titles take 5 MB and 10 to 25 ms, and there is nothing to keep up to date.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TEXT_CHARACTERS = 200
"""How much of one column's text is searched; a title is shorter, a description need not be found whole."""
MOST_WORDS = 8
"""How many words of a query are looked for."""

_TEXT = pa.large_string()


class TextIndex:
    """The texts of n items in their order of preference; immutable, safe from many threads."""

    def __init__(self, columns: Iterable[pa.Array], item_indices: npt.NDArray[np.int32]) -> None:
        """Take columns of n values, of which those of text are searched, and the items' indices, (n,)."""
        texts = [
            pc.utf8_slice_codeunits(column.cast(_TEXT), 0, TEXT_CHARACTERS)
            for column in columns
            if is_text(column.type)
        ]
        self._lines = _folded(texts) if texts else None
        self._items = item_indices

    def __len__(self) -> int:
        return len(self._items)

    def find(self, query: str, limit: int) -> npt.NDArray[np.int32]:
        """Return items that have every word of the query, at most `limit`, int32.

        First those in which each begins a word, then those in which it stands anywhere; else in the items'
        order. A query without letters and digits finds nothing.
        """
        words = sorted(set(_folded([pa.array([query], _TEXT)])[0].as_py().split()), key=len, reverse=True)
        if self._lines is None or not words:
            return self._items[:0]
        rows, lines = np.arange(len(self._items)), self._lines
        for word in words[:MOST_WORDS]:  # the longest first: it leaves the fewest lines
            inside = pc.match_substring(lines, word)
            rows, lines = rows[inside.to_numpy(zero_copy_only=False)], lines.filter(inside)
        begins = np.ones(len(rows), dtype=np.bool_)
        for word in words[:MOST_WORDS]:
            begins &= pc.match_substring(lines, f" {word}").to_numpy(zero_copy_only=False)
        found: npt.NDArray[np.int32] = self._items[np.concatenate([rows[begins], rows[~begins]])[:limit]]
        return found


def is_text(dtype: pa.DataType) -> bool:
    """Say whether a column's values are text, perhaps encoded by a dictionary."""
    if pa.types.is_dictionary(dtype):
        return is_text(dtype.value_type)
    return bool(
        pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)
    )


def _folded(texts: Sequence[pa.Array]) -> pa.Array:
    """Return lines of words in lower case without accents, each word, the first too, after one blank."""
    blank, nothing = pa.scalar(" ", _TEXT), pa.scalar("", _TEXT)
    lines = pc.binary_join_element_wise(nothing, *texts, blank, null_handling="replace")
    lines = pc.utf8_lower(pc.utf8_normalize(lines, form="NFKD"))
    lines = pc.replace_substring_regex(lines, pattern=r"\p{M}+", replacement="")
    return pc.replace_substring_regex(lines, pattern=r"[^\p{L}\p{N}]+", replacement=" ")
