"""The page in headless Chromium. Every test also fails on a console message, a script error or a request."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stg_eval.reports.gallery import write_page
from stg_eval.storage.record import Missing
from stg_eval.storage.results import Results
from stg_eval.storage.video import write_video

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt install chromium)"),
]

THREE = {"cfg": "cfg3", "stg-a": "cfg3+stg-a[3]s2t2", "stg-r": "cfg3+stg-r[3]w1"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, make_results: Callable[..., Results]) -> tuple[Results, Path]:
    """24 pairs under three kinds of guidance, as a page."""
    root = tmp_path_factory.mktemp("gallery")
    results = make_results(root, pairs=24, variants=THREE, clips=True)
    return results, write_page([results], root / "store", root / "index.html")


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """visit(path, fragment) -> a Playwright page with its script at work."""
    contexts, troubles = [], []

    def go(path: Path, fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: troubles.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda e: troubles.append(f"error: {e}"))
        inside = path.parent.as_uri()
        page.on(
            "request",
            lambda r: None if r.url.startswith(("data:", inside)) else troubles.append(f"request: {r.url[:80]}"),
        )
        page.goto(path.as_uri() + (f"#{fragment}" if fragment else ""))
        until(page, "document.querySelector('#count').textContent")
        return page

    yield go
    for context in contexts:
        context.close()
    assert troubles == []


def until(page: Any, expression: str, seconds: float = 20) -> None:
    """Wait for a JavaScript expression. (Playwright's own wait needs eval, which the page's policy forbids.)"""
    for _ in range(int(seconds / 0.05)):
        if page.evaluate(f"Boolean({expression})"):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def address(page: Any) -> str:
    """The address, once it has caught up with the view."""
    page.wait_for_timeout(300)
    return str(page.url)


def frame_on_canvas(level: float) -> int:
    """The frame whose background has this grey level (see `conftest.frames`)."""
    return round((level - 8) / 12)


SAMPLE = """async ([seconds, selector]) => {
  const canvases = [...document.querySelectorAll(selector)].slice(0, 2), out = [], began = performance.now();
  const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const level = (c) => (copy.drawImage(c, 0, 0, 1, 1, 0, 0, 1, 1), copy.getImageData(0, 0, 1, 1).data[0]);
  while (performance.now() - began < seconds * 1000) {
    const now = await new Promise(requestAnimationFrame);
    out.push([now, ...canvases.map(level)]);
  }
  return out;
}"""


def test_two_clips_stay_within_one_frame_of_each_other_over_five_seconds(built: Any, visit: Any) -> None:
    page = visit(built[1], "pair=case0003|0")
    page.wait_for_selector("#stage canvas[data-frame]")
    samples = np.array(page.evaluate(SAMPLE, [5, "#stage canvas"]))
    shown = np.vectorize(frame_on_canvas)(samples[:, 1:])
    apart = np.abs(shown[:, 0] - shown[:, 1])
    assert np.minimum(apart, 16 - apart).max() <= 1
    changes = int((np.diff(shown[:, 0]) != 0).sum())
    seconds = (samples[-1, 0] - samples[0, 0]) / 1000
    assert changes == pytest.approx(8 * seconds, abs=3), "plays at the clip's own 8 frames a second"


def test_large_clips_are_videos_beside_the_page_and_stay_in_step(
    tmp_path: Path, make_results: Callable[..., Results], visit: Any
) -> None:
    results = make_results(tmp_path, pairs=1, clips=True, num_frames=24, size=96)
    page = visit(write_page([results], tmp_path / "store", tmp_path / "out" / "index.html"), "pair=case0000|0")
    assert len(list((tmp_path / "out" / "clips").iterdir())) == 2
    until(page, "[...document.querySelectorAll('#stage video')].every((v) => v.currentTime > 0.1)")
    page.wait_for_timeout(1000)
    seen = page.evaluate(
        """async () => {
          const seen = [...document.querySelectorAll("#stage video")].map((video) => {
            const list = [];
            const next = (now, data) => {
              list.push([now, data.mediaTime]);
              video.requestVideoFrameCallback(next);
            };
            video.requestVideoFrameCallback(next);
            return list;
          });
          await new Promise((r) => setTimeout(r, 5000));
          return seen;
        }"""
    )
    (times, first), (other_times, second) = (np.array(s).T for s in seen)
    assert len(first) > 25
    matched = second[np.clip(np.searchsorted(other_times, times, side="right") - 1, 0, None)]
    apart = np.abs(np.round(first * 8) - np.round(matched * 8))
    assert np.minimum(apart, 24 - apart).max() <= 1
    page.keyboard.press("Space")
    page.wait_for_timeout(500)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(800)
    frame = int(page.inner_text("#frame").split(" / ")[0]) - 1
    stopped = page.evaluate("[...document.querySelectorAll('#stage video')].map((v) => Math.floor(v.currentTime * 8))")
    assert stopped == [frame, frame]


def ids(page: Any) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('#grid .card')].map((c) => c.dataset.pair)")


def differences(results: Results, a: str = "cfg", b: str = "stg-a", metric: str = "temporal_flickering") -> Any:
    wide = results.scores.pivot_table(index=["case", "seed"], columns="variant", values=metric)
    return (wide[b] - wide[a]).rename(lambda i: i)


def test_sorts_by_score_and_by_difference(built: Any, visit: Any) -> None:
    results, path = built
    page = visit(path)
    page.select_option(".bar [data-state=order]", "gain")
    expected = [f"{c}|{s}" for c, s in differences(results).sort_values(ascending=False).index]
    assert ids(page) == expected
    page.select_option(".bar [data-state=order]", "loss")
    assert ids(page) == expected[::-1]
    page.select_option(".bar [data-state=b]", "stg-r")
    page.select_option(".bar [data-state=order]", "high")
    mine = results.scores[results.scores.variant == "stg-r"].sort_values("temporal_flickering", ascending=False)
    assert ids(page) == [f"{c}|{s}" for c, s in zip(mine.case, mine.seed, strict=True)]


def test_filters_by_prompt_dimension_and_score_difference(built: Any, visit: Any) -> None:
    results, path = built
    page = visit(path)
    page.fill(".bar [data-state=q]", "SQUARE")
    until(page, "document.querySelector('#count').textContent === '7 of 24 pairs'")
    assert page.evaluate("[...document.querySelectorAll('.card h3')].every((h) => h.textContent.includes('square'))")
    page.fill(".bar [data-state=q]", "")
    until(page, "document.querySelector('#count').textContent === '24 of 24 pairs'")
    page.select_option(".bar [data-state=tag]", "colour")
    tagged = results.scores[results.scores.tags.str.contains("colour")][["case", "seed"]].drop_duplicates()
    assert page.inner_text("#count") == f"{len(tagged)} of 24 pairs"
    page.select_option(".bar [data-state=tag]", "")
    page.select_option(".bar [data-state=show]", "worse")
    gap = differences(results).round(3)
    assert ids(page) == [f"{c}|{s}" for (c, s), d in gap.items() if d < 0]
    page.select_option(".bar [data-state=show]", "all")
    page.fill(".bar [data-state=least]", "0.03")
    until(page, "location.hash.includes('least')")
    assert ids(page) == [f"{c}|{s}" for (c, s), d in differences(results).items() if abs(d) >= 0.03]
    page.fill(".bar [data-state=q]", "nothing like it")
    page.wait_for_selector("#empty:not([hidden])")
    page.click("#empty button")
    assert page.inner_text("#count") == "24 of 24 pairs"


def pixels(page: Any, selector: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")).astype(int)


def plain(root: Path, results: Results, colours: dict[str, tuple[int, int, int]]) -> None:
    """Replace the clips by flat colours, one a variant."""
    for variant, key in results.scores[["variant", "key"]].itertuples(index=False):
        frames = np.broadcast_to(np.array(colours[variant], np.uint8), (4, 16, 16, 3)).copy()
        write_video(root / "store" / "clips" / f"{key}.mp4", frames, 8.0, "vp9-lossless")


def test_wipe_and_difference_show_the_right_pixels(
    tmp_path: Path, make_results: Callable[..., Results], visit: Any
) -> None:
    results = make_results(tmp_path, pairs=1, clips=True)
    plain(tmp_path, results, {"cfg": (200, 30, 30), "stg-a": (190, 40, 90)})
    page = visit(write_page([results], tmp_path / "store", tmp_path / "i.html"), "pair=case0000|0&mode=wipe&frame=1")
    page.wait_for_selector("#stage .pane.b canvas[data-frame]")
    box = page.locator("#stage .box").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    page.mouse.up()
    assert "wipe=25" in address(page)
    row = pixels(page, "#stage .box")[60]
    at = len(row) // 4
    assert row[at // 2].tolist() == [200, 30, 30]
    assert row[at + 20].tolist() == row[at * 3].tolist() == [190, 40, 90]
    page.keyboard.press("d")
    page.select_option("[data-state=gain]", "2")
    middle = pixels(page, "#stage .box")[60, at * 2]
    assert np.abs(middle - [20, 20, 120]).max() <= 2, "twice the absolute difference"


def test_keyboard_plays_steps_turns_and_closes(built: Any, visit: Any) -> None:
    page = visit(built[1])
    page.keyboard.press("Space")
    assert page.evaluate("document.body.classList.contains('paused')")

    def frame() -> int:
        page.wait_for_timeout(60)
        return int(page.inner_text("#frame").split(" / ")[0])

    before = frame()
    page.keyboard.press("ArrowRight")
    assert frame() == before % 16 + 1
    canvas = page.locator(".card canvas").first
    assert int(canvas.get_attribute("data-frame") or -1) == before % 16
    page.keyboard.press("ArrowLeft")
    assert frame() == before
    page.locator(".card").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#place") == "3 of 24"
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#place") == "4 of 24"
    page.keyboard.press("w")
    assert page.get_attribute("#viewer", "data-mode") == "wipe"
    page.keyboard.press("x")
    assert page.input_value("#viewer [data-state=a]") == "stg-a"
    page.keyboard.press("Escape")
    assert page.is_hidden("#viewer")
    assert page.evaluate("document.activeElement.dataset.pair") == "case0001|1", "focus goes back to the pair"
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("disc t")
    until(page, "document.querySelector('#count').textContent.startsWith('7 of')")
    assert page.inner_text("#frame").startswith(str(before)), "keys typed in a field steer nothing"


def test_link_reopens_the_same_view(built: Any, visit: Any) -> None:
    page = visit(built[1])
    page.select_option(".bar [data-state=metric]", "dynamic_degree")
    page.select_option(".bar [data-state=order]", "low")
    page.select_option(".bar [data-state=tag]", "motion")
    page.locator(".card").nth(1).click(position={"x": 20, "y": 10})
    page.keyboard.press("w")
    page.locator("[data-state=wipe]").fill("33")
    page.keyboard.press("t")
    page.locator("#scrub").fill("5")
    fragment = address(page).partition("#")[2]
    again = visit(built[1], fragment)
    again.wait_for_selector("#stage .pane.b canvas[data-frame='5']")
    page.wait_for_timeout(300)
    assert again.inner_text("#viewer") == page.inner_text("#viewer")
    page.evaluate("document.activeElement.blur()")
    again.evaluate("document.activeElement.blur()")
    assert np.abs(pixels(again, "#viewer") - pixels(page, "#viewer")).max() <= 1
    for one in (page, again):
        one.keyboard.press("Escape")
    assert ids(again) == ids(page)
    assert address(again) == address(page)


def test_scores_on_cards_are_those_of_the_run(built: Any, visit: Any) -> None:
    results, path = built
    page = visit(path)
    page.locator(".card").nth(4).scroll_into_view_if_needed()
    tile = page.locator(".card").nth(4).locator("[data-variant=stg-a]")
    rows = results.scores.set_index(["variant", "case", "seed"])["temporal_flickering"]
    value, base = rows["stg-a", "case0002", 0], rows["cfg", "case0002", 0]
    assert tile.locator(".score b").inner_text() == f"{value:.3f}"
    assert tile.locator(".score i").inner_text() == f"{value - base:+.3f}".replace("-", "−")


def test_special_characters_show_as_they_are(built: Any, visit: Any) -> None:
    results, path = built
    page = visit(path, "pair=case0000|0")
    assert page.inner_text("#viewer-title") == re.sub(r"\s+", " ", results.scores.prompt[0])
    assert page.evaluate("document.querySelectorAll('script').length") == 3


@pytest.mark.parametrize("width", [320, 820])
def test_page_never_scrolls_sideways(built: Any, visit: Any, width: int) -> None:
    page = visit(built[1], viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".card").first.click(position={"x": 20, "y": 10})
    assert page.evaluate("document.querySelector('#viewer').scrollWidth <= innerWidth")


def test_light_and_dark(built: Any, visit: Any) -> None:
    for scheme in ("light", "dark"):
        page = visit(built[1], color_scheme=scheme)
        assert (paper(page) > 200) == (scheme == "light")
        page.keyboard.press("t")
        assert (paper(page) > 200) == (scheme == "dark")


def paper(page: Any) -> float:
    """Brightness of the empty corner."""
    from PIL import Image

    png = page.screenshot(clip={"x": 0, "y": 0, "width": 8, "height": 8})
    return float(np.asarray(Image.open(io.BytesIO(png)).convert("L")).mean())


def test_missing_clips_and_scores_say_so(tmp_path: Path, make_results: Callable[..., Results], visit: Any) -> None:
    absent = Missing(variant="stg-a", case="case0001", seed=0, problem="the model gave <NaN> frames")
    results = make_results(tmp_path, pairs=6, clips=True, run={"missing": (absent,)})
    rows = results.scores
    rows.loc[(rows.variant == "stg-a") & (rows.case == "case0001") & (rows.seed == 0), "file"] = ""
    rows.loc[rows.variant == "stg-a", "temporal_flickering"] = np.nan
    damaged = tmp_path / "store" / rows.file[0]
    damaged.write_bytes(damaged.read_bytes()[:300])
    page = visit(write_page([results], tmp_path / "store", tmp_path / "index.html"))
    until(page, "document.querySelectorAll('.absent').length === 2")
    texts = page.locator(".absent").all_inner_texts()
    assert texts[1] == "Missing: the model gave <NaN> frames"
    assert "damaged" in texts[0] or "cannot" in texts[0]
    assert "Missing: 1 of 12 clips." in page.inner_text(".alerts")
    assert page.locator(".card").nth(1).locator("[data-variant=stg-a] .score").inner_text() == "—"
    page.select_option(".bar [data-state=order]", "gain")
    page.select_option(".bar [data-state=show]", "missing")
    assert page.inner_text("#count") == "6 of 6 pairs"


@pytest.mark.parametrize(
    "run", [{"score_by_tag": True}, {"metric_clips": {"temporal_flickering": 2, "dynamic_degree": 6}}]
)
def test_score_that_a_pair_should_not_have_is_not_missing(
    tmp_path: Path, make_results: Callable[..., Results], visit: Any, run: dict[str, Any]
) -> None:
    results = make_results(tmp_path, pairs=6, clips=True, run=run)
    rows = results.scores
    rows["tags"] = np.where(rows.case == "case0000", "temporal_flickering dynamic_degree", "dynamic_degree")
    rows.loc[rows.case != "case0000", "temporal_flickering"] = np.nan
    path = write_page([results], tmp_path / "store", tmp_path / "index.html")
    assert visit(path, "show=missing").inner_text("#count") == "0 of 6 pairs"
    rows.loc[(rows.variant == "stg-a") & (rows.seed == 1), ["temporal_flickering", "dynamic_degree"]] = np.nan
    path = write_page([results], tmp_path / "store", tmp_path / "index.html")
    assert ids(visit(path, "show=missing")) == ["case0000|1", "case0001|1", "case0002|1"]


def test_clip_that_the_static_filter_left_out_is_not_missing_its_score(
    tmp_path: Path, make_results: Callable[..., Results], visit: Any
) -> None:
    results = make_results(tmp_path, pairs=4, clips=True, run={"keep_static": {"temporal_flickering": 1}})
    results.scores.loc[results.scores.seed == 1, "temporal_flickering"] = np.nan
    page = visit(write_page([results], tmp_path / "store", tmp_path / "index.html"), "show=missing")
    assert page.inner_text("#count") == "0 of 4 pairs"


def test_focus_stays_on_its_card_when_the_grid_is_listed_anew(built: Any, visit: Any) -> None:
    page = visit(built[1])
    page.locator(".card").nth(2).focus()
    page.keyboard.press("x")
    assert page.evaluate("document.activeElement.dataset.pair") == "case0001|0"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.pair") == "case0001|1"
    page = visit(built[1], "show=better")
    page.locator(".card").first.focus()
    page.keyboard.press("x")  # what B did better, A does now: the card is gone, the first of the others has its place
    assert page.evaluate("document.activeElement === document.querySelector('.card')")


def test_one_variant_only(tmp_path: Path, make_results: Callable[..., Results], visit: Any) -> None:
    results = make_results(tmp_path, pairs=4, variants={"cfg": "cfg3"}, clips=True)
    page = visit(write_page([results], tmp_path / "store", tmp_path / "index.html"), "pair=case0001|0")
    assert "One variant only: nothing is compared." in page.text_content(".alerts")
    page.keyboard.press("Escape")
    assert page.inner_text("#count") == "4 of 4 pairs"
    assert page.is_hidden(".bar [data-state=show]")


def test_two_runs_share_a_page(built: Any, tmp_path: Path, make_results: Callable[..., Results], visit: Any) -> None:
    second = make_results(tmp_path, pairs=4, clips=True, name="second")
    page = visit(
        write_page([make_results(tmp_path, pairs=6, clips=True), second], tmp_path / "store", tmp_path / "i.html")
    )
    assert page.inner_text("#count") == "6 of 6 pairs"
    page.select_option("[data-state=run]", "1")
    until(page, "document.querySelector('#count').textContent === '4 of 4 pairs'")
    assert "run=1" in address(page)


def test_two_thousand_pairs_paint_within_two_seconds_and_scroll(
    tmp_path: Path, make_results: Callable[..., Results], visit: Any
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 24, 3), np.uint8)
    store = tmp_path / "store" / "clips"
    store.mkdir(parents=True)
    write_video(tmp_path / "noise.mp4", noise, 8.0, "vp9-lossless")
    results = make_results(tmp_path, pairs=2000, distinct=200)
    for key in results.scores.key.unique():
        os.link(tmp_path / "noise.mp4", store / f"{key}.mp4")
    path = write_page([results], tmp_path / "store", tmp_path / "index.html")
    assert path.stat().st_size > 8_000_000, "as heavy as the pages of real runs"
    for _ in range(3):  # a busy machine may be slow once
        page = visit(path)
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        if paint < 2000:
            break
    assert paint < 2000
    assert page.inner_text("#count") == "2000 of 2000 pairs"
    filled = "document.querySelectorAll('.card canvas').length"
    until(page, f"{filled} > 0")
    assert page.evaluate(filled) < 100, "clips far from the window are not made"
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    until(page, "document.querySelector('.card:last-child canvas[data-frame]')")
    assert page.evaluate("document.querySelector('.card:last-child').getBoundingClientRect().top < innerHeight")
    assert page.evaluate(filled) < 300
    page.select_option(".bar [data-state=order]", "gain")
    assert len(ids(page)) == 2000
