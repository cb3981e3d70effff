"""Films that nobody made, and what people do on the page with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from recjpq.artifact import load_artifact, write_artifact

SMALL = Path(__file__).parents[2] / "data" / "artifact-schema-1"
MARKUP = "<img src=x onerror=\"document.title='taken over'\"> & <b>bold</b>"
GENRES = ["Drama", "Comedy", "Science fiction", "Nature"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
GONE = r"net::ERR_CONNECTION_REFUSED|net::ERR_CONNECTION_RESET|net::ERR_EMPTY_RESPONSE"
UNAVAILABLE = r"status of 503"
TOO_MANY = r"status of 429"


def titles() -> list[str]:
    colours = ["Amber", "Crimson", "Ébony", "Golden", "Indigo", "Scarlet"]
    things = [
        "Harbour",
        "Lantern",
        "Meadow",
        "Orchard",
        "River",
        "Station",
        "Tower",
        "Valley",
        "Window",
        "Yard",
    ]
    return [MARKUP, *(f"The {colour} {thing}" for thing in things for colour in colours)][:60]


def rewrite(parent: Path, columns: dict[str, object], **description: str) -> Path:
    """Write the small artifact again, with other columns beside its items' ids and counts."""
    small = load_artifact(SMALL)
    about = replace(small.manifest.model, **description)
    items = pa.table({
        "item_id": [f"film-{number}" for number in range(about.num_items)],
        "count": small.catalogue.counts,
        **columns,
    })  # fmt: skip
    rng = np.random.default_rng(5)
    return write_artifact(
        parent, about,
        encoder=(SMALL / "encoder.onnx").read_bytes(), recommender=(SMALL / "recommender.onnx").read_bytes(),
        item_codes=np.array(small.catalogue.item_codes), items=items, golden=small.golden,
        sub_embeddings=rng.normal(size=(about.num_splits, about.num_sub_ids, 4)).astype(np.float32),
    )  # fmt: skip


def rows(page: Page) -> Locator:
    return page.locator("#items > li")


def shown(page: Page) -> list[str]:
    """The titles of the recommendations, once they are there."""
    expect(page.locator("#items")).to_have_attribute("aria-busy", "false")
    return page.locator("#items > li > .item > div:first-of-type > .add").all_inner_texts()


def history(page: Page) -> list[str]:
    return page.locator("#history li > span").all_inner_texts()


@contextmanager
def changes(page: Page) -> Iterator[None]:
    """Wait for the answer to the recommendation that the block asks for."""
    with page.expect_response(lambda r: r.url.endswith("/recommend")) as answer:
        yield
    answer.value.finished()
    expect(page.locator("#items")).to_have_attribute("aria-busy", "false")


def search_for(page: Page, text: str) -> Locator:
    page.get_by_role("combobox", name="Search").fill(text)
    return page.locator("#found").get_by_role("option")


def pick(page: Page, text: str) -> None:
    with changes(page):
        search_for(page, text).first.click()


def check(page: Page, scheme: str) -> None:
    """Nothing sticks out to the right, colours are those of the scheme, and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    channels = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(channels) < 64) == (scheme == "dark")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
