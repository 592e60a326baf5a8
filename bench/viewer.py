"""How soon does `prefmill view` show something, and how much memory does it take, on a run of many prompts?

A run is made up (`viewer_run.py`), the command started as a user starts it, and asked over HTTP for what a browser asks
for: the page, the run at a glance, the list, the first entry and its four pictures. With `--browser`, a headless
Chromium opens the page of a server started anew, and the time is taken until the first candidate has been decoded.
Then the run is used: the whole list, entries all over it, filters, a search, a download; the peak of the server's
memory is read at the end. These are wall times of one machine: they say whether a target is met, not more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from ..base.errors import PrefmillError
from .result_file import called, write_result
from .viewer_run import make_run

_STARTING, _WAITING = 60.0, 900.0
PICTURE = "() => (document.querySelector('.image img') || {}).naturalWidth > 0"


class StartedViewer:
    """`prefmill view` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], address: str, seconds: float) -> None:
        self.process, self.address, self.start_seconds = process, address, seconds
        self.client = httpx2.Client(base_url=address, timeout=_WAITING)

    def get(self, path: str) -> httpx2.Response:
        """Return what the viewer answers. Raises PrefmillError for an error."""
        response = self.client.get(path)
        if response.status_code != httpx2.codes.OK:
            raise PrefmillError(f"the viewer answers {response.status_code} to {path}: {response.text[:200]}")
        return response

    def json(self, path: str) -> Any:
        """Return what the viewer answers, read as JSON."""
        return self.get(path).json()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the process has taken, over all threads (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_memory(self) -> int:
        """Return the most memory the process has had, in bytes (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0


@contextlib.contextmanager
def viewing(folder: Path) -> Iterator[StartedViewer]:
    """Start a viewer; it is stopped as by Ctrl-C, and has to end well. Raises PrefmillError where it does not."""
    command = [sys.executable, "-m", "prefmill.cli.main", "view", str(folder), "--port", "0"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        if address is None:
            raise PrefmillError(f"the viewer did not start: {line or (process.communicate()[1] or '')[-500:]}")
        yield StartedViewer(process, address[0], time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=_STARTING)
    if process.returncode or "Traceback" in said:
        raise PrefmillError(f"the viewer ended with {process.returncode}: {said[-500:]}")


def first_picture(viewer: StartedViewer) -> dict[str, float]:
    """Return seconds until the list, and until the first entry's pictures, are there; from the first request on.

    The server's CPU seconds, too: on a machine that others use, they say what the wall time would be without them.
    """
    began, busy = time.perf_counter(), viewer.cpu_seconds()
    viewer.get("/")
    viewer.get("/api/overview")
    entries = viewer.json("/api/entries?count=50")["entries"]
    listed = time.perf_counter() - began
    entry = viewer.json(f"/api/entries/{entries[0]['id']}")
    for image in entry["images"]:
        viewer.get(f"/image/{image['id']}/small")
    seconds, cpu_seconds = time.perf_counter() - began, viewer.cpu_seconds() - busy
    return {"list_seconds": listed, "picture_seconds": seconds, "picture_cpu_seconds": cpu_seconds}


def tour(viewer: StartedViewer) -> dict[str, float]:
    """Use the whole run; returns seconds for each part of it."""
    began = time.perf_counter()
    while not (told := viewer.json("/api/overview"))["is_read"]:
        time.sleep(0.1)
    seconds = {"read_seconds": time.perf_counter() - began}
    total = told["entries"]
    parts = {
        "search_seconds": ["/api/entries?q=stone+bridge&count=50"],
        "filter_seconds": ["/api/entries?guidance=5&responder=a&role=chosen&margin_from=1&count=50"],
        "reject_seconds": ["/api/rejects?reason=too_few_answers&start=20&count=40"],
        "list_seconds": [f"/api/entries?start={start}&count=50" for start in range(0, total, max(50, total // 40))],
    }
    for name, paths in parts.items():
        began = time.perf_counter()
        for path in paths:
            viewer.get(path)
        seconds[name] = (time.perf_counter() - began) / len(paths)
    began = time.perf_counter()
    places = range(0, total, max(1, total // 40))
    for start in places:
        entry = viewer.json(f"/api/entries/{viewer.json(f'/api/entries?start={start}&count=1')['entries'][0]['id']}")
        for image in entry["images"]:
            viewer.get(f"/image/{image['id']}/small")
    seconds["entry_seconds"] = (time.perf_counter() - began) / len(places)
    viewer.get("/download/pairs.csv?margin_from=3")
    return seconds


def browser_picture(viewer: StartedViewer) -> float:
    """Return seconds from opening the page in Chromium to the first decoded candidate.

    Raises PrefmillError where there is no browser, or nothing to drive it.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise PrefmillError("--browser needs playwright", "pip install playwright, or leave --browser out") from error
    if chromium is None:
        raise PrefmillError("--browser needs Chromium, which is not on the PATH", "install it, or leave --browser out")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto("about:blank")
        began = time.perf_counter()
        page.goto(viewer.address, wait_until="commit")
        while not page.evaluate(PICTURE):  # `wait_for_function` evaluates texts, which the page's policy forbids
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        browser.close()
    return seconds


def measure(folder: Path, *, browser: bool) -> dict[str, Any]:
    """Return what was measured of a viewer of a run."""
    with viewing(folder) as viewer:
        found: dict[str, Any] = {"start_seconds": viewer.start_seconds, **first_picture(viewer)}
        found["tour"] = tour(viewer)
        found["peak_memory"] = viewer.peak_memory()
    if browser:
        with viewing(folder) as viewer:
            found["browser_picture_seconds"] = browser_picture(viewer)
    return found


def main() -> None:
    """Measure, print a table and one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench viewer", description=__doc__)
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=192, help="pixels of an image's side")
    parser.add_argument("--browser", action="store_true", help="time a headless Chromium too (needs playwright)")
    parser.add_argument("--folder", type=Path, help="where the run is made, or found; by default a temporary folder")
    parser.add_argument("--to", type=Path, help="a file for the result")
    options = parser.parse_args()
    with contextlib.ExitStack() as held:
        folder = options.folder or Path(held.enter_context(tempfile.TemporaryDirectory())) / "run"
        if not folder.exists():
            make_run(folder, options.prompts, options.side)
        found = measure(folder, browser=options.browser)
    setting = {"prompts": options.prompts, "images": 4 * options.prompts, "side": options.side}
    shown = found.get("browser_picture_seconds", found["picture_seconds"])
    claims = {
        "first_picture_seconds": round(shown, 3),
        "peak_memory_mb": round(found["peak_memory"] / 1e6),
        "first_picture_within_1_s": shown < 1,
        "memory_within_300_mb": found["peak_memory"] < 300e6,
    }
    for name, value in {**found, **found["tour"]}.items():
        if isinstance(value, float):
            print(f"{name:<26} {value:8.3f}", file=sys.stderr)
    if options.to:
        write_result(options.to, called("prefmill bench viewer"), setting, claims, measured=found)
    print(json.dumps(claims))


if __name__ == "__main__":
    main()
