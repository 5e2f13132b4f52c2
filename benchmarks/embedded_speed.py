"""How fast the embedded model makes clips, against an older checkout: python benchmarks/embedded_speed.py CHECKOUT

    git worktree add ../old COMMIT && python benchmarks/embedded_speed.py ../old

Both sides make the same clips on one thread, in processes of their own that take turns; CPU time, the best of
the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
GUIDANCE = {"no guidance": "none", "CFG": "cfg2", "CFG + STG": "cfg2+stg-a[6]s0.25t0.25"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--one-side", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_side:
        return one_side(options.one_side, options.clips)
    seconds: dict[str, dict[str, float]] = {"old": {}, "new": {}}
    clips: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.turns):
            for side, checkout in (("old", options.old), ("new", HERE.parents[1])):
                out = Path(folder) / side
                command = [sys.executable, HERE, checkout, "--clips", str(options.clips), "--one-side", out]
                environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
                subprocess.run(command, check=True, env=environment)
                for stage, taken in json.loads(out.with_suffix(".json").read_text()).items():
                    seconds[side][stage] = min(taken, seconds[side].get(stage, taken))
                clips[side] = np.load(out.with_suffix(".npy")).astype(int)
    print("| stage | old, ms a clip | new, ms a clip | ratio |\n|---|---:|---:|---:|")
    for stage in seconds["old"]:
        old, new = (1000 * seconds[side][stage] / options.clips for side in ("old", "new"))
        print(f"| {stage} | {old:.1f} | {new:.1f} | {old / new:.2f} |")
    moved = np.abs(clips["old"] - clips["new"])
    print(f"\nClips differ by at most {moved.max()} grey levels; {(moved > 0).mean():.3%} of all values differ.")
    return None


def one_side(out: Path, number: int) -> None:
    import torch

    from stg_eval import generators, suites
    from stg_eval.metrics.sprites import PixelExtractor, SpritesExtractor
    from stg_eval.pipeline.plan import make_plan
    from stg_eval.storage.video import write_video

    torch.set_num_threads(1)
    model = generators.get("tiny")
    loaded: Any = model.load(device="cpu", dtype="float32", weights=model.card.weights, settings={})
    plan = make_plan(
        suites.load("demo"), "tiny", guidance=list(GUIDANCE.values()), limit=number, allow_few=True, metric_names=()
    )
    seconds, made = {}, []

    def timed(stage: str, do: Callable[[], Any]) -> Any:
        start = time.process_time()
        found = do()
        seconds[stage] = time.process_time() - start
        return found

    for name, variant in zip(GUIDANCE, plan.variants, strict=True):
        batches = plan.batches(variant.name)
        loaded.generate(batches[0][:1])
        made += timed(name, lambda b=batches: [clip for batch in b for clip in loaded.generate(batch)])
    first = made[:number]
    timed("encoding", lambda: [write_video(out.with_suffix(".mkv"), c, 8.0, model.card.encoding) for c in first])
    timed("features", lambda: [extractor.extract(first) for extractor in (SpritesExtractor("cpu"), PixelExtractor())])
    out.with_suffix(".json").write_text(json.dumps(seconds))
    np.save(out.with_suffix(".npy"), np.stack(made))


if __name__ == "__main__":
    main()
