"""C3D (Tran et al., ICCV 2015) fine-tuned on UCF-101: the classifier behind Inception Scores of videos.

Loads the published Chainer files: conv3d_deepnetA_ucf.npz (the network) and mean2.npz (the mean clip it expects to be
subtracted), and prepares frames as each Inception Score protocol does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stg_eval.metrics.vbench import exact
from stg_eval.types import StgEvalError
from stg_eval.weights import Checkpoint

NUM_FRAMES, NUM_CLASSES = 16, 101
SIDE = 112


class C3D(nn.Module):
    """Eight 3-D convolutions and three linear layers, 78.4 M parameters; parameter names as in the published file."""

    def __init__(self) -> None:
        super().__init__()
        widths = {"1a": 64, "2a": 128, "3a": 256, "3b": 256, "4a": 512, "4b": 512, "5a": 512, "5b": 512}
        channels = 3
        for name, width in widths.items():
            setattr(self, f"conv{name}", nn.Conv3d(channels, width, kernel_size=3, padding=1))
            channels = width
        self.fc6 = nn.Linear(512 * 1 * 4 * 4, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map clips [N, 3, 16, 112, 112], BGR, 0 to 255 minus the mean clip -> logits [N, 101]."""
        for block, pool in (("1a", (1, 2, 2)), ("2a", 2), ("3a 3b", 2), ("4a 4b", 2), ("5a 5b", 2)):
            for name in block.split():
                x = F.relu(getattr(self, f"conv{name}")(x))
            # Chainer's pooling covers the border too: the last one makes 4 x 4 of 7 x 7.
            x = F.max_pool3d(x, pool, ceil_mode=True)
        return self.fc8(F.relu(self.fc7(F.relu(self.fc6(x.flatten(1))))))  # type: ignore[no-any-return]


def state_dict(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return parameters from Chainer's names: "conv1a/W" [out, in, t, h, w] or [out, in], "conv1a/b" [out]."""
    parameters = {"W": "weight", "b": "bias"}
    out = {}
    for key, value in arrays.items():
        layer, _, parameter = key.strip("/").partition("/")
        if parameter not in parameters:
            raise StgEvalError(f"unexpected array {key!r} in the C3D file; it should hold conv1a/W ... fc8/b")
        out[f"{layer}.{parameters[parameter]}"] = torch.from_numpy(value.astype(np.float32))
    return out


def prepare_tgan(frames: Tensor, mean: Tensor) -> Tensor:
    """As TGAN v1 (calc_inception.py): frames to 128 x 128 (OpenCV's cubic), minus mean columns 21-148, crop 8-119.

    Args:
        frames: uint8 [16, H, W, 3], RGB.
        mean: float32 [3, 16, 128, 171], BGR.

    Returns:
        float32 [3, 16, 112, 112], BGR.
    """
    import cv2

    # The original resizes its generator's float frames; uint8 would round and clip each pixel.
    resized = [cv2.resize(f, (128, 128), interpolation=cv2.INTER_CUBIC) for f in frames.numpy().astype(np.float32)]
    x = torch.from_numpy(np.stack(resized)[..., ::-1].copy()).permute(3, 0, 1, 2)
    return (x - mean[..., 21:149])[..., 8:120, 8:120]


def prepare_tganv2(frames: Tensor, mean: Tensor) -> Tensor:
    """As TGANv2 (C3DVersion1UCF101): bilinear to 112 x 112 with aligned corners, minus mean rows and columns 8-119.

    Arguments and result as `prepare_tgan`.
    """
    x = frames.flip(-1).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=True)
    return x.permute(1, 0, 2, 3) - mean[..., 8:120, 8:120]


PREPARE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tgan": prepare_tgan,
    "tganv2": prepare_tganv2,
    "stylegan-v": prepare_tganv2,  # its TorchScript file is a copy of TGANv2's network, preparation included
}
"""Protocol -> how frames reach the network."""


class C3DExtractor:
    """Logits [N, 101] of the first 16 frames."""

    def __init__(
        self, network: C3D, mean: np.ndarray, protocol: str, *, fingerprint: str, device: str, batch_size: int = 16
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.mean = torch.from_numpy(np.asarray(mean, np.float32).reshape(3, NUM_FRAMES, 128, 171))
        self.prepare = PREPARE[protocol]
        self.device, self.batch_size = device, batch_size
        self.signature = (
            f"c3d-ucf101|{NUM_FRAMES}f|{SIDE}|{self.prepare.__name__.removeprefix('prepare_')}|{fingerprint}"
        )

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Return the first 16."""
        if num_frames < NUM_FRAMES:
            raise StgEvalError(f"C3D looks at {NUM_FRAMES} frames and the clip has {num_frames}")
        return range(NUM_FRAMES)

    @exact()
    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Map clips uint8 [16, H, W, 3], RGB, of any sizes -> logits float32 [N, 101]."""
        out = [np.empty((0, NUM_CLASSES), np.float32)]
        for start in range(0, len(clips), self.batch_size):
            batch = [self.prepare(torch.from_numpy(c), self.mean) for c in clips[start : start + self.batch_size]]
            out.append(self.network(torch.stack(batch).to(self.device)).float().cpu().numpy())
        return np.concatenate(out)


def load(published: Checkpoint, mean: Checkpoint, device: str, protocol: str) -> C3DExtractor:
    """Return the published network and mean clip, for one of PREPARE."""
    with torch.device("meta"):
        network = C3D()
    with np.load(published.path, allow_pickle=False) as arrays:
        network.load_state_dict(state_dict(arrays), assign=True)
    with np.load(mean.path, allow_pickle=False) as arrays:
        mean_clip = arrays["mean"]
    fingerprint = f"{published.fingerprint}-{mean.fingerprint}"
    return C3DExtractor(network, mean_clip, protocol, fingerprint=fingerprint, device=device)
