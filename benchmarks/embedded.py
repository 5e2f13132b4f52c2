"""README's table of guidance on the embedded model: one run for each base seed, and what they say together.

    python benchmarks/embedded.py                 base seeds 2000, 3000 and 4000: 576 clips a row each
    python benchmarks/embedded.py 3000            one of them, e.g. each in a process of its own; then all, as above
    python benchmarks/embedded.py --suite benchmarks/two_models.yaml --model tiny-weak     what the demo shows, measured

The suite, embedded.yaml or another, says how its rows were chosen. Runs are kept in runs/SUITE-MODEL/SEED; the same
command resumes. A value is the mean of the runs'. Differences are paired (same class, same seed) with 95 % intervals:
of each run from the jackknife or bootstrap, of the mean from these, as the runs share no clip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import stg_eval
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.suites import load as load_suite

HERE = Path(__file__).parent
BASE_SEEDS = (2000, 3000, 4000)
PAIRED = ("fvd_sprites", "is_sprites", "pixel_distance_sprites", "accuracy_sprites")
"""Metrics whose difference from the baseline gets a column of its own."""
SEPARATE = "fvd_sprites"
"""The metric that is shown for each base seed too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", default=list(BASE_SEEDS))
    parser.add_argument("--suite", type=Path, default=HERE / "embedded.yaml")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--state", type=Path, default=Path("runs"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite = load_suite(options.suite)
    runs = []
    for seed in options.seeds:
        folder = options.state / f"{suite.name}-{options.model}" / str(seed)
        print(f"base seed {seed}", file=sys.stderr)
        places = {"store": folder / "store", "output": folder / "run"}
        runs += stg_eval.run(suite=replace(suite, seed=seed), model=options.model, device="cpu", **places).results
    print("\n".join(table(runs)))


def table(runs: Sequence[Results]) -> list[str]:
    """Lines of Markdown."""
    columns, baseline = runs[0].columns, runs[0].run.baseline
    header = ["guidance"]
    for column in columns:
        header.append(column.short + {True: " ↑", False: " ↓", None: ""}[column.higher_is_better])
        header += [f"{column.short} of each"] if column.name == SEPARATE else []
        header += [f"{column.short} - {baseline}"] if column.name in PAIRED else []
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    for variant in runs[0].variants:
        cells = [f"`{variant}`"]
        for column in columns:
            found = [estimate for run in runs if (estimate := run.estimate(variant, column.name))]
            assert len(found) == len(runs)
            values = [estimate.value * column.scale for estimate in found]
            cells.append(f"{np.mean(values):.{column.digits}f}")
            cells += [", ".join(f"{v:.{column.digits}f}" for v in values)] if column.name == SEPARATE else []
            cells += [difference(found, column)] if column.name in PAIRED else []
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def difference(found: Sequence[Estimate], column: Column) -> str:
    """Mean of the runs' paired differences, and its 95 % interval from theirs."""
    if found[0].baseline is None:
        return "-"
    mean = np.mean([estimate.difference for estimate in found]) * column.scale
    halves = [(estimate.difference_high - estimate.difference_low) / 2 for estimate in found]
    half = np.sqrt(np.sum(np.square(halves))) / len(found) * column.scale
    return f"{mean:+.{column.digits}f} [{mean - half:+.{column.digits}f}, {mean + half:+.{column.digits}f}]"


if __name__ == "__main__":
    main()
