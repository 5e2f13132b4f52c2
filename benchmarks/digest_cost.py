"""What it costs to check a clip's SHA-256 before it is scored.

    .venv/bin/python benchmarks/digest_cost.py

Each line: seconds of processor to score the same clips with the cheapest metric (temporal flickering, decoding
included) without the check, with it, and the check alone, which is the share that is printed; the best of ten turns,
taken in turn.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np

from stg_eval.executors.loading import load_metrics
from stg_eval.executors.worker import Item, Score, Setup, Worker
from stg_eval.metrics import registry
from stg_eval.storage.store import damage
from stg_eval.storage.video import write_video

SIZES = {
    "16 x 16, 8 frames, VP9 lossless": (64, 8, 16, 16, "vp9-lossless"),
    "480 x 848, 49 frames, H.264": (2, 49, 480, 848, "h264-crf17"),
}


def main() -> None:
    loaded = load_metrics([registry.card("temporal_flickering")], "cpu")
    with tempfile.TemporaryDirectory() as name:
        for title, (count, frames, height, width, encoding) in SIZES.items():
            items = []
            for i in range(count):
                noise = np.random.default_rng(i).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
                still = np.kron(noise, np.ones((8, 8, 1), np.uint8))
                path = Path(name) / f"{height}-{i}.mp4"
                write_video(path, np.stack([np.roll(still, 2 * t, axis=1) for t in range(frames)]), 8.0, encoding)
                items.append(Item(str(i), path, None, hashlib.sha256(path.read_bytes()).hexdigest()))
            worker = Worker(Setup(Path(name), "cpu", "pyav"), loaded)
            bare = [Item(item.key, item.path, item.case) for item in items]
            best = [float("inf")] * 3
            turns = [
                lambda bare=bare, worker=worker: worker.do(Score(tuple(bare), ("temporal_flickering",))),
                lambda items=items, worker=worker: worker.do(Score(tuple(items), ("temporal_flickering",))),
                lambda items=items: [damage(item.path, item.sha256) for item in items],
            ]
            for _ in range(10):
                for i, turn in enumerate(turns):
                    start = time.process_time()
                    turn()
                    best[i] = min(best[i], time.process_time() - start)
            size = sum(item.path.stat().st_size for item in items) / count / 1e3
            times = f"{best[0]:.4f} s, {best[1]:.4f} s, {best[2]:.5f} s"
            print(f"{title}, {size:,.0f} kB each: {times} ({best[2] / best[0]:.2%})", flush=True)


if __name__ == "__main__":
    main()
