"""VBench's static filter: temporal flickering counts only clips that hold still, five of the 25 samples of a prompt.

Source: vbench 0.1.5, vbench/cli/static_filter.py. A pair's score is the mean of its largest 2 % of RAFT flow lengths
(padding included). A clip is static if at most round(2 n / 16) of its n frames' consecutive pairs exceed 3 pixels at
256, and neither first-to-last nor last-to-first exceeds that threshold times 2 round(2 n / 16). This loop stops at the
first pair that settles it.
"""

from __future__ import annotations

import warnings
from argparse import Namespace
from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import VBENCH, VERSION, exact, import_vbench, to_tensor
from stg_eval.metrics.vbench.dynamic_degree import ITERATIONS, RAFT, padding
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError

if TYPE_CHECKING:
    from torch import Tensor


class StaticFilter:
    """A `ClipScorer`: 1 for a clip that holds still, else 0."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str) -> None:
        raft = import_vbench("vbench.third_party.RAFT.core.raft")
        self._raft = raft.RAFT(Namespace(small=False, mixed_precision=False, alternate_corr=False))
        state = weights.load_torch(checkpoint)
        self._raft.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
        self._raft.eval().requires_grad_(False).to(device)
        self._device = device
        self.signature = f"static_filter|vbench{VERSION}|raft-things:{checkpoint.fingerprint}|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        if min(video.height, video.width) < 121:
            raise StgEvalError(
                f"{video.width}x{video.height} is too small for RAFT, whose flow is nan below 121 pixels a side"
            )
        self._threshold = 3.0 * (min(video.height, video.width) / 256.0)
        self._allowed = round(2 * (video.num_frames / 16.0)) if video.num_frames else None
        self._count = self._moved = 0
        self._first: np.ndarray | None = None
        self._last: np.ndarray | None = None

    def update(self, frames: np.ndarray) -> None:
        for frame in frames:
            self._count += 1
            if self._first is None or self._last is None:
                self._first = frame
            elif self._allowed is None or self._moved <= self._allowed:
                self._moved += self._score(self._last, frame) > self._threshold
            self._last = frame

    def end(self) -> float:
        if self._first is None or self._last is None:
            return float("nan")
        allowed = round(2 * (self._count / 16.0))
        if self._allowed is not None and self._allowed != allowed:
            raise StgEvalError("the header's frame count is wrong, and the verdict depends on it; re-encode the clip")
        if self._moved > allowed:
            return 0.0
        ends = ((self._first, self._last), (self._last, self._first))
        return float(not any(self._score(one, two) > 2 * allowed * self._threshold for one, two in ends))

    def _score(self, first: np.ndarray, second: np.ndarray) -> float:
        from torch.nn import functional as F

        with exact(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.meshgrid")
            images = to_tensor(np.stack([first, second]), self._device)
            images = F.pad(images, padding(*images.shape[-2:]), mode="replicate")
            flow: Tensor = self._raft(images[:1], images[1:], iters=ITERATIONS, test_mode=True)[1][0]
            lengths = flow.square().sum(0).sqrt().flatten()
            return lengths.topk(int(len(lengths) * 0.02), sorted=False).values.mean().item()


def load(device: str) -> StaticFilter:
    """Return the filter with the official weights. Raises StgEvalError where they are missing."""
    return StaticFilter(weights.require(RAFT), device)


CARD = MetricCard(
    name="static_filter",
    title="Static clips",
    short="Static",
    higher_is_better=None,
    load=load,
    weights=(RAFT,),
    needs_case=True,
    gated=False,  # it only says which clips another metric counts
    margin=0.05,
    citations=(VBENCH,),
    note="Share of clips that VBench's static filter passes; temporal flickering counts the first few of them.",
)
