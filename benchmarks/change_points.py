"""How soon a change shows in the history of a score, and how often one shows that is none: python
benchmarks/change_points.py [TRIALS].

The step is the smallest difference that the gate resolves with these cases (`stg_eval.statistics.n_to_tell` says they
are just enough); scores of a run are those of its cases, which differ much from each other, and noise of the run. False
alarms are those in 50 runs without a change, with that margin, and with none (any difference matters).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.stats

from stg_eval.statistics import n_to_tell
from stg_eval.statistics.changes import changes, paired

CASES = 48
Draw = Callable[[np.random.Generator, int], np.ndarray]


def shares(rng: np.random.Generator, runs: int) -> np.ndarray:
    """One 0/1 score a case and run."""
    return (rng.random((CASES, runs)) < rng.beta(2, 2, (CASES, 1))).astype(float)


NOISE: dict[str, Draw] = {
    "normal": lambda rng, runs: rng.normal(0, 3, (CASES, 1)) + rng.normal(0, 1, (CASES, runs)),
    "skewed (exponential^1.5)": lambda rng, runs: (
        rng.normal(0, 3, (CASES, 1)) + rng.exponential(1, (CASES, runs)) ** 1.5
    ),
    "0/1 scores": shares,
}


def resolved(draw: Draw) -> float:
    """The smallest difference that the gate resolves between two runs of this noise."""
    rng = np.random.default_rng(9)
    spread = np.mean([np.diff(draw(rng, 2), axis=1).std(ddof=1) for _ in range(400)])
    half = scipy.stats.t.ppf(0.975, CASES - 1) * spread / CASES**0.5
    return float(next(m for m in np.linspace(half, 3 * half, 2000) if n_to_tell(CASES, half, m) <= CASES))


def _always(margin: float, before: float) -> float:
    return margin


def main(trials: int = 1000) -> None:
    print(f"{CASES} cases a run, {trials} trials a cell")
    befores = (1, 2, 3, 5, 10, 20)
    heads = "".join(f"  after {n:>2}" for n in befores)
    print(f"{'noise':26} histories  false alarms  were all to matter  step {heads} runs: found within three")
    for name, draw in NOISE.items():
        step = resolved(draw)
        matters = partial(_always, step)
        for histories in (1, 8):
            rng = np.random.default_rng(0)
            alarms = [0, 0]
            for _ in range(trials):
                equal = draw(rng, 50)
                for i, limit in enumerate((0.0, step)):
                    alarms[i] += any(changes(paired(equal), 50, partial(_always, limit), histories=histories))
            found = []
            for before in befores:
                hits = 0
                for _ in range(trials):
                    scores = draw(rng, before + 3)
                    scores[:, before:] -= step
                    made = changes(paired(scores), before + 3, matters, histories=histories)
                    hits += any(one.found >= before and abs(one.at - before) <= 2 for one in made)
                found.append(hits / trials)
            row = "".join(f"  {share:8.1%}" for share in found)
            print(
                f"{name:26} {histories:9}  {alarms[1] / trials:12.1%}  {alarms[0] / trials:14.1%}  {step:.3f}{row}",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
