"""From a finished run to a study: which clips, which trials, which anchors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stg_eval.rating.aspects import Mode
from stg_eval.rating.design import trials, with_anchors
from stg_eval.rating.media import ANCHORS, EXAMPLES, path_of
from stg_eval.rating.study import RatedClip, Study, create
from stg_eval.storage.results import Results
from stg_eval.storage.video import probe, read_video, write_video
from stg_eval.types import StgEvalError


def study_file(run: Path) -> Path:
    """Say where the study of a run lies."""
    return run / "rating" / "study.sqlite"


def begin(
    results: Results,
    store: Path,
    *,
    mode: Mode = "single",
    raters: int = 7,
    cases_each: int | None = None,
    anchors: bool = False,
    seed: int = 0,
) -> Study:
    """Make the study of a run and open it.

    Cases are the run's (case, seed) pairs whose clips are all there. raters: how many are invited, seven as in the
    paper; cases_each: how many cases one of them sees, by default all; anchors: hide a frozen and a blurred clip among
    each rater's. Raises StgEvalError where the run has no whole case, a clip cannot be read, or a study was begun.
    """
    path = study_file(results.path)
    if path.is_file():
        raise StgEvalError(f"{path} exists: that study goes on; move it away to begin another")
    cases = whole_cases(results)
    if not cases:
        raise StgEvalError(f"{results.path} has no case with a clip under every guidance, so nothing can be rated")
    each, width = cases_each or len(cases), len(results.variants)
    orders = [
        [(_id(one.left, width), None if one.right is None else _id(one.right, width)) for one in order]
        for order in trials(len(cases), width, raters, mode=mode, cases_each=each, seed=seed)
    ]
    clips = [_clip(store, row) for case in cases for row in case]
    chosen = np.random.default_rng([seed, 3]).permutation(len(cases))
    hidden, example = int(chosen[0]) * width, int(chosen[-1]) * width
    screens: list[tuple[int, int | None]] = []
    for i, (name, alter) in enumerate(ANCHORS.items() if anchors else ()):
        clips.append(
            _altered(clips[hidden], store, path.with_name(f"{name}.mp4"), alter, results)._replace(anchor=name)
        )
        shown = len(clips) - 1
        screens.append((shown, None) if mode == "single" else (hidden, shown) if i % 2 else (shown, hidden))
    for name, (_, alter) in EXAMPLES.items():
        _altered(clips[example], store, path.parent / "examples" / f"{name}.mp4", alter, results)
    settings = {
        "mode": mode,
        "seed": seed,
        "cases_each": each,
        "anchors": anchors,
        "variants": results.variants,
        "baseline": results.run.baseline or results.variants[0],
    }
    create(path, settings, clips, [with_anchors(order, screens, seed, r) for r, order in enumerate(orders)])
    return Study(path)


def whole_cases(results: Results) -> list[list[dict[Any, Any]]]:
    """Return rows of scores.csv by (case, seed), each with one row a variant in the run's order."""
    rows = results.scores[results.scores["file"] != ""].to_dict("records")
    found: dict[tuple[str, int], dict[str, dict[Any, Any]]] = {}
    for row in rows:
        found.setdefault((row["case"], row["seed"]), {})[row["variant"]] = row
    return [[by[v] for v in results.variants] for by in found.values() if len(by) == len(results.variants)]


def _clip(store: Path, row: dict[Any, Any]) -> RatedClip:
    clip = RatedClip(str(row["case"]), int(row["seed"]), str(row["prompt"]), str(row["variant"]), "", str(row["file"]))
    info = probe(path_of(clip, store, store))
    return clip._replace(seconds=info.num_frames / (info.fps or 8.0), height=info.height, width=info.width)


def _altered(
    clip: RatedClip, store: Path, path: Path, alter: Callable[[np.ndarray], np.ndarray], results: Results
) -> RatedClip:
    """Write what `alter` makes of a clip, encoded as the run's clips are."""
    source = path_of(clip, store, store)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = results.run.request.encoding if results.run.request else "h264-crf17"
    write_video(path, alter(read_video(source)), probe(source).fps or 8.0, encoding)
    return clip._replace(file=path.name)


def _id(clip: tuple[int, int], width: int) -> int:
    return clip[0] * width + clip[1]
