"""Human action: does UMT see the prompt's action among its five best guesses, with at least 85 % confidence?

Source: vbench 0.1.5, vbench/human_action.py; network: Unmasked Teacher ViT-L/16 fine-tuned on Kinetics-400 (Li et al.,
ICCV 2023), 16 frames. The action is what follows "person is" in the prompt (officially in the file's name).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, exact, import_vbench
from stg_eval.metrics.vbench.sampling import MiddleFrames
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

UMT = Weight(
    name="umt-l16-k400",
    needed_by="metric human_action",
    licence="not stated",
    size=1_218_000_000,
    repo="OpenGVLab/VBench_Used_Models",
    file="l16_ptk710_ftk710_ftk400_f16_res224.pth",
)

CONFIDENCE = 0.85
"""Least probability of a guess that counts, after rounding to four digits."""

UMT_PAPER = """@inproceedings{li2023umt,
  title = {Unmasked Teacher: Towards Training-Efficient Video Foundation Models},
  author = {Li, Kunchang and others},
  booktitle = {ICCV},
  year = {2023},
}"""


class HumanAction:
    """A `ClipScorer`: 1 where the action is recognised, else 0."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.linear import use_onednn
        from stg_eval.metrics.vbench.umt import network

        self._network, self._device = network(weights.load_torch(checkpoint)).to(device), device
        use_onednn(self._network, device)
        self.signature = f"human_action|vbench{VERSION}|umt-l16-k400:{checkpoint.fingerprint}|16f|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        from stg_eval.metrics.vbench.umt import FRAMES

        self._action = action(case.wanted if case else "")
        if self._action not in actions():
            raise StgEvalError(
                f"human_action knows the {len(actions())} actions of Kinetics-400, and {self._action!r} is none of them"
            )
        self._frames = MiddleFrames(FRAMES, video)

    def update(self, frames: np.ndarray) -> None:
        self._frames.update(frames)

    def end(self) -> float:
        import torch

        from stg_eval.metrics.vbench.umt import preprocess

        clip = torch.stack([preprocess(frame) for frame in self._frames.take()], dim=1)
        with exact():
            logits = self._network(clip[None].to(self._device))
        return float(self._action in recognised(logits[0]))


def action(prompt: str) -> str:
    """ "A person is riding a bike" -> "riding a bike", cut at "-" and "_" as the official file names are."""
    return prompt.lower().split("-")[0].split("person is ")[-1].split("_")[0]


@cache
def actions() -> list[str]:
    """Return Kinetics-400's classes in the network's order, in lower case."""
    module = import_vbench("vbench.third_party.umt")
    lines = (Path(module.__file__).parent / "kinetics_400_categories.txt").read_text(encoding="utf-8").splitlines()
    by_number = {int(number): name.lower() for name, number in (line.strip().split("\t") for line in lines if line)}
    return [by_number[i] for i in range(len(by_number))]


def recognised(logits: Tensor) -> list[str]:
    """Map logits [400] -> the actions that count."""
    best = logits.sigmoid().topk(5)
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [actions()[index] for value, index in pairs if round(value, 4) >= CONFIDENCE]


def load(device: str) -> HumanAction:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return HumanAction(weights.require(UMT), device)


CARD = MetricCard(
    name="human_action",
    title="Human Action",
    short="HA",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    needs_case=True,
    weights=(UMT,),
    margin=0.05,  # one clip in twenty
    citations=(VBENCH, UMT_PAPER),
    note=DIMENSION + " Each clip is 0 or 1 (recognised), so intervals are wide.",
)
