"""What a Fréchet distance costs: ours against the one of cd-fvd and most others, scipy.linalg.sqrtm, on equal features.

    python benchmarks/metrics_speed_sets.py          d = 1408 (VideoMAE-v2 ViT-g), 2,048 clips a set, three repetitions
    python benchmarks/metrics_speed_sets.py --json   one object

Both start from features and end with the distance, in float64. Set OMP_NUM_THREADS to choose the number of cores.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import scipy.linalg

from stg_eval.metrics.fvd import frechet_distance


def with_scipy(features: np.ndarray, reference: np.ndarray) -> float:
    """As cd-fvd: raw moments over n, square root of the product of the covariances."""
    gaussians = []
    for x in (features.astype(np.float64), reference.astype(np.float64)):
        mean = x.sum(axis=0) / len(x)
        gaussians.append((mean, x.T @ x / len(x) - np.outer(mean, mean)))
    (m1, s1), (m2, s2) = gaussians
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(np.real(np.square(m1 - m2).sum() + np.trace(s1 + s2 - 2 * root)))


def feature_sets(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of float32 features with a decaying spectrum, as networks give them; layer-normalised."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(d, d)) * np.exp(-np.arange(d) / (d / 7))

    def draw(scale: float, shift: float) -> np.ndarray:
        x = rng.normal(size=(n, d)) @ mix.T * scale + shift * rng.normal(size=d)
        x -= x.mean(axis=1, keepdims=True)
        return (x / x.std(axis=1, keepdims=True)).astype(np.float32)

    return draw(1.0, 0.0), draw(1.1, 0.3)


def measure(candidates: dict[str, Callable[[], float]], repetitions: int) -> dict[str, dict[str, float]]:
    """Value, fastest wall-clock and CPU seconds, and peak of NumPy's memory in MB of each. They take turns, so that
    whatever else the machine does slows all of them."""
    out = {name: {"value": 0.0, "seconds": np.inf, "cpu_seconds": np.inf, "peak_mb": 0.0} for name in candidates}
    for _ in range(repetitions):
        for name, compute in candidates.items():
            row, wall, cpu = out[name], time.perf_counter(), time.process_time()
            row["value"] = compute()
            row["seconds"] = min(row["seconds"], time.perf_counter() - wall)
            row["cpu_seconds"] = min(row["cpu_seconds"], time.process_time() - cpu)
    for name, compute in candidates.items():
        tracemalloc.start()
        compute()
        out[name]["peak_mb"] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=1408)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    features, reference = feature_sets(arguments.clips, arguments.dim)
    rows = measure(
        {
            "ours": lambda: frechet_distance(features, reference),
            "scipy": lambda: with_scipy(features, reference),
        },
        arguments.repetitions,
    )
    ours, theirs = rows["ours"], rows["scipy"]
    result = {
        "dim": arguments.dim,
        "clips": arguments.clips,
        **rows,
        "ratio": theirs["seconds"] / ours["seconds"],
        "cpu_ratio": theirs["cpu_seconds"] / ours["cpu_seconds"],
        "relative_difference": abs(ours["value"] / theirs["value"] - 1),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, row in rows.items():
        times = f"{row['seconds']:6.2f} s {row['cpu_seconds']:6.2f} s CPU"
        print(f"{name:6} {times} {row['peak_mb']:5.0f} MB {row['value']:.9f}")
    print(f"ratio {result['ratio']:.1f} ({result['cpu_ratio']:.1f} of CPU seconds)")
    print(f"values differ by {result['relative_difference']:.1e} of the distance")


if __name__ == "__main__":
    main()
