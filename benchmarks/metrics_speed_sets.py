"""What a Fréchet distance costs: ours against the one of cd-fvd and most others, scipy.linalg.sqrtm, on equal features.

    python benchmarks/metrics_speed_sets.py          d = 1408 (VideoMAE-v2 ViT-g), 2,048 clips a set, two repetitions
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


def measure(compute: Callable[[], float], repetitions: int) -> dict[str, float]:
    """The value, the fastest of some repetitions in seconds, and the peak of NumPy's memory in MB."""
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        value = compute()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    compute()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"value": value, "seconds": min(seconds), "peak_mb": peak / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=1408)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    features, reference = feature_sets(arguments.clips, arguments.dim)
    ours = measure(lambda: frechet_distance(features, reference), arguments.repetitions)
    theirs = measure(lambda: with_scipy(features, reference), arguments.repetitions)
    result = {
        "dim": arguments.dim,
        "clips": arguments.clips,
        "ours": ours,
        "scipy": theirs,
        "ratio": theirs["seconds"] / ours["seconds"],
        "relative_difference": abs(ours["value"] / theirs["value"] - 1),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, row in (("ours", ours), ("scipy sqrtm", theirs)):
        print(f"{name:12} {row['seconds']:7.2f} s {row['peak_mb']:7.0f} MB   {row['value']:.9f}")
    print(f"ratio {result['ratio']:.1f}, values differ by {result['relative_difference']:.1e} of the distance")


if __name__ == "__main__":
    main()
