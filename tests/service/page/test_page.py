"""What people do on the page."""

import re

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.service.administration import ADMIN_KEY, HEADERS
from tests.service.page.steps import (
    SIZES,
    changes,
    check,
    history,
    pick,
    rewrite,
    rows,
    search_for,
    shown,
    titles,
)


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


def test_enter_chooses_what_is_found_for_the_words_that_are_there(service, open_page):
    page = open_page(service.url)
    shown(page)
    expect(search_for(page, "amber tower")).to_have_count(1)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/items?query=golden*", hold)
    with page.expect_request("**/items?query=golden*"):
        options = search_for(page, "golden yard")
    expect(options).to_have_count(0)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Search")).not_to_have_attribute(
        "aria-activedescendant", re.compile("")
    )
    assert history(page) == []
    with changes(page):
        held[0].continue_()
    assert history(page) == ["The Golden Yard"]


def test_the_header_names_the_model_that_answers(start_service, tmp_path, open_page):
    for version in ("v1", "v2"):
        rewrite(tmp_path / "versions", {"title": titles()}, version=version)
    service = start_service(model_path=tmp_path / "versions", admin_key=ADMIN_KEY)
    page = open_page(service.url)
    shown(page)
    expect(page.locator("#model")).to_have_text(re.compile("version v2 · 60 items$"))
    httpx.post(f"{service.url}/admin/models/v1/activate", headers=HEADERS).raise_for_status()
    pick(page, "amber tower")
    expect(page.locator("#model")).to_have_text(re.compile("version v1 · 60 items$"))


def test_blanks_are_no_user(service, open_page):
    page = open_page(service.url)
    shown(page)
    field = page.get_by_label("Store what is picked")
    field.fill("  ")
    page.get_by_role("button", name="Open").click()
    expect(field).to_be_visible()
    assert not field.evaluate("e => e.checkValidity()")
    page.evaluate("""sessionStorage.setItem("recjpq.session", '{"picked": [], "user": " "}')""")
    page.reload()
    shown(page)
    expect(field).to_be_visible()
    field.fill(" ada")
    assert field.evaluate("e => e.checkValidity()")


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
