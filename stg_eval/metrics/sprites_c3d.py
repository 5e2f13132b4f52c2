"""The embedded extractor: a small C3D-style classifier of sprites, 64 features and 12 logits.

It stands in for the published C3D and I3D networks where nothing can be downloaded. FVD and Inception Score on it
compare only with themselves. Trained by ``python -m stg_eval.generators.tiny.train_classifier``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("sprites_c3d.safetensors")
NUM_FRAMES, HEIGHT, WIDTH = 8, 16, 16
"""The only size of clip it was trained on."""


class SpritesC3D(nn.Module):
    """Four 3-D convolutions (Tran et al., 2015, made small), a 64-d feature layer and a linear head."""

    def __init__(self, num_classes: int = 12) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *_conv(3, 24, stride=(1, 1, 1)),
            *_conv(24, 48, stride=(1, 2, 2)),
            *_conv(48, 64, stride=(2, 2, 2)),
            *_conv(64, 64, stride=(2, 1, 1)),
        )
        self.feature = nn.Linear(64 * 2 * 4 * 4, 64)
        self.head = nn.Linear(64, num_classes)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, 12] of clips.

        Args:
            frames: [N, 8, 16, 16, 3], uint8 or any dtype with values 0 to 255, RGB.
        """
        x = frames.permute(0, 4, 1, 2, 3).to(self.head.weight.dtype) / 127.5 - 1
        features = self.feature(self.conv(x).flatten(1))
        return features, self.head(torch.relu(features))


def _conv(channels_in: int, channels_out: int, *, stride: tuple[int, int, int]) -> list[nn.Module]:
    # Group normalisation: unlike batch statistics it makes a clip's features independent of its batch.
    return [
        nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1),
        nn.GroupNorm(8, channels_out),
        nn.ReLU(inplace=True),
    ]


def load(device: str = "cpu") -> SpritesC3D:
    """Return the trained network in float32, evaluation mode."""
    network = SpritesC3D()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False).to(device)
