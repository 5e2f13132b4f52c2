"""FVD as older papers have it: I3D features in place of VideoMAE's, in StyleGAN-V's protocol.

Source: StyleGAN-V, src/metrics/frechet_video_distance.py: 16 frames, the network as a TorchScript file that scales and
resizes frames itself, its 400 logits as features, covariances over n. I3D sees content more than motion (Ge et al.,
CVPR 2024), which content-debiased FVD mends; this one is for comparing with published numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard, SetMetric
from stg_eval.metrics.fvd import FVD_PAPER, VERSION, FrechetStatistic
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight

I3D = Weight(
    name="i3d-k400",
    needed_by="metric fvd_i3d",
    licence="Apache-2.0",
    size=51_235_320,
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    repo="flateon/FVD-I3D-torchscript",
    revision="1c2d61711c52571ad617a1063e6fa691b212e184",
    file="i3d_torchscript.pt",
)
NUM_FRAMES = 16

I3D_PAPER = """@inproceedings{carreira2017i3d,
  title = {Quo Vadis, Action Recognition? {A} New Model and the {Kinetics} Dataset},
  author = {Carreira, Jo{\\~a}o and Zisserman, Andrew},
  booktitle = {CVPR},
  year = {2017},
}"""


class I3DExtractor:
    """Logits [N, 400] of the first 16 frames."""

    def __init__(self, network: Any, *, fingerprint: str, device: str, batch_size: int = 8) -> None:
        self.network = network.eval().to(device)
        self.device, self.batch_size = device, batch_size
        self.signature = f"i3d-k400|{NUM_FRAMES}f|224|{fingerprint}"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Return the first 16. StyleGAN-V takes a random stretch of a longer video; a score must not depend on
        chance."""
        if num_frames < NUM_FRAMES:
            raise StgEvalError(f"I3D looks at {NUM_FRAMES} frames and the clip has {num_frames}")
        return range(NUM_FRAMES)

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Map clips uint8 [16, H, W, 3], RGB, of any sizes -> features float32 [N, 400]."""
        import torch

        from stg_eval.metrics.vbench import exact

        out = [np.empty((0, 400), np.float32)]
        for _, group in groupby(clips, key=np.shape):
            same = list(group)
            for start in range(0, len(same), self.batch_size):
                batch = torch.from_numpy(np.stack(same[start : start + self.batch_size])).to(self.device)
                with exact():
                    videos = batch.permute(0, 4, 1, 2, 3).float()
                    features = self.network(videos, rescale=True, resize=True, return_features=True)
                out.append(features.float().cpu().numpy())
        return np.concatenate(out)


def load(device: str) -> SetMetric:
    """Return the distance on the published network. Raises StgEvalError where it is missing."""
    import torch

    checkpoint = weights.require(I3D)
    network = torch.jit.load(checkpoint.path, map_location="cpu")  # type: ignore[no-untyped-call]
    extractor = I3DExtractor(network, fingerprint=checkpoint.fingerprint, device=device)
    return SetMetric(f"FVD|{extractor.signature}|n*|cov-n|{VERSION}", extractor)


CARD = MetricCard(
    name="fvd_i3d",
    title="Fréchet Video Distance (I3D)",
    short="FVD-i3d",
    higher_is_better=False,
    load=load,
    statistic=FrechetStatistic(),
    digits=1,
    limits=(0.0, math.inf),
    needs_reference=True,
    min_clips=256,
    weights=(I3D,),
    margin="5%",
    citations=(FVD_PAPER, I3D_PAPER),
    note="FVD on I3D (Kinetics-400) as StyleGAN-V computes it; it hardly sees motion. Compare equal n only (2,048).",
)
