"""I2V subject: DINO features of a clip's frames against those of the image that it started from.

Source: vbench 0.1.5, vbench2_beta_i2v/i2v_subject.py. The score is 0.4 times the best cosine of a frame to the image,
plus 0.3 times the mean and 0.3 times the least cosine of neighbouring frames. The image is the dataset's crop for the
model's aspect ratio.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VERSION, batch_size, exact, to_tensor
from stg_eval.metrics.vbench.subject_consistency import DINO
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError

if TYPE_CHECKING:
    from torch import Tensor

    from stg_eval.metrics.vbench.consistency import Similarities

SHORTER, SIZE = 256, 224


class I2VSubject:
    """A `ClipScorer`: 0 to 1, higher is more faithful and steadier; nan for one frame."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.vbench.dino import load_dino

        self._network, self._device = load_dino(checkpoint, device), device
        self.signature = f"i2v_subject|vbench{VERSION}|dino-vit-b-16:{checkpoint.fingerprint}|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        from stg_eval.metrics.vbench.consistency import Similarities

        if case is None or not case.image:
            raise StgEvalError("i2v_subject compares a clip with the image that it started from, and there is none")
        with exact():
            self._similarities = Similarities(self._network(read_image(Path(case.image))[None].to(self._device)))
        self._size = batch_size(SIZE, SIZE, self._device)

    def update(self, frames: np.ndarray) -> None:
        with exact():
            for start in range(0, len(frames), self._size):
                images = preprocess(to_tensor(frames[start : start + self._size], self._device))
                self._similarities.update(self._network(images))

    def end(self) -> float:
        return faithfulness(self._similarities)


def preprocess(images: Tensor) -> Tensor:
    """Map images [n, 3, H, W], 0 to 255 -> DINO's input [n, 3, 224, 224]: bicubic, antialiased, the middle."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, normalize, resize

    from stg_eval.metrics.vbench.dino import MEAN, STD

    images = center_crop(resize(images, SHORTER, interpolation=InterpolationMode.BICUBIC, antialias=True), SIZE)
    out: Tensor = normalize(images.div(255.0), MEAN, STD)
    return out


def read_image(path: Path) -> Tensor:
    """Return the image as DINO's input [3, 224, 224]: by Pillow's bicubic, which rounds to grey levels, unlike the
    frames'."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, normalize, resize
    from torchvision.transforms.functional import to_tensor as from_image

    from stg_eval.metrics.vbench.dino import MEAN, STD

    with Image.open(path) as image:
        small = resize(image.convert("RGB"), SHORTER, interpolation=InterpolationMode.BICUBIC)
    out: Tensor = normalize(from_image(center_crop(small, SIZE)), MEAN, STD)
    return out


def faithfulness(similarities: Similarities) -> float:
    """Map best cosine to the image, mean and least cosine of neighbours -> score; nan without neighbours."""
    to_image, neighbours = similarities.to_anchor(), similarities.to_previous()
    if not len(neighbours):
        return float("nan")
    return (0.4 * to_image.max() + 0.3 * neighbours.mean() + 0.3 * neighbours.min()).item()


def load(device: str) -> I2VSubject:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return I2VSubject(weights.require(DINO), device)


CARD = MetricCard(
    name="i2v_subject",
    title="I2V Subject",
    short="I2V-S",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    needs_case=True,
    weights=(DINO,),
    margin=0.001,
    note=DIMENSION + " Needs the image that each clip started from.",
)
