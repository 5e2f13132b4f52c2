"""Each of VBench's dimensions, ours against vbench 0.1.5's own functions, on clips of many kinds: a table.

    python benchmarks/vbench_parity.py --videos FOLDER           real clips, and made ones of 2 to 49 frames
    python benchmarks/vbench_parity.py --only "subject or style" (as pytest -k) a part of it

Runs the tests that compare with the official functions (tests/metrics/vbench, random weights in the published formats)
on these clips too. Real clips of any format are cut to their first frames and stored anew as H.264, since the official
readers take .mp4 alone; a short .mp4 of 8 bits stays as it is.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import defaultdict
from itertools import chain, islice
from pathlib import Path

import numpy as np

from stg_eval.storage.video import open_video, write_video
from stg_eval.types import StgEvalError

TESTS = Path(__file__).parents[1] / "tests" / "metrics" / "vbench"
MADE = ((2, 120, 160), (16, 122, 210), (9, 240, 246), (49, 128, 136))
"""Frames, height and width; 240 x 246 becomes nearly a square, the others divide by nothing."""
LENGTHS = (2, 16, 49, 5)
"""Frames that real clips are cut to, in turns."""
LARGEST = 700 * 400
"""Pixels above which a real clip is cut to two frames: the official functions take minutes."""


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of real clips")
    parser.add_argument("--only", default="official", help="which tests, as pytest -k takes it")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in MADE:
            write_video(folder / "made {}x{}x{}.mp4".format(*size), plane(*size), 8, "h264-crf17")
        files = sorted(path for path in settings.videos.iterdir() if path.is_file()) if settings.videos else []
        for path, length in zip(files, LENGTHS * len(files), strict=False):
            try:
                cut(path, length, folder)
            except StgEvalError as error:
                print(f"left out: {error}", file=sys.stderr)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0", "-k", settings.only]
        done = subprocess.run([*command, str(TESTS)], env={**os.environ, "STG_EVAL_PARITY": name}, check=False)
        show(folder / "scores.csv")
    sys.exit(done.returncode)


def plane(num_frames: int, height: int, width: int) -> np.ndarray:
    """A textured plane that slides, uint8 [T, H, W, 3]."""
    rng, travel = np.random.default_rng(num_frames), 2 * num_frames
    coarse = rng.uniform(0, 255, ((height + travel) // 8 + 1, (width + travel) // 8 + 1, 3))
    whole = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    return np.stack([whole[s : s + height, s : s + width] for s in range(0, travel, 2)])


def cut(path: Path, length: int, folder: Path) -> None:
    """The first frames of a real clip, even in size, as H.264."""
    info, chunks = open_video(path)
    if min(info.height, info.width) < 128:
        raise StgEvalError(f"{path} is too small for AMT-S and RAFT")
    length = 2 if info.height * info.width > LARGEST else length
    frames = np.stack(list(islice(chain.from_iterable(chunks), length)))
    frames = frames[:, : info.height // 2 * 2, : info.width // 2 * 2]
    name = f"{path.stem} {len(frames)}x{frames.shape[1]}x{frames.shape[2]}.mp4"
    write_video(folder / name, frames, info.fps, "h264-crf17")


def show(scores: Path) -> None:
    """The largest difference of every dimension on every clip, and what it was compared on."""
    worst: dict[str, dict[str, float]] = defaultdict(dict)
    allowed: dict[str, float] = {}
    with scores.open(encoding="utf-8", newline="") as file:
        for dimension, clip, theirs, ours, tolerance in csv.reader(file):
            both_nan = theirs == ours == "nan"
            difference = 0.0 if both_nan else abs(float(theirs) - float(ours))
            worst[dimension][clip] = max(difference, worst[dimension].get(clip, 0.0))
            allowed[dimension] = float(tolerance)
    clips = sorted({clip for found in worst.values() for clip in found})
    print("\n| dimension | allowed | largest difference | clips |\n|---|---|---|---|")
    for dimension, found in worst.items():
        print(f"| {dimension} | {allowed[dimension]:.0e} | {max(found.values()):.1e} | {len(found)} |")
    print("\n| clip | " + " | ".join(worst) + " |\n|---" + "|---" * len(worst) + "|")
    for clip in clips:
        cells = (f"{found[clip]:.0e}" if clip in found else "-" for found in worst.values())
        print(f"| {clip} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
