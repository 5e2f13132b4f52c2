"""Metrics of pairs: each clip beside its partner, both decoded once, frame by frame, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stg_eval.metrics import PairScorer
from stg_eval.metrics.decoding import FRAMES_PER_CHUNK, one_line
from stg_eval.progress import progress
from stg_eval.storage.store import Store
from stg_eval.storage.video import Reader, open_video
from stg_eval.types import Score, StgEvalError

CHUNK = 32
"""Pairs of one transaction."""


class Pair(NamedTuple):
    """A clip and what it is compared with, by their keys and files."""

    key: str
    path: Path
    partner_key: str
    partner: Path

    @property
    def name(self) -> str:
        """The key of the pair's scores in the store."""
        return f"pair/{self.key}/{self.partner_key}"


def with_baseline(table: pd.DataFrame, baseline: str, folder: Path) -> list[Pair | None]:
    """For each row of Results.scores its pair with the baseline's clip of the same case and seed; None for the baseline
    itself and where one of the two is not there. `folder` holds the files."""
    rows = list(table[["variant", "case", "seed", "key", "file"]].itertuples(index=False, name=None))
    partners = {(case, seed): (key, file) for variant, case, seed, key, file in rows if variant == baseline}
    pairs: list[Pair | None] = []
    for variant, case, seed, key, file in rows:
        partner_key, partner = partners.get((case, seed), ("", ""))
        there = variant != baseline and file and partner
        pairs.append(Pair(key, folder / file, partner_key, folder / partner) if there else None)
    return pairs


def fill(
    table: pd.DataFrame,
    pairs: Sequence[Pair | None],
    loaded: Mapping[str, PairScorer],
    store: Store,
    reader: Reader = "pyav",
) -> tuple[pd.DataFrame, dict[tuple[int, str], str]]:
    """The table (one row a pair) with a column for each metric; and (row, metric) -> why its pair has no value.

    What the store has is not computed again.
    """
    problems: dict[tuple[str, str], str] = {}
    todo = list(dict.fromkeys(pair for pair in pairs if pair)) if loaded else []
    with progress("Comparing pairs", len(todo)) as advance:
        for start in range(0, len(todo), CHUNK):
            chunk = todo[start : start + CHUNK]
            done = {name: store.scores([p.name for p in chunk], one.signature) for name, one in loaded.items()}
            scores: list[Score] = []
            for pair in chunk:
                lacking = {name: one for name, one in loaded.items() if pair.name not in done[name]}
                for name, value in _values(pair, lacking, reader, problems).items():
                    scores.append(Score(key=pair.name, metric=loaded[name].signature, value=value))
            store.add_results(scores, {})
            advance(len(chunk))
    columns = {}
    for name, scorer in loaded.items():
        found = store.scores([pair.name for pair in todo], scorer.signature)
        columns[name] = [found.get(pair.name, np.nan) if pair else np.nan for pair in pairs]
    rows = [(i, pair.name) for i, pair in enumerate(pairs) if pair]
    named = {(i, m): problems[pair, m] for i, pair in rows for m in loaded if (pair, m) in problems}
    return table.assign(**columns), named


def _values(
    pair: Pair, scorers: Mapping[str, PairScorer], reader: Reader, problems: dict[tuple[str, str], str]
) -> dict[str, float]:
    """Map metric -> mean over the pair's frames. What fails is named, and stops no other."""
    running: dict[str, list[np.ndarray]] = {name: [] for name in scorers}
    try:
        for frames, partner in _together(pair, reader) if running else ():
            for name in list(running):
                try:
                    running[name].append(scorers[name].score(frames, partner))
                except Exception as error:  # whatever a network or a plug-in raises must not stop the other scorers
                    problems[pair.name, name] = one_line(error)
                    del running[name]
    except StgEvalError as error:
        problems.update({(pair.name, name): str(error) for name in running})
        return {}
    return {name: float(np.concatenate(values).mean()) for name, values in running.items() if values}


def _together(pair: Pair, reader: Reader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield frames of both, uint8 [t, H, W, 3] each. Raises StgEvalError where they differ in size or number."""
    (_, ours), (_, theirs) = (open_video(path, FRAMES_PER_CHUNK, reader) for path in (pair.path, pair.partner))
    for frames, partner in zip_longest(ours, theirs):
        if frames is None or partner is None or len(frames) != len(partner):
            raise StgEvalError(f"it and its partner {pair.partner.name} have different numbers of frames")
        if frames.shape != partner.shape:
            sizes = (f"{part.shape[2]}x{part.shape[1]}" for part in (frames, partner))
            raise StgEvalError(f"it is {next(sizes)} and its partner {pair.partner.name} is {next(sizes)}")
        yield frames, partner
