"""The page of a running portfolio as a browser shows it."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from sddp.live.dashboard import HEADINGS, texts
from tests.live.browser import Browser, installed
from tests.live.test_dashboard import HOSTILE, observe, running

pytestmark = pytest.mark.long

SHOWN = "Object.fromEntries([...document.querySelectorAll('[id]')].map(e => [e.id, e.textContent]))"
LOADED = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"
UNNAMED = """[...document.querySelectorAll('img, section')].filter(e => !(e.alt
    || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent)).length"""
COLORS = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture
def browser():
    path = installed()
    if path is None:
        pytest.skip("no Chromium is installed (Debian: chromium-headless-shell)")
    browser = Browser(path)
    yield browser
    browser.close()


def test_the_page_shows_the_figures_and_follows_them(browser):
    board = running()
    with board.served(0) as address:
        browser.ask("Page.navigate", url=address)
        browser.until(LOADED, len(HEADINGS))
        expected = texts(board.shown().figures)
        found = browser.value(SHOWN)
        assert {name: found[name] for name in expected} == expected
        assert found["halted"] == f"halted, too wild, {HOSTILE}"
        assert HOSTILE in found["alerts"] + found["triggers"]
        assert browser.value("document.scripts.length") == 1
        assert browser.value(UNNAMED) == 0
        # The keyboard reaches every part.
        assert browser.value("document.querySelectorAll('section[tabindex=\"0\"]').length") == 7

        # On a busy machine one update may take longer, but not five of them.
        waits = []
        for row in range(40, 45):
            observe(board, row)
            shown = texts(board.shown().figures)
            waits.append(browser.until("document.getElementById('row').textContent", f"{row + 1}"))
            found = browser.value(SHOWN)
            assert {name: found[name] for name in shown} == shown
            if waits[-1] < 2.0:
                break
        assert min(waits) < 2.0

        colors = []
        for mode in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": mode}]
            browser.ask("Emulation.setEmulatedMedia", features=features)
            colors.append(browser.value(COLORS))
        assert colors[0][0] != colors[1][0]
        assert colors[0][1] != colors[1][1]
        for width in (1280, 400):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
            browser.ask("Emulation.setDeviceMetricsOverride", **size)
            assert browser.value(OVERFLOW) <= 0
    assert browser.complaints == []
    assert {url.startswith((address, "data:")) for url in browser.requests} == {True}
    assert address + "events" in browser.requests


def test_the_file_shows_the_same_without_a_server(browser, tmp_path):
    board = running()
    page = board.write(tmp_path / "page.html")
    browser.ask("Page.navigate", url=page.as_uri())
    browser.until(LOADED, len(HEADINGS))
    expected, found = texts(board.shown().figures), browser.value(SHOWN)
    assert {name: found[name] for name in expected} == expected
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
