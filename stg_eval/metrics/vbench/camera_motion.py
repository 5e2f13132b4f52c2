"""Camera motion: do the points at a clip's edges move as the prompt says of the camera, such as "camera pans left"?

Source: vbench 0.1.5, vbench2_beta_i2v/camera_motion.py. CoTracker2 follows a grid of 10 x 10 points; four of them, in
the middles of the edges, tell a pan, tilt or zoom by where they lie in the last frame.
"""

from __future__ import annotations

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH_I2V, VERSION, exact, to_tensor
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Weight

COTRACKER = Weight(
    name="cotracker2",
    needed_by="metric camera_motion",
    licence="CC-BY-NC-4.0",
    size=204_000_000,  # of its tensors
    repo="facebook/cotracker",
    file="cotracker2.pth",
)

GRID, MIDDLE = 10, 5
STILL = 0.005
"""Share of the shorter side that an edge must move to count."""
MOTIONS = {
    "camera pans left": "pan_left",
    "camera pans right": "pan_right",
    "camera tilts up": "tilt_up",
    "camera tilts down": "tilt_down",
    "camera zooms in": "zoom_in",
    "camera zooms out": "zoom_out",
    "camera static": "static",
}
"""What a prompt says -> what it means."""
TOGETHER = {"left": "pan_right", "right": "pan_left", "down": "tilt_up", "up": "tilt_down", "static": "static"}
"""How both of two opposite edges move -> what the camera does."""
APART = {
    ("up", "down"): "zoom_in",
    ("down", "up"): "zoom_out",
    ("left", "right"): "zoom_in",
    ("right", "left"): "zoom_out",
}
"""How the upper and the lower, or the left and the right edge move -> what the camera does."""

COTRACKER_PAPER = """@inproceedings{karaev2024cotracker,
  title = {{CoTracker}: It is Better to Track Together},
  author = {Karaev, Nikita and others},
  booktitle = {ECCV},
  year = {2024},
}"""


class CameraMotion:
    """A `ClipScorer`: 1 where the camera moves as asked, else 0."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.vbench.cotracker import load_cotracker

        self._network, self._device = load_cotracker(checkpoint, device), device
        self.signature = f"camera_motion|vbench{VERSION}|cotracker2:{checkpoint.fingerprint}|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        from stg_eval.metrics.vbench.cotracker import Tracks

        self._asked = asked(case.wanted if case else "")
        self._video, self._tracks = video, Tracks(self._network, GRID)

    def update(self, frames: np.ndarray) -> None:
        with exact():
            for frame in frames:
                self._tracks.update(to_tensor(frame[None], self._device))

    def end(self) -> float:
        from stg_eval.metrics.vbench.cotracker import SIZE

        height, width = self._video.height, self._video.width
        with exact():
            places = self._tracks.end()
        scale = np.array([(width - 1) / (SIZE[1] - 1), (height - 1) / (SIZE[0] - 1)], np.float32)
        start, last = ((p.cpu().numpy() * scale).astype(np.int64).reshape(GRID, GRID, 2) for p in places)
        return float(self._asked in motions(last - start, min(height, width)))


def asked(prompt: str) -> str:
    """ "A street, camera pans left" -> "pan_left"; the first of MOTIONS that the prompt has."""
    for words, motion in MOTIONS.items():
        if words in prompt:
            return motion
    raise StgEvalError(f"camera_motion needs a prompt with one of {', '.join(MOTIONS)}, not {prompt!r}")


def motions(moves: np.ndarray, shorter: int) -> set[str]:
    """Moves [10, 10, 2] (x, y) in pixels of a grid -> what the camera does, several things where edges disagree."""
    least = shorter * STILL
    top, bottom, left, right = (moves[i] for i in ((0, MIDDLE), (-1, MIDDLE), (MIDDLE, 0), (MIDDLE, -1)))
    upright = _of_two(ways(top, least), ways(bottom, least), ("up", "down"))
    across = _of_two(ways(left, least), ways(right, least), ("left", "right"))
    moving = (upright | across) - {"static"}
    return moving or (upright & across)  # still only where both pairs of edges are


def _of_two(one: list[str], two: list[str], axis: tuple[str, str]) -> set[str]:
    """What two opposite edges say; zooms only along the axis between them."""
    found = {TOGETHER[way] for way in one if way in two}
    return found | {APART[a, b] for a in one for b in two if (a, b) in (axis, axis[::-1])}


def ways(move: np.ndarray, least: float) -> list[str]:
    """A move (x, y) -> its directions on the screen, or "static"."""
    x, y = move
    found = (
        ["right"] * bool(x > least)
        + ["left"] * bool(x < -least)
        + ["down"] * bool(y > least)
        + ["up"] * bool(y < -least)
    )
    return found or ["static"]


def load(device: str) -> CameraMotion:
    """The scorer with the official weights. Raises StgEvalError where they are missing."""
    return CameraMotion(weights.require(COTRACKER), device)


CARD = MetricCard(
    name="camera_motion",
    title="Camera Motion",
    short="CM",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    needs_case=True,
    weights=(COTRACKER,),
    margin=0.05,  # one clip in twenty
    citations=(VBENCH_I2V, COTRACKER_PAPER),
    note=DIMENSION + " Each clip is 0 or 1 (moves as asked), so intervals are wide.",
)
