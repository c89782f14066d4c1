"""The report in a real browser, offline: no error, no request, a picture, a document to print."""

from __future__ import annotations

import re
import shutil

import pytest
from documents import document
from PIL import Image

from edge_fgr_bench.report import write_report

playwright = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, [document(photos)])
    return path


@pytest.fixture
def opened(browser):
    """Open a file in a window of its own; what went wrong is in the lists."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_offline(True)
    wrong, asked = [], []

    def route(one):
        if one.request.url.startswith("file:"):
            one.continue_()
        else:
            one.abort()

    context.route("**/*", route)

    def said(message):
        if message.type == "error":
            wrong.append(message.text)

    def failed(error):  # Playwright marks what it is given, which a built-in method refuses
        wrong.append(error)

    def open_page(path, scheme="light", width=1280):
        page = context.new_page()
        page.on("console", said)
        page.on("pageerror", failed)
        page.on("request", lambda request: asked.append(request.url))
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path.as_uri(), wait_until="load")
        return page

    yield open_page, wrong, asked
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(opened, report, tmp_path, scheme):
    open_page, wrong, asked = opened
    page = open_page(report, scheme)
    file = tmp_path / "page.png"
    page.screenshot(path=file, full_page=True)
    assert not wrong
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    with Image.open(file) as picture:
        assert picture.width == 1280 and picture.height > 4000
        corner = picture.convert("RGB").getpixel((2, 2))
        assert (sum(corner) > 600) == (scheme == "light")
        assert len(picture.convert("RGB").getcolors(2**24)) > 1000
    loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert page.evaluate("document.images.length") > 10 and page.evaluate(loaded)


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(opened, report, width):
    open_page, _, _ = opened
    page = open_page(report, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_can_be_printed_and_signed(opened, report, tmp_path):
    open_page, wrong, _ = opened
    page = open_page(report)
    seen = "getComputedStyle(document.querySelector('.sign')).display"
    assert page.evaluate(seen) == "none"
    page.emulate_media(media="print")
    assert page.evaluate(seen) == "grid"
    # A4 less its margins, at 96 pixels an inch: nothing is cut off at the right.
    page.set_viewport_size({"width": 703, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
    file = tmp_path / "page.pdf"
    page.pdf(path=file, prefer_css_page_size=True)
    content = file.read_bytes()
    assert content.startswith(b"%PDF-") and not wrong
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 1
