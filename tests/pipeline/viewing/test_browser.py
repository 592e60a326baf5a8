"""The page in a real browser, at a phone's and a desktop's width: what is shown, keys, hostile texts, a live run."""

import contextlib
import json
import shutil
import socket
import threading

import pytest
from prefmill.pipeline.records import content_id
from prefmill.pipeline.viewing.verdicts import VerdictFile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STOPPED = "Failed to load resource: net::ERR_FAILED"
WIDTHS_OF_IMAGES = """async () => {
    const images = [...document.querySelectorAll('.image img')];
    await Promise.all(images.map((image) => image.decode()));
    return images.map((image) => image.naturalWidth);
}"""
WIDTHS = {"phone": (390, 844), "desktop": (1440, 900)}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(run, verdicts=None):
    """The address of a viewer that answers over a real socket, and what stops it."""
    import uvicorn
    from prefmill.pipeline.viewing.server import Viewer, create_app

    viewer = Viewer(run, verdicts, seconds=0.05)
    with socket.socket() as listening, viewer.watcher.running():
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(viewer), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        def stop():
            server.should_exit = True
            thread.join(10)

        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", stop
        stop()
        assert not thread.is_alive()


@contextlib.contextmanager
def opened(browser, address, width, scheme="light", but=None):
    """A page, which may not have complained by the end, `but` of one thing."""
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page, said = context.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(address) else None)
    page.goto(address)
    page.wait_for_selector(".line .title")
    yield page
    context.close()
    assert set(said) <= {but}


def is_as_wide_as_the_screen(page):
    return page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_is_shown_at_both_widths_and_its_texts_do_nothing(run, browser, made, width):
    with serving(run) as (address, _), opened(browser, address, width, "dark") as page:
        assert page.locator("#list-head .count").inner_text().split()[0] == "12"
        assert is_as_wide_as_the_screen(page)
        page.locator(".line", has_text="onerror").click()
        page.wait_for_selector(".question .answer.rejected")
        assert page.locator("#list-pane").is_visible() is (width == "desktop")
        assert page.locator(".image").count() == 2
        assert page.locator(".image.picked .badge").inner_text() == "picked +0.20"
        assert page.evaluate(WIDTHS_OF_IMAGES) == [16, 16]
        assert [text.strip() for text in page.locator(".answer .pill").all_inner_texts()] == ["chosen", "rejected"]
        title = page.locator(".entry-head h2")
        assert [text.strip() for text in title.locator(".control").all_inner_texts()] == ["ESC", "RLO", "ZWSP"]
        assert "<script>window.owned=1</script>" in title.inner_text()
        assert title.evaluate("(element) => getComputedStyle(element).unicodeBidi") == "isolate"
        assert page.evaluate("window.owned") is None
        assert page.locator("#entry img[src='x'], #entry script").count() == 0
        assert is_as_wide_as_the_screen(page)
        page.evaluate("location.hash = '#view=rejects'")
        page.wait_for_selector("#view-rejects .row")
        assert page.locator("#view-rejects .row").count() == 3
        page.evaluate("location.hash = '#view=run'")
        page.wait_for_selector("#view-run .card")
        assert is_as_wide_as_the_screen(page)
        assert page.evaluate("window.owned") is None


def test_keys_filters_and_verdicts(run, browser, tmp_path):
    path = tmp_path / "verdicts.jsonl"
    with (
        VerdictFile.writing(path) as file,
        serving(run, file) as (address, _),
        opened(browser, address, "desktop") as page,
    ):
        number = page.locator(".entry-head .meta .number")
        page.wait_for_selector(".entry-head .meta .number")
        for key, expected in (("j", "#2"), ("ArrowDown", "#3"), ("k", "#2")):
            page.keyboard.press(key)
            page.locator(".entry-head .meta .number", has_text=expected).wait_for()
            assert number.inner_text() == expected
        page.wait_for_selector(".pair.focused")
        page.keyboard.press("a")
        page.wait_for_selector(".agree[aria-pressed=true]")
        page.keyboard.press("d")
        page.wait_for_selector(".disagree[aria-pressed=true]")
        told = [json.loads(line) for line in path.read_text().splitlines()]
        assert [(line["pair_id"], line["verdict"]) for line in told] == [
            *((content_id("pair", 1), "agree"), (content_id("pair", 1), "disagree"))
        ]
        page.keyboard.press("?")
        assert page.locator("#help[open] dt").count() >= 7
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.keyboard.type("boat")
        page.locator("#list-head .count b", has_text="3").wait_for()
        assert page.locator(".line .title").all_inner_texts() == [f"prompt {n} about a BOAT" for n in (0, 6, 9)]
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        page.select_option("select[name=guidance]", "5")
        page.locator("#list-head .count b", has_text="1").wait_for()
        assert page.locator(".line .title").all_inner_texts() == ["prompt 9 about a BOAT"]
        assert "guidance=5" in page.locator("#list-head details a").first.get_attribute("href")
        page.locator(".chips button", has_text="boat").click()
        page.locator("#list-head .count b", has_text="6").wait_for()


def test_a_run_that_goes_on_and_a_viewer_that_stops(tmp_path, made, browser):
    run = made.run(tmp_path / "live", range(2), complete=False)
    with serving(run) as (address, stop), opened(browser, address, "desktop", but=STOPPED) as page:
        assert page.locator("#live").inner_text().startswith("live")
        page.locator("#list-head .count b", has_text="2").wait_for()
        made.run(run.folder, range(2, 5))
        page.locator("#list-head .count b", has_text="5").wait_for(timeout=8000)
        with opened(browser, address, "phone"):
            pass  # a browser that goes away
        assert page.evaluate("fetch('/api/overview').then((answer) => answer.status)") == 200
        page.context.route("**/api/**", lambda route: route.abort())
        page.locator("#banner.bad").wait_for(timeout=8000)
        assert "has stopped" in page.locator("#banner").inner_text()
        page.context.unroute("**/api/**")
        page.locator("#banner").wait_for(state="hidden", timeout=8000)
        stop()
