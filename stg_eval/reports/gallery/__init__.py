"""The page to look at: tables on top, below them the clips of every (case, seed) side by side, playing in step.

One file that needs no network. Small clips lie in it as sheets: all frames of a clip tiled in one lossless image, which
any browser draws frame by frame, in step by construction. Large clips are put next to the page, in `clips/`.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from stg_eval.reports.gallery.seen import seen
from stg_eval.reports.pages import PLAYED, finite, link, part, render, safe, script_data
from stg_eval.reports.paper import paper_tables
from stg_eval.reports.tables import run_tables
from stg_eval.reports.titles import missing, run_title
from stg_eval.reports.writers.html_table import prose_html, to_html
from stg_eval.storage import atomic, csv_text
from stg_eval.storage.inside import finding
from stg_eval.storage.results import Results
from stg_eval.storage.video import VideoInfo, open_video
from stg_eval.types import StgEvalError

SHEET_PIXELS = 1 << 17
"""A clip of at most this many pixels in all its frames becomes a sheet (32 frames of 64 x 64); one that browsers do not
play (PLAYED) even with 16 times as many."""
SCRIPTS = ("clips.js", "grid.js", "page.js")


def write_page(results: Sequence[Results], store_root: Path, out: Path) -> Path:
    """Write the page of one or more runs to `out` (an .html file), as `page_of` has it; returns `out`."""
    atomic.write(out, page_of(results, store_root, out.parent))
    return out


def page_of(results: Sequence[Results], store_root: Path, folder: Path) -> str:
    """Return Compose the page of one or more runs, to be put into `folder`; its large clips are put there now, in
    clips/.

    `store_root` is where the files named in `Results.scores` lie, for runs whose own store is gone. Clips that cannot
    be read say so in their place.
    Same input, same bytes.
    """
    shelf = _Shelf(folder / "clips")
    runs = [_run(one, shelf, store_of(one, store_root)) for one in results]
    opening = seen(results)
    return render(
        part("gallery", "page.html"),
        seen=opening and {"sentence": opening[0], "picture": safe(to_html(opening[1], whiskers=True))},
        title=" · ".join(run_title(one) for one in results),
        runs=[_numbers(one) for one in results],
        paper=[safe(to_html(table)) for table in paper_tables(results)],
        style=safe(part("gallery", "style.css")),
        script=safe("\n".join(part("gallery", name) for name in SCRIPTS)),
        data=safe(script_data({"runs": runs, "clips": shelf.clips})),
        sheets=safe("".join(shelf.sheets)),
    )


def store_of(results: Results, store_root: Path) -> Path:
    """Say where a run's clips lie: the store it was made in if that is still there, else `store_root`."""
    return results.store if results.store.is_dir() else store_root


class _Shelf:
    """The clips of a page: each once, however many pairs show it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clips: list[dict[str, Any]] = []
        self.sheets: list[str] = []
        self._length = 0
        self._seen: dict[Path, int | str] = {}
        self._names: set[str] = set()

    def put(self, clips: Mapping[Path, Callable[[], Path]]) -> dict[Path, int | str]:
        """Map each of the clips, by what finds it, to its index on the shelf, or to why it cannot be shown."""
        new = {path: find for path, find in clips.items() if path not in self._seen}
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # a page shows thousands; decoding leaves Python alone
            for path, looked in zip(new, pool.map(_look, new.values()), strict=True):
                self._seen[path] = (
                    self._add(looked) if isinstance(looked, _Looked) else str(looked).removeprefix(f"{path}: ")
                )
        return {path: self._seen[path] for path in clips}

    def _add(self, looked: _Looked) -> int:
        clip: dict[str, Any]
        info = looked.info
        if looked.sheet is None:
            clip = {"n": info.num_frames, "file": f"clips/{quote(self._beside(info.path))}"}
        else:
            num_frames, data, columns = looked.sheet
            clip = {"n": num_frames, "cols": columns, "at": self._length, "length": len(data)}
            self.sheets.append(data)
            self._length += len(data)
        self.clips.append(clip | {"w": info.width, "h": info.height, "fps": info.fps or 8.0})
        return len(self.clips) - 1

    def _beside(self, path: Path) -> str:
        """Put a large clip next to the page, under a name of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name, count = path.name, 0
        while name in self._names or not link(path, self.folder / name):
            count += 1
            name = f"{count}-{_shorter(path.name)}"
        self._names.add(name)
        return name


class _Looked(NamedTuple):
    """A clip that was opened, once."""

    info: VideoInfo
    sheet: tuple[int, str, int] | None
    """Number of frames, and what `sheet` makes of them; None for a clip that goes next to the page."""


def _look(find: Callable[[], Path]) -> _Looked | StgEvalError:
    """Open the clip that `find` finds; return what is wrong in its place."""
    try:
        path = find()
        info, chunks = open_video(path)
        codec, suffix = info.codec.split()[0], path.suffix.lower()
        played = codec in PLAYED[0] and suffix in PLAYED[1]
        if info.height * info.width * info.num_frames <= SHEET_PIXELS * (1 if played else 16):
            frames = np.concatenate(list(chunks))
            return _Looked(info, (len(frames), *sheet(frames)))
        if not played:
            return StgEvalError(f"no browser plays {codec} in a {suffix} file; look at it in a player")
        return _Looked(info, None)
    except StgEvalError as error:
        return error


def _shorter(name: str) -> str:
    """Return the end of a file name that leaves ten bytes of the 255 which a disk takes for a number in front."""
    return name.encode()[-245:].decode(errors="ignore")


def sheet(frames: np.ndarray) -> tuple[str, int]:
    """Tile frames uint8 [T, H, W, 3] row by row into one lossless WebP: its base64, and the number of columns."""
    from PIL import Image

    num_frames, height, width = frames.shape[:3]
    columns = math.ceil(math.sqrt(num_frames))
    rows = math.ceil(num_frames / columns)
    padded = np.zeros((rows * columns, height, width, 3), np.uint8)
    padded[:num_frames] = frames
    tiled = padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    buffer = io.BytesIO()
    Image.fromarray(tiled).save(buffer, "WEBP", lossless=True, quality=0, method=2, exact=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii"), columns


def _run(results: Results, shelf: _Shelf, store: Path) -> dict[str, Any]:
    """Say what the script needs of one run. Scores are scaled as printed; null where there is none."""
    columns = [c for c in results.columns if c.kind == "clip" and c.name in results.scores]
    order = {name: i for i, name in enumerate(results.variants)}
    problems = {(m.variant, m.case, m.seed): m.problem for m in results.run.missing}
    filtered = results.run.keep_static  # no score by design where the static filter left a clip out
    wanted = {i: results.wanted(c.name).to_numpy() for i, c in enumerate(columns) if c.name not in filtered}
    pairs: dict[tuple[str, int], dict[str, Any]] = {}
    find = finding(store, set(results.scores["key"]))
    text = results.scores.astype({"case": str}).fillna({"prompt": "", "tags": "", "file": ""})
    named: dict[Path, Callable[[], Path]] = {}
    for file, key in zip(text["file"], text["key"], strict=True):
        if file:
            named.setdefault(store / str(file), partial(find, str(file), str(key)))
    shown = shelf.put(named)
    for at, row in enumerate(text.to_dict("records")):
        case, seed = str(row["case"]), int(row["seed"])
        pair = pairs.setdefault(
            (case, seed),
            {
                "id": f"{case}|{seed}",
                "case": case,
                "seed": seed,
                "prompt": str(row["prompt"]),
                "tags": _tags(row),
                "wanted": [i for i, rows in wanted.items() if rows[at]],
                "cells": [{"problem": _absent(problems.get((name, case, seed)))} for name in order],
            },
        )
        cell: dict[str, Any] = {"scores": [finite(row[c.name] * c.scale) for c in columns]}
        clip = shown[store / str(row["file"])] if row["file"] else _absent(problems.get((row["variant"], case, seed)))
        cell["clip" if isinstance(clip, int) else "problem"] = clip
        pair["cells"][order[row["variant"]]] = cell
    for pair in pairs.values():
        for cell in pair["cells"]:
            cell.setdefault("scores", [None] * len(columns))
    first = next((shelf.clips[c["clip"]] for p in pairs.values() for c in p["cells"] if "clip" in c), None)
    return {
        "variants": [{"name": n} for n in results.variants],
        "baseline": order.get(results.run.baseline or "", 0),
        "metrics": [
            {"name": c.name, "title": c.title, "short": c.short, "higher": c.higher_is_better, "digits": c.digits}
            for c in columns
        ],
        "timing": {key: first[key] for key in ("n", "fps", "w", "h")} if first else {"n": 1, "fps": 8, "w": 1, "h": 1},
        "pairs": list(pairs.values()),
    }


def _numbers(results: Results) -> dict[str, Any]:
    """Say what stands above the clips."""
    run = results.run
    pairs = len(results.scores[["case", "seed"]].drop_duplicates())
    facts = [
        f"{len(results.variants)} variant{'s' * (len(results.variants) != 1)}, {pairs} pairs (case, seed)",
        f"suite {run.suite}, model {run.model}",
        f"weights {run.weights}" if run.weights else "",
    ]
    alerts = missing(results)
    if run.weights.startswith("random"):
        alerts.insert(0, "Random weights: this shows that everything runs, and says nothing about any model.")
    scores, *others = run_tables(results)
    shown = [replace(scores, title="Scores, with 95 % intervals"), *others]
    return {
        "name": results.path.name,
        "title": run_title(results),
        "facts": [fact for fact in facts if fact],
        "alerts": alerts,
        "tables": [safe(to_html(replace(t, remarks=()), whiskers=t.name == "differences")) for t in shown],
        "remarks": [_code(r) for t in shown for r in t.remarks if r not in alerts],
    }


def _tags(row: dict[Hashable, Any]) -> list[str]:
    label: Any = row.get("label")
    named = [] if pd.isna(label) else [f"class {int(label)}"]
    return [*csv_text.words(str(row["tags"])), *named]


def _absent(problem: str | None) -> str:
    return f"Missing: {problem}" if problem else "Missing: not made"


def _code(text: str) -> Any:
    return safe(prose_html(text))
