"""Metrics on the embedded data: the sprites classifier in place of VideoMAE and C3D, and plain pixels.

FVD on classifier features hardly sees colour or missing variety, so recall, a distance between pixels and the frame
difference stand beside it. All compare only with themselves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stg_eval.metrics import Extractor, MetricCard, SetMetric
from stg_eval.metrics.fvd import frechet_distance
from stg_eval.metrics.inception_score import inception_score, softmax
from stg_eval.metrics.vbench import exact
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError

if TYPE_CHECKING:
    from stg_eval.metrics.sprites_c3d import SpritesC3D

VERSION = "v1"
NUM_FEATURES, NUM_CLASSES = 64, 12
NEIGHBOURS = 5
GRID = 4
"""Pixels are averaged over a grid of 4 x 4 cells and two halves of time."""
SIZE = (8, 16, 16)
"""Frames, height, width: the only size there is."""


class SpritesExtractor:
    """The classifier's 64 features and 12 logits of a clip, [N, 76]: one vector serves all metrics that use it."""

    def __init__(self, device: str) -> None:
        self.device = device
        digest = hashlib.sha256(Path(__file__).with_name("sprites_c3d.safetensors").read_bytes()).hexdigest()
        self.signature = f"sprites-c3d|{SIZE[0]}f|{SIZE[1]}|{digest[:8]}"

    @cached_property
    def network(self) -> SpritesC3D:
        """Loaded for the first clip: a run that finds its scores in the store asks for the signature alone."""
        from stg_eval.metrics import sprites_c3d

        return sprites_c3d.load(self.device)

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Return all 8 frames of a sprite."""
        return _all_frames(num_frames)

    @exact()
    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Map clips uint8 [8, 16, 16, 3] -> float32 [N, 64 + 12]."""
        import torch

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
        """Return all 8 frames of a sprite."""
        return _all_frames(num_frames)

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Map clips uint8 [8, 16, 16, 3] -> float32 [N, 97]."""
        out = np.empty((len(clips), 2 * GRID * GRID * 3 + 1), np.float32)
        for row, clip in zip(out, clips, strict=True):
            frames = _sprite(clip).astype(np.float64)
            t, height, width, _ = frames.shape
            cells = frames.reshape(2, t // 2, GRID, height // GRID, GRID, width // GRID, 3).mean(axis=(1, 3, 5))
            row[:-1] = cells.ravel() / 255
            row[-1] = np.abs(np.diff(frames, axis=0)).mean()
        return out


def improved_recall(features: np.ndarray, reference: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Return share of real clips inside the generated manifold: within the distance from some generated clip to its
    k-th nearest generated neighbour (Kynkaanniemi et al. 2019, Eq. 2). 0 to 1; 0 where each class is one repeated clip.

    Args:
        features: Generated clips [N, D], N > k.
        reference: Real clips [M, D].
    """
    import torch

    if len(features) <= k:
        raise StgEvalError(f"recall over {k} neighbours needs more than {k} clips and has {len(features)}")
    x, y = (torch.from_numpy(np.asarray(a, np.float64)) for a in (features, reference))
    exact = "donot_use_mm_for_euclid_dist"  # by differences: a clip is at distance 0 from its copy
    among = torch.cdist(x, x, compute_mode=exact)
    radius = among.kthvalue(k + 1, dim=1).values  # the nearest is the clip itself
    return float((torch.cdist(y, x, compute_mode=exact) <= radius).any(dim=1).double().mean())


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


def _loader(title: str, extractor: Callable[[str], Extractor], protocol: str) -> Callable[[str], SetMetric]:
    def load(device: str) -> SetMetric:
        chosen = extractor(device)
        return SetMetric(f"{title}|{chosen.signature}|n*|{protocol}|{VERSION}", chosen)

    return load


def _pixels(device: str) -> PixelExtractor:
    return PixelExtractor()


def _note(kind: str, more: str) -> str:
    """Say that a value compares with nothing but itself, `kind` being what papers publish, and what more there is."""
    return (
        "Uses the small networks and clips that ship with stg-eval: compare it only with itself, never with published "
        f"{kind}. {more}"
    )


_card = partial(
    MetricCard, embedded=True, limits=(0.0, math.inf), needs_reference=True, min_clips=64, margin="5%", digits=1
)
CARDS = (
    _card(
        name="fvd_sprites",
        title="FVD (embedded)",
        short="FVD-s",
        higher_is_better=False,
        load=_loader("fvd", _classifier, "cov-n"),
        statistic=_fvd,
        note=_note("FVD", "It hardly sees colour or missing variety: read recall and pixel distance beside it."),
    ),
    _card(
        name="is_sprites",
        title="IS (embedded)",
        short="IS-s",
        higher_is_better=True,
        load=_loader("is", _classifier, "1-split"),
        statistic=_inception_score,
        digits=2,
        limits=(1.0, math.inf),
        needs_reference=False,
        margin="1%",
        note=_note("IS", "At most 12, the number of classes."),
    ),
    MetricCard(
        name="accuracy_sprites",
        title="Class accuracy (embedded)",
        short="Acc-s",
        higher_is_better=True,
        load=lambda device: AccuracySprites(_classifier(device)),
        needs_case=True,
        margin=0.05,
        embedded=True,
        note=_note("accuracies", "1 where the classifier names the class that was asked for."),
    ),
    _card(
        name="recall_sprites",
        title="Recall (embedded)",
        short="Rec-s",
        higher_is_better=True,
        load=_loader("recall", _classifier, f"k{NEIGHBOURS}"),
        statistic=_recall,
        digits=3,
        limits=(0.0, 1.0),
        margin=0.05,
        note=_note("recall", "Share of real clips with a generated one nearby: low means missing variety."),
    ),
    _card(
        name="pixel_distance_sprites",
        title="Pixel distance (embedded)",
        short="Pix-s",
        higher_is_better=False,
        load=_loader("pixel-distance", _pixels, "cov-n"),
        statistic=_pixel_distance,
        digits=3,
        note=_note("distances", "Fréchet distance of coarse pixel averages: sees the colours that FVD-s does not."),
    ),
    _card(
        name="frame_difference_sprites",
        title="Frame difference over real",
        short="dF-s",
        higher_is_better=None,
        load=_loader("frame-difference", _pixels, "mean"),
        statistic=_frame_difference,
        digits=3,
        min_clips=1,
        note=_note("values", "Mean frame difference over that of real clips: below 1 is frozen, above jitter."),
    ),
)
