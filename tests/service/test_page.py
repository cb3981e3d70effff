"""The page in a real browser, in front of a real service: what people do with it, and what goes wrong.

Skipped where there is no Chromium: `make browser` fetches one, or install your system's package.
"""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Playwright, expect, sync_playwright

from recjpq.artifact import load_artifact, write_artifact

SMALL = Path(__file__).parents[1] / "data" / "artifact-schema-1"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
MARKUP = "<img src=x onerror=\"document.title='taken over'\"> & <b>bold</b>"
GENRES = ["Drama", "Comedy", "Science fiction", "Nature"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
GONE = r"net::ERR_CONNECTION_REFUSED|net::ERR_CONNECTION_RESET|net::ERR_EMPTY_RESPONSE"
UNAVAILABLE = r"status of 503"


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


def rewrite(parent: Path, columns: dict[str, object]) -> Path:
    """Write the small artifact again, with other columns beside its items' ids and counts."""
    small = load_artifact(SMALL)
    about = small.manifest.model
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


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty films that nobody made."""
    columns = {
        "title": titles(),
        "genres": [sorted({GENRES[n % 4], GENRES[n // 3 % 4]}) for n in range(60)],
        "year": pa.array([1950 + n for n in range(60)]),
    }
    return rewrite(tmp_path_factory.mktemp("films"), columns)


def _chromium(playwright: Playwright) -> str | None:
    installed = [playwright.chromium.executable_path, *filter(None, map(shutil.which, NAMES))]
    return next((path for path in installed if Path(path).exists()), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = _chromium(playwright)
        if path is None:
            pytest.skip("no Chromium here: `make browser` fetches one, or install your system's")
        flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS  # its sandbox refuses root
        launched = playwright.chromium.launch(executable_path=path, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages, which may load nothing from elsewhere and complain of nothing but what is `allowed`."""
    contexts, wrong = [], []

    def open_(url: str, size: str = "desktop", scheme: str = "light", allowed: str = r"^$") -> Page:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: None if re.search(allowed, m.text) else wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda r: None if r.url.startswith(url.removesuffix("docs")) else wrong.append(r.url)
        )
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def service(start_shared_service, films):
    return start_shared_service(model_path=films)


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


def test_a_history_is_built_by_clicking_and_recommendations_follow(service, open_page):
    page = open_page(service.url)
    expect(page.get_by_role("heading", name="Popular now")).to_be_visible()
    expect(page.locator("#model")).to_contain_text("60 items")
    popular = shown(page)
    assert len(popular) == 10

    options = search_for(page, "ebony harb")
    expect(options).to_have_text(["The Ébony Harbour" + "Comedy, Nature · 1953"])
    with changes(page):
        options.first.click()
    assert history(page) == ["The Ébony Harbour"]
    expect(page.get_by_role("heading", name="What next")).to_be_visible()
    expect(page.locator("#how")).to_have_text("By the model, from 1 of 1 pick")
    first = shown(page)
    assert first != popular
    assert "The Ébony Harbour" not in first

    with changes(page):
        rows(page).nth(2).get_by_role("button", name="Add").click()
    assert history(page) == [first[2], "The Ébony Harbour"]
    assert shown(page) != first
    expect(rows(page).nth(2).get_by_role("button", name="Add")).to_be_focused()  # where it was

    reasons = rows(page).first.get_by_role("list", name="Because of")
    expect(reasons).to_contain_text(re.compile(r"(The Ébony Harbour|" + re.escape(first[2]) + r") \+\d"))
    expect(page.locator("#timings-label")).to_contain_text("ms in the service")
    assert page.locator("#timings dt").all_inner_texts() == [
        "Wait", "Encode", "Score all items", "Write answer"
    ]  # fmt: skip

    page.reload()
    shown(page)
    assert history(page) == [first[2], "The Ébony Harbour"]
    with changes(page):
        page.get_by_role("button", name=f"Remove {first[2]}").click()
    assert shown(page) == first
    with changes(page):
        page.get_by_role("button", name="Clear", exact=True).click()
    assert shown(page) == popular


def test_more_reasons_and_sizes_on_request(service, open_page):
    page = open_page(service.url)
    pick(page, "amber river")
    expect(page.locator(".because").first).to_be_visible()
    with changes(page):
        page.get_by_label("Reasons").uncheck()
    expect(page.locator(".because")).to_have_count(0)
    with changes(page):
        page.get_by_label("Show").select_option("20")
    assert len(shown(page)) == 20


def test_filters_choose_among_all_items(service, open_page):
    page = open_page(service.url)
    shown(page)
    assert page.locator("#filters summary").all_inner_texts() == ["Genres", "Year"]
    page.locator("#filters summary", has_text="Genres").click()
    with changes(page):
        page.get_by_label("Nature").check()
    assert len(shown(page)) == 10
    assert all("Nature" in details for details in page.locator("#items .details").all_inner_texts())
    expect(page.locator("#filters summary").first).to_have_text("Genres: Nature")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Nature")).to_be_hidden()

    page.locator("#filters summary", has_text="Year").click()
    with changes(page):
        page.get_by_label("From", exact=True).fill("1990")
        page.get_by_label("From", exact=True).blur()
    years = [int(details[-4:]) for details in page.locator("#items .details").all_inner_texts()]
    assert years
    assert min(years) >= 1990
    with changes(page):
        page.get_by_label("To", exact=True).fill("1990")
        page.get_by_label("To", exact=True).blur()
    expect(page.locator("#how")).to_contain_text("can be shown")
    with changes(page):
        page.get_by_role("button", name="Clear filters").click()
    assert len(shown(page)) == 10


def test_similar_items(service, open_page):
    page = open_page(service.url)
    title = shown(page)[0]
    page.get_by_role("button", name=f"Similar to {title}").click()
    similar = page.get_by_role("list", name=f"Similar to {title}")
    expect(similar.get_by_role("listitem")).to_have_count(6)
    other = similar.get_by_role("button").first
    name = other.inner_text()
    with changes(page):
        other.click()
    assert history(page) == [name]


def test_items_that_cannot_be_compared_are_not_offered_to_be(start_service, open_page):
    page = open_page(start_service(model_path=SMALL).url, allowed="status of 404")
    shown(page)
    page.get_by_role("button", name="Similar to").first.click()
    expect(page.locator("#items")).to_contain_text("export the model again")
    expect(page.get_by_role("button", name="Similar to")).to_have_count(0)


def test_a_users_history_is_stored_read_and_forgotten(service, open_page):
    page = open_page(service.url)
    pick(page, "golden tower")
    page.get_by_label("Store what is picked").fill("ada/ü")
    with changes(page):
        page.get_by_role("button", name="Open").click()
    expect(page.locator("#user-open")).to_contain_text("Storing for ada/ü")
    expect(page.locator("#history")).to_contain_text("1 pick not stored")
    with changes(page):
        page.get_by_role("button", name="Store", exact=True).click()
    expect(page.locator("#history")).to_contain_text("1 pick stored")
    pick(page, "golden valley")
    expect(page.locator("#history")).to_contain_text("2 picks stored")
    events = f"{service.url}/users/ada%2F%C3%BC/events"
    assert [event["item_id"] for event in httpx.get(events).json()["events"]] == ["film-40", "film-46"]
    assert history(page) == ["The Golden Valley", "The Golden Tower"]
    following = shown(page)

    elsewhere = open_page(service.url)  # another tab, with a session of its own
    elsewhere.get_by_label("Store what is picked").fill("ada/ü")
    with changes(elsewhere):
        elsewhere.get_by_role("button", name="Open").click()
    assert history(elsewhere) == ["The Golden Valley", "The Golden Tower"]
    assert shown(elsewhere) == following

    page.get_by_role("button", name="Forget this user").click()
    page.get_by_role("button", name="Keep").click()
    assert len(httpx.get(events).json()["events"]) == 2
    page.get_by_role("button", name="Forget this user").click()
    with changes(page):
        page.get_by_role("button", name="Forget", exact=True).click()
    assert httpx.get(events).json()["events"] == []
    assert history(page) == []
    with changes(page):
        page.get_by_role("button", name="Close").click()
    expect(page.get_by_label("Store what is picked")).to_be_focused()


def test_all_of_it_by_keyboard(service, open_page):
    page = open_page(service.url)
    shown(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the recommendations")).to_be_focused()
    for _ in range(3):  # the two links, then the search
        page.keyboard.press("Tab")
    field = page.get_by_role("combobox", name="Search")
    expect(field).to_be_focused()
    assert "none" not in field.evaluate("e => getComputedStyle(e).outlineStyle")
    page.keyboard.type("indigo")
    options = page.locator("#found").get_by_role("option")
    expect(options).to_have_count(10)
    expect(options.nth(0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(field).to_have_attribute("aria-activedescendant", "found-1")
    chosen = options.nth(1).evaluate("e => e.firstChild.textContent")
    with changes(page):
        page.keyboard.press("Enter")
    assert history(page) == [chosen]
    expect(field).to_be_focused()
    page.keyboard.type("indigo")
    expect(options.first).to_be_visible()
    page.keyboard.press("Escape")
    expect(options).to_have_count(0)

    page.get_by_role("link", name="To the recommendations").focus()
    page.keyboard.press("Enter")
    for _ in range(5):  # size, reasons, two filters, the first item
        page.keyboard.press("Tab")
    first = shown(page)[0]
    with changes(page):
        page.keyboard.press("Enter")
    assert history(page) == [first, chosen]
    remove = page.get_by_role("button", name=f"Remove {first}")
    remove.focus()
    with changes(page):
        page.keyboard.press("Space")
    expect(page.get_by_role("button", name=f"Remove {chosen}")).to_be_focused()


def test_titles_are_text_whatever_they_hold(service, open_page):
    page = open_page(service.url)
    pick(page, "img src")
    assert history(page) == [MARKUP]
    assert page.locator("#history img, #items img").count() == 0
    assert page.title() != "taken over"


def test_items_that_are_only_ids(start_service, open_page, tmp_path):
    page = open_page(start_service(model_path=rewrite(tmp_path, {})).url)
    assert shown(page)[0] == "film-0"
    assert page.locator("#filters *").count() == 0
    pick(page, "FILM 7")
    assert history(page) == ["film-7"]


def test_the_store_goes_away_and_comes_back(start_service, films, own_redis, open_page):
    service = start_service(model_path=films, store_url=own_redis.url, store_breaker_reset_s=0.1)
    page = open_page(service.url, allowed=UNAVAILABLE)
    page.get_by_label("Store what is picked").fill("ada")
    with changes(page):
        page.get_by_role("button", name="Open").click()
    pick(page, "amber tower")
    expect(page.locator("#history")).to_contain_text("1 pick stored")

    own_redis.kill()
    pick(page, "amber valley")
    expect(page.locator("#notice")).to_contain_text("The store of histories does not answer")
    expect(page.locator("#history")).to_contain_text("1 pick not stored")
    expect(page.locator("#how")).to_have_text("By the model, from 1 of 1 pick")
    before = shown(page)
    with changes(page):
        rows(page).first.get_by_role("button", name="Add").click()
    assert shown(page) != before

    own_redis.start()

    def stored() -> bool:
        with changes(page):
            page.get_by_role("button", name="Store", exact=True).click()
        return "3 picks stored" in page.locator("#history").inner_text()

    for _ in range(100):  # until the breaker lets one through
        if stored():
            break
    expect(page.locator("#notice")).to_be_hidden()
    assert history(page) == [before[0], "The Amber Valley", "The Amber Tower"]
    expect(page.locator("#how")).to_have_text("By the model, from 3 of 3 picks")


def test_the_service_goes_away_and_comes_back(start_service, films, open_page):
    service = start_service(model_path=films)
    page = open_page(service.url, allowed=GONE)
    pick(page, "amber tower")
    service.process.send_signal(signal.SIGKILL)
    service.process.wait()
    search_for(page, "amber valley")
    expect(page.locator("#notice")).to_contain_text("The service does not answer")
    assert history(page) == ["The Amber Tower"]
    service.start()
    service.wait_until_ready()
    expect(page.locator("#notice")).to_be_hidden(timeout=30_000)
    pick(page, "amber valley")
    assert history(page) == ["The Amber Valley", "The Amber Tower"]


def test_a_key_is_asked_for_and_kept_in_the_tab(start_service, films, open_page):
    service = start_service(model_path=films, api_keys="a-client-key")
    page = open_page(service.url, allowed="status of 401")
    field = page.get_by_label("This service wants an API key")
    expect(field).to_be_focused()
    field.fill("a-wrong-key")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("does not accept this key")
    field.fill("a-client-key")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(10)
    expect(page.locator("#notice")).to_be_hidden()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    page.reload()
    expect(rows(page)).to_have_count(10)


def test_the_api_can_be_tried(service, open_page):
    page = open_page(f"{service.url}/docs")
    page.get_by_text("Recommend items to follow a history").click()
    form = page.locator("#post-recommend form")
    form.get_by_role("textbox", name="Body").fill('{"history": ["film-3"], "k": 2}')
    form.get_by_role("button", name="Send").click()
    expect(form.locator(".status")).to_contain_text("200")
    expect(form.locator("pre").first).to_contain_text('"strategy": "model"')
    page.locator("#get-items-item_id- > summary").click()
    item = page.locator("#get-items-item_id- form")
    item.get_by_role("textbox").fill("film-3")
    item.get_by_role("button", name="Send").click()
    expect(item.locator("pre").first).to_contain_text("The Ébony Harbour")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_and_can_be_read(service, open_page, size, scheme):
    page = open_page(service.url, size, scheme)
    pick(page, "amber tower")
    page.get_by_role("button", name="Similar to").first.click()
    expect(page.get_by_role("list", name="Similar to")).to_be_visible()
    page.locator("#filters summary").first.click()
    check(page, scheme)
    page.keyboard.press("Escape")
    expect(search_for(page, "amber").first).to_be_visible()
    check(page, scheme)
    page.goto(f"{service.url}/docs")
    page.get_by_text("Recommend items to follow a history").click()
    check(page, scheme)


def check(page: Page, scheme: str) -> None:
    """Nothing sticks out to the right, colours are those of the scheme, and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    channels = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(channels) < 64) == (scheme == "dark")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
