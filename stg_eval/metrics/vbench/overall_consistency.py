"""Overall consistency and temporal style: similarity of a clip to its whole prompt in ViCLIP, a CLIP for video.

Source: vbench 0.1.5, vbench/overall_consistency.py and vbench/temporal_style.py, the same on other prompts.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, exact
from stg_eval.metrics.vbench.appearance_style import CLIP_VOCABULARY
from stg_eval.metrics.vbench.sampling import MiddleFrames
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Weight

VICLIP = Weight(
    name="viclip",
    needed_by="metrics overall_consistency, temporal_style",
    licence="not stated",
    size=1_710_000_000,
    repo="OpenGVLab/VBench_Used_Models",
    file="ViClip-InternVid-10M-FLT.pth",
)

FRAMES = 8

VICLIP_PAPER = """@inproceedings{wang2024internvid,
  title = {{InternVid}: A Large-scale Video-Text Dataset for Multimodal Understanding and Generation},
  author = {Wang, Yi and others},
  booktitle = {ICLR},
  year = {2024},
}"""


class PromptConsistency:
    """A `ClipScorer`: a cosine, about 0 to 0.4, higher is nearer to the prompt.

    Args:
        name: overall_consistency or temporal_style; they differ in their prompts alone.
    """

    def __init__(self, name: str, checkpoint: weights.Checkpoint, vocabulary: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.vbench.viclip import load_viclip

        self._network, self._vocabulary, self._device = load_viclip(checkpoint, device), vocabulary.path, device
        self.signature = f"{name}|vbench{VERSION}|viclip:{checkpoint.fingerprint}|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        if case is None or not case.wanted:
            raise StgEvalError("the similarity of a clip to its prompt needs a prompt")
        self._frames, self._prompt = MiddleFrames(FRAMES, video), case.wanted

    def update(self, frames: np.ndarray) -> None:
        self._frames.update(frames)

    def end(self) -> float:
        import torch
        from torch.nn import functional as F

        from stg_eval.metrics.vbench import clip

        # As grey levels, unlike the other CLIP dimensions: what the bicubic gives is rounded to whole ones.
        frames = torch.from_numpy(np.stack(self._frames.take())).permute(0, 3, 1, 2).to(self._device)
        ids = clip.tokens(self._vocabulary, self._prompt, self._network.num_tokens).to(self._device)
        with exact():
            video = self._network(clip.preprocess(frames))
            prompt = self._network.text(input_ids=ids).text_embeds
            return (F.normalize(video, dim=-1) @ F.normalize(prompt, dim=-1).T).item()


def load(name: str, device: str) -> PromptConsistency:
    """Return the scorer of one dimension with the official weights. Raises StgEvalError where they are missing."""
    return PromptConsistency(name, weights.require(VICLIP), weights.require(CLIP_VOCABULARY), device)


CARDS = tuple(
    MetricCard(
        name=name,
        title=title,
        short=short,
        higher_is_better=True,
        load=partial(load, name),
        limits=(-1.0, 1.0),
        needs_case=True,
        weights=(VICLIP, CLIP_VOCABULARY),
        margin=0.001,
        citations=(VBENCH, VICLIP_PAPER),
        note=DIMENSION + " A cosine, of which about 0.25 is usual.",
    )
    for name, title, short in (
        ("overall_consistency", "Overall Consistency", "OvC"),
        ("temporal_style", "Temporal Style", "TS"),
    )
)
