"""How true a clip stays to the image that it started from: what VBench-I2V's subject and background share.

Source: vbench 0.1.5, vbench2_beta_i2v. The score is 0.4 times the best cosine of a frame to the image, plus 0.3 times
the mean and 0.3 times the least cosine of neighbouring frames. The image is the dataset's crop for the model's aspect
ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval.metrics.vbench import batch_size, exact, to_tensor
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError

if TYPE_CHECKING:
    from torch import Tensor

    from stg_eval.metrics.vbench.consistency import Similarities

SIZE = 224


class Faithfulness:
    """A `ClipScorer`: 0 to 1, higher is more faithful and steadier; nan for one frame.

    Args:
        network: Images [n, 3, 224, 224], 0 to 1 -> features [n, D].
        fit: Brings a picture to 224 x 224: frames float32 [n, 3, H, W], or a Pillow image, which rounds to grey levels.
    """

    def __init__(self, signature: str, network: Callable[[Tensor], Tensor], fit: Callable[[Any], Any], device: str):
        self.signature = signature
        self._network, self._fit, self._device = network, fit, device

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        from PIL import Image
        from torchvision.transforms.functional import to_tensor as from_image

        from stg_eval.metrics.vbench.consistency import Similarities

        if case is None or not case.image:
            name = self.signature.partition("|")[0]
            raise StgEvalError(f"{name} compares a clip with the image that it started from, and there is none")
        with Image.open(case.image) as image:
            first = from_image(self._fit(image.convert("RGB")))
        with exact():
            self._similarities = Similarities(self._network(first[None].to(self._device)))
        self._size = batch_size(SIZE, SIZE, self._device)

    def update(self, frames: np.ndarray) -> None:
        with exact():
            for start in range(0, len(frames), self._size):
                images = self._fit(to_tensor(frames[start : start + self._size], self._device)).div(255.0)
                self._similarities.update(self._network(images))

    def end(self) -> float:
        return faithfulness(self._similarities)


def faithfulness(similarities: Similarities) -> float:
    """Map best cosine to the image, mean and least cosine of neighbours -> score; nan without neighbours."""
    to_image, neighbours = similarities.to_anchor(), similarities.to_previous()
    if not len(neighbours):
        return float("nan")
    return (0.4 * to_image.max() + 0.3 * neighbours.mean() + 0.3 * neighbours.min()).item()
