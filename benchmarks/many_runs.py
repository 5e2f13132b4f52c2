"""How fast the page over many runs opens and filters, on runs that are made up: python benchmarks/many_runs.py FOLDER
[RUNS] [PAIRS] (needs Chromium).

Writes RUNS runs (200) of two variants to FOLDER/runs, nightly builds of five models, one of which has a planted loss:
in all PAIRS pairs (5,000), and as many again in each of the last two. Then their page, as `stg-eval report FOLDER/runs`
does, and measures it. Every number in them is drawn at random: their weights, signatures and notes say so.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import stg_eval
from stg_eval import statistics
from stg_eval.storage import results
from stg_eval.storage.record import AskedFor, FeaturesOf, Provenance, RunRecord, Variant
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.storage.video import write_video

NOTE = "Made up: no model made these clips and no metric these scores; they show what the page does."
MODELS = ("sketch-a", "sketch-b", "sketch-c", "sketch-d", "sketch-e", "sketch-large")
VARIANTS = {"cfg": "cfg3", "stg": "cfg3+stg-a[11]w1"}
NAN = float("nan")
COMMON: dict[str, Any] = {"scale": 1.0, "note": NOTE}
COLUMNS = (
    Column(name="imaging_quality", title="Imaging Quality", short="IQ", higher_is_better=True, digits=3, kind="clip",
           signature="imaging_quality|made-up|v1", **COMMON),
    Column(name="temporal_flickering", title="Temporal Flickering", short="TF", higher_is_better=True, digits=3,
           kind="clip", signature="temporal_flickering|made-up|v1", **COMMON),
    Column(name="dynamic_degree", title="Dynamic Degree", short="DD", higher_is_better=True, digits=2, kind="clip",
           signature="dynamic_degree|made-up|v1", **COMMON),
    Column(name="fvd", title="Fréchet Video Distance", short="FVD", higher_is_better=False, digits=1, kind="set",
           signature="FVD|made-up|n*|v1", **COMMON),
)  # fmt: skip


def make_clips(store: Path, count: int = 48) -> list[str]:
    """Write small moving clips, which all runs share; returns their files."""
    names = []
    for i in range(count):
        rng = np.random.default_rng(i)
        frames = np.full((16, 64, 96, 3), rng.integers(20, 70, 3), np.uint8)
        colour, (dx, dy) = rng.integers(120, 255, 3), rng.integers(-3, 4, 2)
        for k in range(16):
            x, y = (40 + dx * k + 7 * i) % 80, (20 + dy * k + 5 * i) % 48
            frames[k, y : y + 16, x : x + 16] = colour
        names.append(f"clips/{i:02}.mp4")
        write_video(store / names[-1], frames, fps=8.0, encoding="h264-crf17")
    return names


def make_run(folder: Path, number: int, of: int, pairs: int, files: list[str], store: Path) -> Results:
    """Write run `number` of `of`: of one model, in the order of its builds; the last two are of the large one."""
    builds = max(1, of // (len(MODELS) - 1))
    model, build = divmod(number, builds) if number < of - 2 else (len(MODELS) - 1, number - of + 2)
    rng, cases = np.random.default_rng((7, number)), np.random.default_rng(3)
    base = cases.normal(0, 0.06, pairs)
    lost = 0.02 * (model == 1 and build >= builds // 2)  # the planted change
    rows, estimates = [], []
    for v, name in enumerate(VARIANTS):
        quality = 0.62 + 0.012 * model + 0.02 * v - lost + base + rng.normal(0, 0.008, pairs)
        flicker = 0.96 - 0.004 * model + 0.003 * v + base / 9 + rng.normal(0, 0.002, pairs)
        degree = (cases.random(pairs) < 0.55 + 0.03 * model - 0.1 * v).astype(float)
        for i in range(pairs):
            rows.append({
                "variant": name, "case": f"case{i:04}", "prompt": f"made-up prompt {i}", "label": NAN, "tags": "",
                "seed": 0, "key": f"{v}{i % len(files):02}".ljust(64, "0"),
                "file": files[(i + 5 * v + model) % len(files)], "imaging_quality": quality[i],
                "temporal_flickering": flicker[i], "dynamic_degree": degree[i], "fvd": True,
            })  # fmt: skip
        values = dict(zip([c.name for c in COLUMNS], (quality, flicker, degree), strict=False))
        for column in COLUMNS:
            if column.name in values:
                value = statistics.mean_interval(values[column.name], range(pairs))
            else:
                middle = 150 - 9 * model - 14 * v + rng.normal(0, 1.5)
                value = statistics.Interval(middle, middle - 9, middle + 9, pairs)
            estimates.append(Estimate(
                variant=name, metric=column.name, value=value.value, low=value.low, high=value.high, n=pairs,
                baseline=None, difference=NAN, difference_low=NAN, difference_high=NAN, p_value=NAN,
            ))  # fmt: skip
    asked = AskedFor(model=MODELS[model], weights="made-up", height=64, width=96, num_frames=16, fps=8.0,
                     num_inference_steps=30, dtype="float32", encoding="h264-crf17")  # fmt: skip
    made = Provenance(stg_eval=stg_eval.__version__, git_commit=f"{0xA00000 + build:x}", device="none",
                      packages={"diffusers": "0.42.0" if build < builds // 2 else "0.42.1"})  # fmt: skip
    record = RunRecord(
        suite="made-up", title="Made-up suite", model=MODELS[model], weights="made-up", request=asked, notes=(NOTE,),
        variants=tuple(Variant(name=n, signature=s) for n, s in VARIANTS.items()), baseline="cfg", cluster="case",
        seeds=(0,), expected=len(rows), store=str(store), provenance=made,
        features={"fvd": FeaturesOf(extractor="made-up")},
    )  # fmt: skip
    path = folder / f"{MODELS[model]}-build-{build:03}"
    return results.save(Results(path, record, COLUMNS, tuple(estimates), pd.DataFrame(rows)))


def make(folder: Path, runs: int, pairs: int) -> Path:
    """Write the runs; each but the last two has its share of the pairs."""
    store = (folder / "store").resolve()
    files = make_clips(store)
    for number in range(runs):
        count = pairs if number >= runs - 2 else max(4, pairs // runs)
        make_run(folder / "runs", number, runs, count, files, store)
    return folder / "runs"


PAINT = """async () => {
  const found = () => performance.getEntriesByName('first-contentful-paint')[0];
  while (!found()) await new Promise(requestAnimationFrame);
  return found().startTime;
}"""
FILTERS = {
    "model": "sketch-c", "family": "stg-a", "q": "build-01", "metric": "fvd", "all": "1", "board": "0",
}  # fmt: skip


def measure(page: Path, shots: Path) -> None:
    """Print what a reader waits for, and fail on a console line or a request that leaves the folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        troubles: list[str] = []

        def visit(**options: Any) -> Any:
            for context in chromium.contexts:
                context.close()  # a tab behind another is not drawn
            tab = chromium.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
            tab.on("console", lambda m: troubles.append(f"console: {m.text}"))
            tab.on("pageerror", lambda e: troubles.append(f"error: {e}"))
            inside = page.parent.resolve().as_uri()
            tab.on("request", lambda r: None if r.url.startswith(("data:", inside)) else troubles.append(r.url))
            tab.goto(page.resolve().as_uri())
            return tab

        paints = []
        for _ in range(5):
            tab = visit()
            paints.append(tab.evaluate(PAINT))
        print(f"{page}: {page.stat().st_size / 1e6:.2f} MB, {tab.inner_text('#count')}")
        print(f"first paint: median {sorted(paints)[2]:.0f} ms, slowest of five {max(paints):.0f} ms")
        tab.screenshot(path=shots / "many.png", full_page=True)
        for everything in ("", "1"):
            tab.evaluate(f"set('all', '{everything}')")
            for key, value in FILTERS.items():
                took = tab.evaluate(
                    """async ([key, value]) => {
                      const began = performance.now(), before = state[key];
                      set(key, value);
                      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                      const took = performance.now() - began;
                      if (key !== 'all') set(key, key === 'board' ? '0' : before);
                      return took;
                    }""",
                    [key, value],
                )
                rows = "all rows" if everything else "latest rows"
                print(f"filter {key}={value}, {rows}: {took:.0f} ms to the next frame")
        took = tab.evaluate(
            """async () => {
              const began = performance.now(), of = board.rows.length;
              set('a', String(of - 4)); set('b', String(of - 2));
              while (!document.querySelector('#grid .card')) await new Promise(requestAnimationFrame);
              return [performance.now() - began, document.querySelectorAll('#grid .card').length];
            }"""
        )
        print(f"two rows compared: {took[1]} pairs after {took[0]:.0f} ms")
        tab.evaluate("document.querySelector('#pairs').scrollIntoView()")
        tab.wait_for_timeout(1500)
        videos = tab.evaluate("document.querySelectorAll('#grid video').length")
        print(f"clips made for them: {videos}; playing: {tab.evaluate('clock.views.size')}")
        tab.screenshot(path=shots / "many-pairs.png")
        for width in (360, 390):
            tab = visit(viewport={"width": width, "height": 780}, device_scale_factor=2)
            wide = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
            print(f"{width} px: {'never scrolls sideways' if wide <= 0 else f'{wide} px too wide'}")
            tab.screenshot(path=shots / f"many-{width}.png", full_page=True)
        chromium.close()
    print("\n".join(troubles) or "no console line, no request out of the folder")
    if troubles:
        sys.exit(1)


def main(folder: Path, runs: int = 200, pairs: int = 5000) -> None:
    began = time.perf_counter()
    made = make(folder, runs, pairs) if not (folder / "runs").exists() else folder / "runs"
    print(f"{runs} made-up runs: {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    page = stg_eval.report(runs=made)
    print(f"stg-eval report: {time.perf_counter() - began:.1f} s")
    measure(page, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
