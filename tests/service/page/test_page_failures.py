"""The page when something is missing, down or hostile."""

import signal

from playwright.sync_api import expect

from tests.service.page.steps import (
    GONE,
    MARKUP,
    SMALL,
    UNAVAILABLE,
    changes,
    history,
    pick,
    rewrite,
    rows,
    search_for,
    shown,
)


def test_items_that_cannot_be_compared_are_not_offered_to_be(start_service, open_page):
    page = open_page(start_service(model_path=SMALL).url, allowed="status of 404")
    shown(page)
    page.get_by_role("button", name="Similar to").first.click()
    expect(page.locator("#items")).to_contain_text("export the model again")
    expect(page.get_by_role("button", name="Similar to")).to_have_count(0)


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
