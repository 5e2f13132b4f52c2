"""Metrics on the embedded data: the sprites classifier in place of VideoMAE and C3D, and plain pixels.

FVD on classifier features hardly sees colour or missing variety, so recall, a distance between pixels and the frame
difference stand beside it. All compare only with themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from stg_eval.metrics import ClipScorer, Extractor, SetMetric, sprites_c3d
from stg_eval.metrics.fvd import frechet_distance
from stg_eval.metrics.inception_score import inception_score, softmax
from stg_eval.metrics.vbench import exact
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError

VERSION = "v1"
NUM_FEATURES, NUM_CLASSES = 64, 12
NEIGHBOURS = 5
GRID = 4
"""Pixels are averaged over a grid of 4 x 4 cells and two halves of time."""
SIZE = (sprites_c3d.NUM_FRAMES, sprites_c3d.HEIGHT, sprites_c3d.WIDTH)


class SpritesExtractor:
    """The classifier's 64 features and 12 logits of a clip, [N, 76]: one vector serves all metrics that use it."""

    def __init__(self, device: str) -> None:
        self.network, self.device = sprites_c3d.load(device), device
        self.signature = f"sprites-c3d|{SIZE[0]}f|{SIZE[1]}|{sprites_c3d.weights_sha256()[:8]}"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """All 8 frames of a sprite."""
        return _all_frames(num_frames)

    @exact()
    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Clips uint8 [8, 16, 16, 3] -> float32 [N, 64 + 12]."""
        if not len(clips):
            return np.empty((0, NUM_FEATURES + NUM_CLASSES), np.float32)
        frames = torch.from_numpy(np.stack([_sprite(clip) for clip in clips])).to(self.device)
        return torch.cat(self.network(frames), dim=1).float().cpu().numpy()


class PixelExtractor:
    """Coarse colours and motion of a clip, float32 [N, 97]: 96 cell averages, then the mean frame difference.

    Cells are a 4 x 4 grid by two halves of time by RGB, in 0 to 1; the difference is |frame - next frame|, in 0 to 255.
    """

    signature = f"pixels|{SIZE[0]}f|{SIZE[1]}|{GRID}x{GRID}x2"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """All 8 frames of a sprite."""
        return _all_frames(num_frames)

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Clips uint8 [8, 16, 16, 3] -> float32 [N, 97]."""
        out = np.empty((len(clips), 2 * GRID * GRID * 3 + 1), np.float32)
        for row, clip in zip(out, clips, strict=True):
            frames = _sprite(clip).astype(np.float64)
            t, height, width, _ = frames.shape
            cells = frames.reshape(2, t // 2, GRID, height // GRID, GRID, width // GRID, 3).mean(axis=(1, 3, 5))
            row[:-1] = cells.ravel() / 255
            row[-1] = np.abs(np.diff(frames, axis=0)).mean()
        return out


def improved_recall(features: np.ndarray, reference: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Share of real clips inside the generated manifold: within the distance from some generated clip to its k-th
    nearest generated neighbour (Kynkaanniemi et al. 2019, Eq. 2). 0 to 1; 0 where each class is one repeated clip.

    Args:
        features: Generated clips [N, D], N > k.
        reference: Real clips [M, D].
    """
    if len(features) <= k:
        raise StgEvalError(f"recall over {k} neighbours needs more than {k} clips and has {len(features)}")
    x, y = (torch.from_numpy(np.asarray(a, np.float64)) for a in (features, reference))
    exact = "donot_use_mm_for_euclid_dist"  # by differences: a clip is at distance 0 from its copy
    among = torch.cdist(x, x, compute_mode=exact)
    radius = among.kthvalue(k + 1, dim=1).values  # the nearest is the clip itself
    return float((torch.cdist(y, x, compute_mode=exact) <= radius).any(dim=1).double().mean())


@dataclass
class SpritesMetric:
    """A set metric: an extractor and a statistic of its features."""

    signature: str
    extractor: Extractor
    compute: Callable[[np.ndarray, np.ndarray | None], float]

    def statistic(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Features [N, D] and the reference's [M, D] -> the score of the set."""
        return self.compute(features, reference)


class AccuracySprites:
    """1 where the classifier names the class that was asked for, else 0."""

    def __init__(self, extractor: SpritesExtractor) -> None:
        self._extractor = extractor
        self.signature = f"accuracy|{extractor.signature}|{VERSION}"
        self.frames: list[np.ndarray] = []
        self.label = 0

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        if case is None or case.label is None:
            raise StgEvalError("accuracy_sprites compares a clip with the class it was made for, and none is known")
        self.frames, self.label = [], case.label

    def update(self, frames: np.ndarray) -> None:
        if sum(map(len, self.frames)) <= SIZE[0]:  # a longer clip is refused in the end: never hold it
            self.frames.append(frames)

    def end(self) -> float:
        clip = np.concatenate(self.frames) if self.frames else np.empty((0, *SIZE[1:], 3), np.uint8)
        return float(self._extractor.extract([clip])[0, NUM_FEATURES:].argmax() == self.label)


def load(name: str, device: str) -> ClipScorer | SetMetric:
    """One of the metrics here, by the name on its card."""
    if name == "accuracy_sprites":
        return AccuracySprites(_classifier(device))
    extractor: Extractor
    match name:
        case "fvd_sprites":
            extractor, compute, protocol = _classifier(device), _fvd, "cov-n"
        case "is_sprites":
            extractor, compute, protocol = _classifier(device), _inception_score, "1-split"
        case "recall_sprites":
            extractor, compute, protocol = _classifier(device), _recall, f"k{NEIGHBOURS}"
        case "pixel_distance_sprites":
            extractor, compute, protocol = PixelExtractor(), _pixel_distance, "cov-n"
        case "frame_difference_sprites":
            extractor, compute, protocol = PixelExtractor(), _frame_difference, "mean"
        case _:
            raise StgEvalError(f"{name!r} is none of the embedded metrics")
    title = name.removesuffix("_sprites").replace("_", "-")
    return SpritesMetric(f"{title}|{extractor.signature}|n*|{protocol}|{VERSION}", extractor, compute)


def _fvd(features: np.ndarray, reference: np.ndarray | None) -> float:
    return frechet_distance(features[:, :NUM_FEATURES], _real(reference)[:, :NUM_FEATURES])


def _inception_score(features: np.ndarray, reference: np.ndarray | None) -> float:
    return inception_score(softmax(features[:, NUM_FEATURES:]), eps=1e-20).mean


def _recall(features: np.ndarray, reference: np.ndarray | None) -> float:
    return improved_recall(features[:, :NUM_FEATURES], _real(reference)[:, :NUM_FEATURES])


def _pixel_distance(features: np.ndarray, reference: np.ndarray | None) -> float:
    return frechet_distance(features[:, :-1], _real(reference)[:, :-1])


def _frame_difference(features: np.ndarray, reference: np.ndarray | None) -> float:
    return float(features[:, -1].mean(dtype=np.float64) / _real(reference)[:, -1].mean(dtype=np.float64))


@cache
def _classifier(device: str) -> SpritesExtractor:
    return SpritesExtractor(device)


def _all_frames(num_frames: int) -> Sequence[int]:
    if num_frames != SIZE[0]:
        raise StgEvalError(f"the embedded metrics look at clips of {SIZE[0]} frames and this one has {num_frames}")
    return range(num_frames)


def _sprite(clip: np.ndarray) -> np.ndarray:
    if clip.shape != (*SIZE, 3):
        raise StgEvalError(f"the embedded metrics look at clips of {'x'.join(map(str, SIZE))}, not {list(clip.shape)}")
    return clip


def _real(reference: np.ndarray | None) -> np.ndarray:
    if reference is None:
        raise StgEvalError("this metric compares with real clips and got none")
    return reference
