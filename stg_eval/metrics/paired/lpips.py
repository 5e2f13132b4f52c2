"""LPIPS (Zhang et al., CVPR 2018) of a clip to its partner: how far AlexNet's features of two frames lie apart.

Version 0.1 with AlexNet, as most papers have it. The linear layers come with torchmetrics, AlexNet with torchvision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

ALEXNET = Weight(
    name="alexnet",
    needed_by="metric lpips",
    licence="BSD-3-Clause",
    size=244_408_911,
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    file="alexnet-owt-7be5be79.pth",
)
TAPS = (1, 4, 7, 9, 11)
"""Places of AlexNet's five ReLUs, whose outputs are compared."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's statistics for values from -1 to 1, as the paper's code rounds them."""

LPIPS_PAPER = """@inproceedings{zhang2018lpips,
  title = {The Unreasonable Effectiveness of Deep Features as a Perceptual Metric},
  author = {Zhang, Richard and others},
  booktitle = {CVPR},
  year = {2018},
}"""


class LPIPS:
    """A `PairScorer`: 0 for equal frames, larger is further apart."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str, batch: int = 8) -> None:
        import torchvision

        network = torchvision.models.alexnet(weights=None)
        network.load_state_dict(weights.load_torch(checkpoint))
        self._layers = network.features.eval().requires_grad_(False).to(device)
        self._linear = [layer.to(device) for layer in linear_layers()]
        self._device, self._batch = device, batch
        self.signature = f"lpips|alex-v0.1|alexnet:{checkpoint.fingerprint}|frames|float32|v1"

    def score(self, frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
        from stg_eval.metrics.vbench import exact

        if min(frames.shape[1:3]) < 63:
            raise StgEvalError(
                f"LPIPS needs frames of at least 63 x 63 pixels, not {frames.shape[2]}x{frames.shape[1]}"
            )
        out = []
        with exact():
            for start in range(0, len(frames), self._batch):
                ours, theirs = (self._features(part[start : start + self._batch]) for part in (frames, reference))
                out.append(distance(ours, theirs, self._linear).double().cpu().numpy())
        return np.concatenate(out)

    def _features(self, frames: np.ndarray) -> list[Tensor]:
        import torch

        from stg_eval.metrics.vbench import to_tensor

        shift, scale = (torch.tensor(v, device=self._device)[:, None, None] for v in (SHIFT, SCALE))
        x = (to_tensor(frames, self._device) / 127.5 - 1 - shift) / scale
        found = []
        for place, layer in enumerate(self._layers):
            x = layer(x)
            if place in TAPS:
                found.append(x.clone())  # the next layers may work in place
        return found


def distance(features: list[Tensor], reference: list[Tensor], linear: list[Tensor]) -> Tensor:
    """Map features [n, C, h, w] of each tap and its linear layer [C] -> LPIPS of each frame, [n]."""

    def unit(x: Tensor) -> Tensor:
        return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()

    parts = [
        ((unit(a) - unit(b)).square() * weight[:, None, None]).sum(1).mean((1, 2))
        for a, b, weight in zip(features, reference, linear, strict=True)
    ]
    out: Tensor = sum(parts[1:], parts[0])
    return out


def linear_layers() -> list[Tensor]:
    """Return the five published linear layers, [C] each; they are part of torchmetrics."""
    from importlib.resources import as_file, files

    import torch

    with as_file(files("torchmetrics.functional.image") / "lpips_models" / "alex.pth") as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"].flatten() for i in range(len(TAPS))]


CARD = MetricCard(
    name="lpips",
    title="LPIPS to the partner",
    short="LPIPS",
    higher_is_better=None,
    load_pair=lambda device: LPIPS(weights.require(ALEXNET), device),
    limits=(0.0, float("inf")),
    weights=(ALEXNET,),
    margin=0.01,
    citations=(LPIPS_PAPER,),
    note="LPIPS v0.1 (AlexNet) at full size, mean over frames, against the baseline's clip of the same case and seed "
    "(in a folder: the file of the same name).",
)
