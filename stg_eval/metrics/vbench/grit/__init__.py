"""GRiT (Wu et al., "A generative region-to-text transformer", ECCV 2024): boxes of objects with names and descriptions.

VBench's four dimensions of objects look through it. The package's own needs detectron2, which has no wheels; this one
stands on torchvision's operators and reads the same checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval import weights
from stg_eval.metrics.vbench.bert import read_words, to_text
from stg_eval.metrics.vbench.grit import captions
from stg_eval.metrics.vbench.grit.backbone import Backbone
from stg_eval.metrics.vbench.grit.boxes import BoxHeads, Proposals, pool

MEAN = (123.675, 116.280, 103.530)
STD = (58.395, 57.12, 57.375)
POOLED = 14
"""Steps a side of the features that the captioner reads."""


@dataclass(frozen=True)
class Detection:
    """One object of an image."""

    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in whole pixels."""
    name: str
    """Such as "person" or "dog"."""
    description: str
    """Such as "a brown dog on grass"; the name again where none was asked for."""


class Grit(nn.Module):
    """Detects in one image at a time."""

    def __init__(self, state: Mapping[str, Tensor], words: list[str]) -> None:
        super().__init__()
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            for prefix in ("backbone.", "proposal_generator.", "roi_heads.text_decoder.textual.", "roi_heads.box_"):
                if key.startswith(prefix):
                    name = key.removeprefix("roi_heads.") if prefix.endswith("box_") else key.removeprefix(prefix)
                    parts.setdefault(prefix, {})[name] = value.float()
        eyes, hands, mouth = (parts[p] for p in ("backbone.", "roi_heads.box_", "roi_heads.text_decoder.textual."))
        channels = len(eyes["fpn_stride16_conv1.weight"])
        positions, width = mouth["embedding.positions.weight"].shape
        layers = 1 + max(int(key.split(".")[3]) for key in mouth if key.startswith("transformer."))
        with torch.device("meta"):  # no time for random weights that are replaced at once
            self.backbone = Backbone(eyes)
            self.proposals = Proposals(channels)
            self.heads = BoxHeads(channels, len(hands["box_head.0.fc1.weight"]))
            self.captioner = captions.Captioner(channels, width, layers, len(mouth["output.bias"]), positions)
        self.backbone.load_state_dict(eyes, assign=True)
        self.proposals.load_state_dict(parts["proposal_generator."], assign=True)
        self.heads.load_state_dict(hands, assign=True)
        self.captioner.load_state_dict(mouth, assign=True)
        self.words = words

    def detect(self, image: Tensor, describe: bool) -> list[Detection]:
        """Map image float32 [3, H, W], RGB, 0 to 255, at its own size -> its objects, the surest first."""
        height, width = image.shape[-2:]
        mean, std = (torch.tensor(values, device=image.device).view(3, 1, 1) for values in (MEAN, STD))
        padded = F.pad((image - mean) / std, (0, -width % 32, 0, -height % 32))
        maps = self.backbone(padded[None])
        boxes = self.heads(maps, *self.proposals(maps), (height, width))
        if not len(boxes):
            return []
        features = pool(maps, boxes, POOLED)
        names = self.captioner(features, captions.NAME)
        descriptions = self.captioner(features, captions.DESCRIBE) if describe else names
        whole = [(int(a), int(b), int(c), int(d)) for a, b, c, d in boxes.tolist()]
        filled = (boxes[:, 2:] > boxes[:, :2]).all(1).tolist()
        return [
            Detection(box, to_text(name, self.words), to_text(text, self.words))
            for box, name, text, keep in zip(whole, names, descriptions, filled, strict=True)
            if keep
        ]


@lru_cache(maxsize=1)  # the four dimensions share it
def load_grit(checkpoint: weights.Checkpoint, vocabulary: Path, device: str) -> Grit:
    """Return the detector from the published files."""
    from stg_eval.metrics.linear import use_onednn

    state: Any = weights.load_torch(checkpoint)
    network = Grit(state.get("model", state), read_words(vocabulary))
    network = network.eval().requires_grad_(False).to(device)
    use_onednn(network, device)
    return network
