"""The page over many runs in headless Chromium. Every test also fails on a console message, a script error or a request
that leaves the page's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from stg_eval import statistics
from stg_eval.reports import write_overview_report
from stg_eval.storage.results import Results

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt install chromium)"),
]
RUNS = 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, make_results: Callable[..., Results]) -> tuple[list[Results], Path]:
    """Six runs of one model, the last two of which flicker more; a seventh of another model, at another size."""
    root = tmp_path_factory.mktemp("many")
    runs = [make_results(root, pairs=40, clips=True, name=f"build-{i}") for i in range(RUNS)]
    for i, run in enumerate(runs):
        noise = np.random.default_rng(i).normal(0, 0.002, len(run.scores))
        scores = run.scores.assign(temporal_flickering=run.scores.temporal_flickering + noise - 0.01 * (i > 3))
        runs[i] = replace(run, scores=scores)
    other = make_results(root, pairs=4, name="other")
    record = other.run.model_copy(update={"model": "other", "request": None})
    runs.append(replace(other, run=record))
    return runs, write_overview_report(runs, root / "store", root / "out", lambda metric, before: 0.001)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """visit(path, fragment) -> a Playwright page with its script at work."""
    contexts, troubles = [], []

    def go(path: Path | str, fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: troubles.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda e: troubles.append(f"error: {e}"))
        url = path.as_uri() if isinstance(path, Path) else path
        inside = url.rsplit("/", 1)[0]
        page.on("request", lambda r: None if r.url.startswith(("data:", inside)) else troubles.append(r.url[:80]))
        page.goto(url + (f"#{fragment}" if fragment else ""))
        until(page, "document.querySelector('#count').textContent")
        return page

    yield go
    for context in contexts:
        context.close()
    assert troubles == []


def until(page: Any, expression: str, seconds: float = 20) -> None:
    for _ in range(int(seconds / 0.05)):
        if page.evaluate(f"Boolean({expression})"):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def difference(page: Any, title: str) -> list[str]:
    return page.locator("#differences tbody tr").filter(has_text=title).locator("td").all_inner_texts()  # type: ignore[no-any-return]


def test_the_last_run_of_each_series_is_listed_and_earlier_ones_on_demand(built: Any, visit: Any) -> None:
    page = visit(built[1])
    assert page.inner_text("#count") == "4 of 14 rows"
    page.check("[data-state=all]")
    assert page.inner_text("#count") == "14 of 14 rows"
    page.select_option("[data-state=model]", "other")
    page.select_option("[data-state=family]", "stg-a")
    assert page.locator("#board tbody tr").count() == 1
    page.fill("[data-state=q]", "nobody")
    until(page, "!document.querySelector('#empty').hidden")
    page.click("#empty button")
    assert page.inner_text("#count") == "14 of 14 rows"


def test_a_change_is_marked_and_leads_to_the_pairs_around_it(built: Any, visit: Any) -> None:
    runs, path = built
    page = visit(path, "metric=temporal_flickering")
    lines = page.locator("#changes li").all_inner_texts()
    assert len(lines) == 2, lines  # of the two variants
    assert all("build-4: TF −0.01" in line and "worse, found after 1 run" in line for line in lines)
    assert page.locator("#history .change.worse").count() == 1
    page.locator("#changes button").first.click()
    until(page, "document.querySelector('#grid .card')")
    assert "build-3" in page.inner_text("#sides")
    before, after = (run.scores[run.scores.variant == "cfg"] for run in (runs[3], runs[4]))
    expected = statistics.paired_mean_difference(
        after.temporal_flickering, before.temporal_flickering, list(after["case"])
    )
    _, _, shown, n = difference(page, "Temporal Flickering")
    assert n == "40"
    assert shown.split("\n")[0] == f"{expected.difference:+.3f}".replace("-", "−")
    assert page.locator("#grid .card").count() == 40
    until(page, "document.querySelector('#grid video')?.readyState >= 2")
    assert page.locator("#grid video").count() < 80, "clips far from the window are not made"


def test_intervals_in_the_page_are_those_of_python(built: Any, visit: Any) -> None:
    """0/1 scores to nine digits; others as Student's t has them, which the bootstrap is near to."""
    page, rng = visit(built[1]), np.random.default_rng(0)
    for size in (12, 60):
        clusters = [f"case{i // 2}" for i in range(size)]
        for a, b in (
            (rng.integers(0, 2, size), rng.integers(0, 2, size)),
            (np.ones(size), np.ones(size)),
            (np.zeros(size), np.ones(size)),
            (rng.normal(size=size), rng.normal(0.3, 1, size=size)),
        ):
            found = page.evaluate("([a, b, c]) => pairedDifference(a, b, c)", [a.tolist(), b.tolist(), clusters])
            expected = statistics.paired_mean_difference(b.astype(float), a.astype(float), clusters)
            assert found["difference"] == pytest.approx(expected.difference, abs=1e-12)
            exact = set(a) | set(b) <= {0, 1}
            near = 1e-9 if exact else 0.15 * (expected.high - expected.low)
            assert [found["low"], found["high"]] == pytest.approx([expected.low, expected.high], abs=near)
    assert page.evaluate("tQuantile(7)") == pytest.approx(2.364624251592785, abs=1e-9)


def test_only_the_same_requests_are_paired(built: Any, visit: Any) -> None:
    page = visit(built[1], "a=0&b=12&metric=dynamic_degree")  # build-0 and the other model, which has 4 pairs
    until(page, "document.querySelector('#grid .card')")
    assert "4 pairs of the same case, prompt and seed; 36 clips have no partner" in page.inner_text("#differs")
    assert "model tiny → other" in page.inner_text("#differs")
    page.evaluate("DATA.runs[0].shape = [64, 64, 16, 8, 'x']; DATA.runs[6].shape = [64, 64, 8, 8, 'x']; showPairs()")
    until(page, "!document.querySelector('#refused').hidden")
    assert page.inner_text("#refused") == "Not comparable: frames a clip 16 in A, 8 in B."
    assert page.locator("#grid .card").count() == 0


def test_keys_choose_rows_and_the_address_leads_back(built: Any, visit: Any) -> None:
    page = visit(built[1])
    page.locator("#board tbody tr").first.focus()
    page.keyboard.press("a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("b")
    until(page, "document.querySelector('#grid .card')")
    sides = page.inner_text("#sides")
    page.wait_for_timeout(300)
    again = visit(built[1], page.url.split("#")[1])
    assert again.inner_text("#sides") == sides
    page.keyboard.press("x")
    assert page.inner_text("#sides") != sides
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.dataset.state") == "q"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


@pytest.mark.parametrize("width", [360, 820])
def test_page_never_scrolls_sideways(built: Any, visit: Any, width: int) -> None:
    page = visit(built[1], "a=0&b=1", viewport={"width": width, "height": 780})
    until(page, "document.querySelector('#grid .card')")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_trade_off_joins_the_rows_that_nothing_beats(built: Any, visit: Any) -> None:
    page = visit(built[1])
    points = [{"i": i, "x": x, "y": y} for i, (x, y) in enumerate([(1, 5), (2, 4), (2, 6), (3, 6), (0, 4), (3, 7)])]
    found = page.evaluate("(p) => paretoFront(p, {higher: true}, {higher: false}).map((q) => q.i)", points)
    assert found == [3, 1]
    assert page.locator("#trade circle").count() == 2, "the other run has FVD over fewer clips"


def test_any_web_server_serves_the_folder(built: Any, visit: Any) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built[1].parent)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = visit(f"http://127.0.0.1:{server.server_port}/index.html", "a=0&b=1")
        page.locator("#grid .card").first.scroll_into_view_if_needed()
        until(page, "document.querySelector('#grid video')?.readyState >= 2")
    finally:
        server.shutdown()
        server.server_close()
