"""A real browser in front of a real service.

The tests are skipped where there is no Chromium: `make browser` fetches one, or install your system's.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.service.page.steps import GENRES, SIZES, rewrite, titles

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]


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
