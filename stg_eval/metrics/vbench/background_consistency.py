"""Background consistency: CLIP ViT-B/32 features of each frame against those of the first and of the previous one.

Source: vbench 0.1.5, vbench/background_consistency.py. The official code runs CLIP in float16 on a GPU and in float32
on a CPU; here it is float32 everywhere.
"""

from __future__ import annotations

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, exact, to_tensor
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case
from stg_eval.weights import Weight

CLIP_B_32 = Weight(
    name="clip-vit-b-32",
    needed_by="metrics background_consistency, appearance_style",
    licence="MIT",
    size=354_000_000,
    sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    url="https://openaipublic.azureedge.net/clip/models/"
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
    file="ViT-B-32.pt",
)

CLIP_PAPER = """@inproceedings{radford2021clip,
  title = {Learning Transferable Visual Models From Natural Language Supervision},
  author = {Radford, Alec and others},
  booktitle = {ICML},
  year = {2021},
}"""


class BackgroundConsistency:
    """A `ClipScorer`: 0 to 1, higher is steadier; nan for one frame."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.vbench.clip import load_b_32

        self._network, self._device = load_b_32(checkpoint, device), device
        self.signature = f"background_consistency|vbench{VERSION}|clip-vit-b-32:{checkpoint.fingerprint}|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        from stg_eval.metrics.vbench.consistency import Similarities

        self._similarities = Similarities()

    def update(self, frames: np.ndarray) -> None:
        from stg_eval.metrics.vbench.clip import BATCH, preprocess

        with exact():
            for start in range(0, len(frames), BATCH):
                images = preprocess(to_tensor(frames[start : start + BATCH], self._device))
                self._similarities.update(self._network(pixel_values=images).image_embeds)

    def end(self) -> float:
        from stg_eval.metrics.vbench.consistency import consistency

        return consistency(self._similarities)


def load(device: str) -> BackgroundConsistency:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return BackgroundConsistency(weights.require(CLIP_B_32), device)


CARD = MetricCard(
    name="background_consistency",
    title="Background Consistency",
    short="BC",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    weights=(CLIP_B_32,),
    margin=0.001,
    citations=(VBENCH, CLIP_PAPER),
    note=DIMENSION + " A still clip scores 1.",
)
