"""Motion smoothness: how well AMT-S foresees every second frame from its neighbours, (255 - mean error) / 255.

Source: vbench 0.1.5, vbench/motion_smoothness.py. On a GPU the official code shrinks the network's input by the memory
it finds, so its scores depend on the machine; here the scale is 1 always, as in the official code on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, batch_size, exact, import_vbench, to_tensor
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Weight

if TYPE_CHECKING:
    import torch

AMT = Weight(
    name="amt-s",
    needed_by="metric motion_smoothness",
    licence="CC-BY-NC-4.0",
    size=12_000_000,
    repo="lalala125/AMT",
    file="amt-s.pth",
)

AMT_PAPER = """@inproceedings{li2023amt,
  title = {{AMT}: All-Pairs Multi-Field Transforms for Efficient Frame Interpolation},
  author = {Li, Zhen and others},
  booktitle = {CVPR},
  year = {2023},
}"""


class MotionSmoothness:
    """A `ClipScorer`: 0 to 1, higher is smoother; nan for fewer than three frames. AMT-S (Li et al., CVPR 2023)."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str, batch: int | None = None) -> None:
        network = import_vbench("vbench.third_party.amt.networks.AMT-S").Model()
        network.load_state_dict(weights.load_torch(checkpoint)["state_dict"])
        self._network = network.eval().requires_grad_(False).to(device)
        self._device, self._batch = device, batch
        self.signature = f"motion_smoothness|vbench{VERSION}|amt-s:{checkpoint.fingerprint}|scale1|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        if min(video.height, video.width) < 113:
            raise StgEvalError(
                f"{video.width}x{video.height} is too small for AMT-S, whose images are nan below 113 pixels a side"
            )
        self._size = self._batch or batch_size(video.height, video.width, self._device)
        self._values = video.height * video.width * 3
        self._run: list[np.ndarray] = []  # frames 2i, 2i + 1, 2i + 2, ... that wait for the network
        self._sums: list[torch.Tensor] = []

    def update(self, frames: np.ndarray) -> None:
        for frame in frames:
            self._run.append(frame)
            if len(self._run) == 2 * self._size + 1:
                self._interpolate()

    def end(self) -> float:
        # The last frame of an even number is never looked at: nothing follows it.
        if len(self._run) >= 3:
            self._interpolate()
        if not self._sums:
            return float("nan")
        import torch

        return smoothness(torch.cat(self._sums).cpu().numpy() / self._values)

    def _interpolate(self) -> None:
        """Predict the odd frames of the run from the even ones; the sums of errors stay on the device."""
        import torch
        from torch.nn import functional as F

        pairs = (len(self._run) - 1) // 2
        inputs = to_tensor(np.stack(self._run[: 2 * pairs + 1 : 2]), self._device) / 255.0
        actual = to_tensor(np.stack(self._run[1 : 2 * pairs : 2]), self._device)
        height, width = inputs.shape[-2:]
        left, right, top, bottom = padding(height, width)
        with exact():
            inputs = F.pad(inputs, (left, right, top, bottom), mode="replicate")
            middle = torch.full((pairs, 1, 1, 1), 0.5, device=self._device)
            predicted = self._network(inputs[:-1], inputs[1:], middle, eval=True)["imgt_pred"]
            predicted = quantise(predicted[..., top : top + height, left : left + width])
            # Differences of whole numbers: every partial sum below 2^24 is exact, and so are all of them in float64.
            self._sums.append((predicted - actual).abs().sum((1, 2, 3), dtype=torch.float64))
        self._run = self._run[2 * pairs :]


def padding(height: int, width: int, divisor: int = 16) -> tuple[int, int, int, int]:
    """Return left, right, top, bottom: to the next multiple, the odd pixel at the far side (AMT's InputPadder)."""
    down, across = -height % divisor, -width % divisor
    return across // 2, across - across // 2, down // 2, down - down // 2


def quantise(images: torch.Tensor) -> torch.Tensor:
    """Map images 0 to 1 -> whole numbers 0 to 255, truncated and not rounded, as the official conversion to uint8
    does."""
    return (images * 255.0).clamp(0, 255).floor()


def smoothness(errors: np.ndarray) -> float:
    """Map mean absolute error of each predicted frame, float64 in grey levels -> score."""
    return float((255.0 - np.mean(errors)) / 255.0)


def load(device: str) -> MotionSmoothness:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return MotionSmoothness(weights.require(AMT), device)


CARD = MetricCard(
    name="motion_smoothness",
    title="Motion Smoothness",
    short="MS",
    higher_is_better=True,
    load=load,
    weights=(AMT,),
    margin=0.001,  # STG gains .002 and .003 over CFG in the paper's Tables 1 and 2
    citations=(VBENCH, AMT_PAPER),
    note=DIMENSION + " A still clip scores nearly 1.",
)
