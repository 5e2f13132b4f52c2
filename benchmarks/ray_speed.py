"""How much faster two Ray workers are than one, on a machine with two processors and no GPU.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/ray_speed.py

Clips of the embedded model a second, one thread a worker, from the first recorded batch to the last, so that starting
Ray and loading torch do not count.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from stg_eval import suites
from stg_eval.pipeline.plan import make_plan
from stg_eval.pipeline.run import run_shard
from stg_eval.storage.store import Store


def main() -> None:
    torch.set_num_threads(1)
    plan = make_plan(
        suites.load("demo"),
        "tiny",
        metric_names=["accuracy_sprites"],
        limit=64,
        settings={"batch_size": 4, "num_inference_steps": 10},
    )
    original = Store.add_clips
    for turn in range(2):
        speed = {}
        for workers in (1, 2):
            times: list[float] = []

            def add_clips(self, clips, times=times) -> None:
                original(self, clips)
                times.append(time.monotonic())

            Store.add_clips = add_clips  # type: ignore[method-assign]
            with tempfile.TemporaryDirectory() as name:
                run_shard(plan, 1, 1, store_path=Path(name), device="cpu", executor="ray", workers=workers)
            # The second worker may arrive a little later than the first.
            times = times[2 * workers :]
            speed[workers] = 4 * (len(times) - 1) / (times[-1] - times[0])
        print(
            f"turn {turn}: 1 worker {speed[1]:.2f} clips/s, 2 workers {speed[2]:.2f}: {speed[2] / speed[1]:.2f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
