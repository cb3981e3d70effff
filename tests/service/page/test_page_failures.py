"""The page when something is missing, down or hostile."""

import signal

import httpx
from playwright.sync_api import expect

from tests.service.page.steps import (
    GONE,
    MARKUP,
    SMALL,
    TOO_MANY,
    UNAVAILABLE,
    changes,
    history,
    pick,
    rewrite,
    rows,
    search_for,
    shown,
)

RETURNS_MS = 30_000
"""The page asks again at most fifteen seconds later."""


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
    expect(page.locator("#history")).to_contain_text("3 picks stored", timeout=RETURNS_MS)
    expect(page.locator("#notice")).to_be_hidden(timeout=RETURNS_MS)
    assert history(page) == [before[0], "The Amber Valley", "The Amber Tower"]
    expect(page.locator("#how")).to_have_text("By the model, from 3 of 3 picks", timeout=RETURNS_MS)


def test_a_stored_history_is_read_when_the_store_comes_back(start_service, films, own_redis, open_page):
    service = start_service(model_path=films, store_url=own_redis.url, store_breaker_reset_s=0.1)
    httpx.post(f"{service.url}/users/ada/events", json={"events": [{"item_id": "film-1"}]}).raise_for_status()
    own_redis.kill()
    page = open_page(service.url, allowed=UNAVAILABLE)
    page.get_by_label("Store what is picked").fill("ada")
    with changes(page):
        page.get_by_role("button", name="Open").click()
    expect(page.locator("#history")).to_contain_text("cannot be read now")
    own_redis.start()
    expect(page.locator("#history")).to_contain_text("1 pick stored", timeout=RETURNS_MS)
    expect(page.locator("#how")).to_have_text("By the model, from 1 of 1 pick", timeout=RETURNS_MS)
    expect(page.locator("#notice")).to_be_hidden(timeout=RETURNS_MS)


def test_what_a_user_left_is_not_stored_for_another(start_service, films, own_redis, open_page):
    service = start_service(model_path=films, store_url=own_redis.url, store_breaker_reset_s=0.1)
    page = open_page(service.url, allowed=UNAVAILABLE)
    shown(page)  # or the first answer would be taken for the next one's
    field = page.get_by_label("Store what is picked")
    field.fill("ada")
    with changes(page):
        page.get_by_role("button", name="Open").click()
    own_redis.kill()
    pick(page, "amber valley")
    expect(page.locator("#history")).to_contain_text("1 pick not stored")
    with changes(page):
        page.get_by_role("button", name="Close").click()
    field.fill("eve")
    with changes(page):
        page.get_by_role("button", name="Open").click()
    expect(page.locator("#notice")).to_be_visible()
    own_redis.start()
    expect(page.locator("#notice")).to_be_hidden(timeout=RETURNS_MS)
    expect(page.locator("#history")).to_contain_text("1 pick not stored")
    assert httpx.get(f"{service.url}/users/eve/events").json()["events"] == []


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
    expect(page.locator("#notice")).to_be_hidden(timeout=RETURNS_MS)
    with changes(page):
        page.locator("#found").get_by_role("option").first.click()  # found without being asked for again
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


def test_a_page_that_asks_too_often_waits_and_asks_again(start_service, films, open_page):
    service = start_service(model_path=films, rate_limit=0.5, rate_burst=2)  # what the model is, no more
    page = open_page(service.url, allowed=TOO_MANY)
    expect(page.locator("#notice")).to_contain_text("More than 0.5 requests a second")
    expect(rows(page)).to_have_count(0)
    expect(rows(page)).to_have_count(10, timeout=RETURNS_MS)
    expect(page.locator("#notice")).to_be_hidden()


def test_a_page_that_may_ask_for_one_thing_at_a_time_begins_all_the_same(start_service, films, open_page):
    service = start_service(model_path=films, rate_limit=0.5, rate_burst=1)
    page = open_page(service.url, allowed=TOO_MANY)
    expect(rows(page)).to_have_count(10, timeout=RETURNS_MS)


def test_it_asks_later_each_time_and_not_while_nobody_looks(service, open_page):
    page = open_page(service.url)
    shown(page)
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    page.evaluate("""async () => {
        const { Again } = await import("./page/again.js");
        window.times = 0;
        window.again = new Again(() => { window.times += 1; window.again.plan(); });
        window.look = (looks) => {
            Object.defineProperty(document, "hidden", { configurable: true, value: !looks });
            document.dispatchEvent(new Event("visibilitychange"));
        };
        window.again.plan(3000);
    }""")

    def asked_after(ms: int) -> int:
        page.clock.run_for(ms)
        return page.evaluate("window.times")

    assert [asked_after(ms) for ms in (2999, 1, 3999, 1, 7999, 1)] == [0, 1, 1, 2, 2, 3]
    assert [asked_after(ms) for ms in (14_999, 1, 14_999, 1)] == [3, 4, 4, 5]
    page.evaluate("window.look(false)")
    assert asked_after(600_000) == 5
    page.evaluate("window.look(true)")
    assert asked_after(0) == 6
    page.evaluate("window.again.stop()")
    assert asked_after(600_000) == 6
    page.evaluate("window.again.plan()")
    assert [asked_after(ms) for ms in (1999, 1)] == [6, 7]
