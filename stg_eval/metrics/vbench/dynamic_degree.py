"""Dynamic degree: does RAFT see large motion in enough of the frame pairs, sampled at 8 frames a second?

Source: vbench 0.1.5, vbench/dynamic_degree.py. A pair's score is the mean of its largest 5 % of flow lengths (padding
included); the clip moves if round(4 n / 16) of its n sampled frames' pairs exceed 6 pixels at 256. The official loop
evaluates every pair and then counts. This one stops as soon as the verdict is certain either way, encodes each frame
once instead of twice, and upsamples the last flow alone. The verdict is the official one: a pair so close to the
threshold that rounding could decide is evaluated by the official code.
"""

from __future__ import annotations

import warnings
from argparse import Namespace
from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, batch_size, exact, import_vbench, to_tensor
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

RAFT = Weight(
    name="raft-things",
    needed_by="metrics dynamic_degree, static_filter",
    licence="BSD-3-Clause",
    size=21_108_000,
    sha256="fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
    url="https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip",
    zip_sha256="4be6101b271f58ec49866da5cf609fd17e86e9cae2483f70630ef4a295dc66bd",
    file="models/raft-things.pth",
)

ITERATIONS = 20
MARGIN = 1e-3
"""Relative distance from the threshold below which the official code decides. Both agree to 1e-6."""

RAFT_PAPER = """@inproceedings{teed2020raft,
  title = {{RAFT}: Recurrent All-Pairs Field Transforms for Optical Flow},
  author = {Teed, Zachary and Deng, Jia},
  booktitle = {ECCV},
  year = {2020},
}"""


class DynamicDegree:
    """A `ClipScorer`: 1 for a moving clip, else 0. RAFT (Teed & Deng, ECCV 2020) trained on FlyingThings."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str, batch: int | None = None) -> None:
        raft = import_vbench("vbench.third_party.RAFT.core.raft")
        self._raft = raft.RAFT(Namespace(small=False, mixed_precision=False, alternate_corr=False))
        state = weights.load_torch(checkpoint)
        self._raft.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
        self._raft.eval().requires_grad_(False).to(device)
        self._correlation = import_vbench("vbench.third_party.RAFT.core.corr").CorrBlock
        self._device, self._batch = device, batch
        self.signature = f"dynamic_degree|vbench{VERSION}|raft-things:{checkpoint.fingerprint}|8fps|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        if min(video.height, video.width) < 121:
            raise StgEvalError(
                f"{video.width}x{video.height} is too small for RAFT, whose flow is nan below 121 pixels a side"
            )
        self._size = self._batch or batch_size(video.height, video.width, self._device)
        self._interval = sampling_interval(video.fps)
        self._threshold = 6.0 * (min(video.height, video.width) / 256.0)
        self._expected = video.num_frames and -(-video.num_frames // self._interval)
        self._verdict: bool | None = None
        self._seen = self._sampled = self._scored = self._exceeding = 0
        self._waiting: list[np.ndarray] = []
        self._previous: tuple[Tensor, Tensor] | None = None
        self._judge()

    def update(self, frames: np.ndarray) -> None:
        first = -self._seen % self._interval
        for frame in frames[first :: self._interval]:
            self._sampled += 1
            if self._verdict is None:
                self._waiting.append(frame)
                if len(self._waiting) == self._size + (self._previous is None):
                    self._evaluate()
        self._seen += len(frames)

    def end(self) -> float:
        if self._verdict is None and self._waiting:
            self._evaluate()
        if self._verdict is None:
            return float(is_moving(self._scored, self._exceeding, self._sampled))
        if self._expected != self._sampled:
            raise StgEvalError("the header's frame count is wrong, and the verdict depends on it; re-encode the clip")
        return float(self._verdict)

    def _judge(self) -> None:
        """Stop as soon as the pairs to come cannot change the verdict."""
        if self._expected is None:
            return
        most = self._exceeding + self._expected - 1 - self._scored
        surely, possibly = (
            is_moving(self._expected - 1, exceeding, self._expected) for exceeding in (self._exceeding, most)
        )
        if surely == possibly:
            self._verdict = surely

    def _evaluate(self) -> None:
        import torch
        from torch.nn import functional as F

        images = to_tensor(np.stack(self._waiting), self._device)
        self._waiting = []
        with exact(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.meshgrid")
            images = F.pad(images, padding(*images.shape[-2:]), mode="replicate")
            maps = self._raft.fnet(2 * (images / 255.0) - 1.0)
            if self._previous is not None:
                images, maps = torch.cat([self._previous[0], images]), torch.cat([self._previous[1], maps])
            self._previous = images[-1:], maps[-1:]
            if len(images) < 2:
                return
            for pair, score in enumerate(mean_of_largest(self._flow(images[:-1], maps)).tolist()):
                if not abs(score - self._threshold) > MARGIN * self._threshold:  # also where the score is nan
                    score = self._official_score(images[pair : pair + 1], images[pair + 1 : pair + 2])
                self._scored += 1
                self._exceeding += score > self._threshold
        self._judge()

    def _flow(self, images: Tensor, maps: Tensor) -> Tensor:
        """Return Flow [n, 2, H, W] in pixels from images [n, 3, H, W] to the next ones; `maps` are the features of all
        n + 1.

        RAFT.forward in test mode, without the work whose results it throws away.
        """
        import torch

        raft, update = self._raft, self._raft.update_block
        correlation = self._correlation(maps[:-1], maps[1:], radius=raft.args.corr_radius)
        hidden, context = raft.cnet(2 * (images / 255.0) - 1.0).split([raft.hidden_dim, raft.context_dim], dim=1)
        hidden, context = torch.tanh(hidden), torch.relu(context)
        origin, target = raft.initialize_flow(images)
        for _ in range(ITERATIONS):
            motion = update.encoder(target - origin, correlation(target))
            hidden = update.gru(hidden, torch.cat([context, motion], dim=1))
            target = target + update.flow_head(hidden)
        flow: Tensor = raft.upsample_flow(target - origin, 0.25 * update.mask(hidden))
        return flow

    def _official_score(self, first: Tensor, second: Tensor) -> float:
        flow = self._raft(first, second, iters=ITERATIONS, test_mode=True)[1][0].permute(1, 2, 0).cpu().numpy()
        lengths = np.sqrt(np.square(flow[..., 0]) + np.square(flow[..., 1]))
        return float(np.mean(abs(np.sort(-lengths.flatten()))[: int(lengths.size * 0.05)]))


def sampling_interval(fps: float) -> int:
    """Return every how many frames one is looked at: 8 a second, as near as whole steps come."""
    return max(1, round(fps / 8))


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, right, top, bottom: to the next multiple of 8, the odd pixel at the far side (RAFT's
    InputPadder)."""
    down, across = -height % 8, -width % 8
    return across // 2, across - across // 2, down // 2, down - down // 2


def mean_of_largest(flow: Tensor) -> Tensor:
    """Map flow [n, 2, H, W] -> mean of the largest 5 % of its lengths, [n]."""
    lengths = flow.square().sum(1).sqrt().flatten(1)
    return lengths.topk(int(lengths.shape[1] * 0.05), sorted=False).values.mean(1)


def is_moving(pairs: int, exceeding: int, sampled: int) -> bool:
    """Return the official verdict from all pairs. Two sampled frames need 0 pairs, so they always move; one never
    does."""
    return pairs > 0 and exceeding >= round(4 * (sampled / 16.0))


def load(device: str) -> DynamicDegree:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return DynamicDegree(weights.require(RAFT), device)


CARD = MetricCard(
    name="dynamic_degree",
    title="Dynamic Degree",
    short="DD",
    higher_is_better=True,
    load=load,
    weights=(RAFT,),
    margin=0.05,  # one clip in twenty
    citations=(VBENCH, RAFT_PAPER),
    note=DIMENSION + " Each clip is 0 or 1 (moving), so intervals are wide.",
)
