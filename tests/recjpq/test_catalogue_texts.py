"""What can be searched of a catalogue's items, also of those added while it is served."""

import numpy as np
import pyarrow as pa

from recjpq.catalogue import Catalogue
from recjpq.growing_catalogue import Addition, GrowingCatalogue


def test_trained_and_added_items_have_their_ids_and_texts():
    items = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "count": [1, 2, 3],
            "year": [1, 2, 3],
            "title": pa.array(["Ay", None, "Cee"]).dictionary_encode(),
            "tags": [["x"], [], None],
        }
    )
    codes = np.zeros((3, 2), dtype=np.uint8)
    catalogue = Catalogue(items, codes)
    chosen = np.array([2, 0], dtype=np.int32)
    assert [column.to_pylist() for column in catalogue.texts_of(chosen)] == [["c", "a"], ["Cee", "Ay"]]

    growing = GrowingCatalogue(catalogue)
    growing.append(Addition(["d"], codes[:1], [{"title": "Dee"}]))
    both = np.array([2, 3], dtype=np.int32)
    assert [column.to_pylist() for column in growing.texts_of(both)] == [["c", "d"], ["Cee", "Dee"]]
    assert [column.to_pylist() for column in growing.texts_of(both[:1])] == [["c"], ["Cee"]]
    assert [summary.name for summary in growing.attribute_summaries] == ["year", "title", "tags"]
