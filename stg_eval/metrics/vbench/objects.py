"""Object class, multiple objects, colour and spatial relationship: does GRiT find what the prompt names?

Sources: vbench 0.1.5, vbench/object_class.py, multiple_objects.py, color.py and spatial_relationship.py, with their
peculiarities: 16 frames, those of short clips repeated; frames above 768 pixels made smaller, by OpenCV for colour and
by torch for the others; colours count only where the frame's surest object is the one asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, exact
from stg_eval.metrics.vbench.prompts import auxiliary
from stg_eval.metrics.vbench.sampling import MiddleFrames
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

    from stg_eval.metrics.vbench.grit import Detection

GRIT = Weight(
    name="grit-b-densecap-objectdet",
    needed_by="metrics object_class, multiple_objects, color, spatial_relationship",
    licence="MIT",
    size=918_000_000,  # of its tensors, which is about what people report
    url="https://datarelease.blob.core.windows.net/grit/models/grit_b_densecap_objectdet.pth",
    file="grit_b_densecap_objectdet.pth",
)

BERT_VOCABULARY = Weight(
    name="bert-vocabulary",
    needed_by="metrics object_class, multiple_objects, color, spatial_relationship, scene",
    licence="Apache-2.0",
    size=231_508,
    repo="google-bert/bert-base-uncased",
    file="vocab.txt",
)

FRAMES, LARGEST, SHRUNK = 16, 768, 720
COLORS = ("white", "red", "pink", "blue", "silver", "purple", "orange", "green", "gray", "yellow", "black", "grey")
OVERLAP = 0.1
"""IoU of two objects from which their relationship counts less than 1."""

Frames = list[list["Detection"]]
"""The detections of each frame, the surest first."""

GRIT_PAPER = """@article{wu2022grit,
  title = {{GRiT}: A Generative Region-to-text Transformer for Object Understanding},
  author = {Wu, Jialian and others},
  journal = {arXiv preprint arXiv:2212.00280},
  year = {2022},
}"""


class ObjectScorer:
    """A `ClipScorer`: 0 to 1, the share of frames that show what the prompt says; nan where there is nothing to judge.

    Args:
        name: The dimension.
        judge: What is looked for (VBench's auxiliary info, and the prompt) and the frames' detections -> score.
    """

    def __init__(
        self,
        name: str,
        judge: Callable[[dict[str, Any], str, Frames], float],
        checkpoint: weights.Checkpoint,
        vocabulary: weights.Checkpoint,
        device: str,
    ) -> None:
        from stg_eval.metrics.vbench.grit import load_grit

        self._name, self._judge, self._device = name, judge, device
        self._network = load_grit(checkpoint, vocabulary.path, device)
        self.signature = f"{name}|vbench{VERSION}|grit-b:{checkpoint.fingerprint}|16f|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self._wanted, self._prompt = auxiliary(self._name, case), case.wanted if case else ""
        self._frames = MiddleFrames(FRAMES, video)

    def update(self, frames: np.ndarray) -> None:
        self._frames.update(frames)

    def end(self) -> float:
        frames = self._frames.take()
        found: dict[int, list[Detection]] = {}  # a frame that stands for several is looked at once
        for frame in frames:
            if id(frame) not in found:
                with exact():
                    image = prepare(frame, by_opencv=self._name == "color").to(self._device)
                    found[id(frame)] = self._network.detect(image, describe=self._name == "color")
        return self._judge(self._wanted, self._prompt, [found[id(frame)] for frame in frames])


def prepare(frame: np.ndarray, by_opencv: bool) -> Tensor:
    """Map frame uint8 [H, W, 3] -> float32 [3, H', W'], 0 to 255, the shorter side 720 where it exceeds 768 pixels."""
    import cv2
    import torch
    from torchvision.transforms.functional import resize

    height, width = frame.shape[:2]
    scale = SHRUNK / min(height, width)
    size = (int(scale * height), int(scale * width)) if min(height, width) > LARGEST else (height, width)
    if by_opencv and size != (height, width):
        frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
    image = torch.from_numpy(frame).permute(2, 0, 1).float()
    return image if image.shape[1:] == size else resize(image, list(size), antialias=True)


def judge_objects(wanted: dict[str, Any], prompt: str, frames: Frames) -> float:
    """Return share of frames with all of "person" or of "bird and cat"."""
    objects = [name.strip() for name in wanted["object"].split(" and ")]
    return float(np.mean([all(o in {d.name for d in frame} for o in objects) for frame in frames]))


def judge_color(wanted: dict[str, Any], prompt: str, frames: Frames) -> float:
    """Return Of the frames that show the object in any colour, the share that shows it in the right one."""
    color = wanted["color"]
    thing = prompt.replace("a ", "").replace("an ", "").replace(color, "").strip()
    texts = [[d.description for d in frame] for frame in frames if frame and frame[0].name == thing]
    colored = sum(any(c in text for text in frame for c in COLORS) for frame in texts)
    right = sum(any(color in text for text in frame) for frame in texts)
    return right / colored if colored else float("nan")


def judge_relationship(wanted: dict[str, Any], prompt: str, frames: Frames) -> float:
    """Return mean over frames of the best pair of objects' agreement with, for example, "on the left of"."""
    relation = wanted["spatial_relationship"]
    objects = relation["object_a"], relation["object_b"]
    best = []
    for frame in frames:
        boxes = [d.box for d in frame if d.name in objects]
        best.append(max((agreement(relation["relationship"], *pair) for pair in combinations(boxes, 2)), default=0.0))
    return float(np.mean(best))


def agreement(relationship: str, one: tuple[int, ...], two: tuple[int, ...]) -> float:
    """Return 1 where two boxes lie rather beside (left, right) or rather above each other (top, bottom), else 0; less
    where they overlap. Which is on which side does not matter, as in the official code."""
    across, down = (abs(two[i] + two[i + 2] - one[i] - one[i + 2]) / 2 for i in (0, 1))
    sides = (max(0, min(one[i + 2], two[i + 2]) - max(one[i], two[i])) for i in (0, 1))
    shared = next(sides) * next(sides)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)) - shared
    overlap = shared / union if union else 0.0
    beside = relationship in ("on the right of", "on the left of")
    if not (across > down if beside else down > across):
        return 0.0
    return 1.0 if overlap < OVERLAP else OVERLAP / overlap


JUDGES = {
    "object_class": judge_objects,
    "multiple_objects": judge_objects,
    "color": judge_color,
    "spatial_relationship": judge_relationship,
}


def load(name: str, device: str) -> ObjectScorer:
    """Return the scorer of one dimension with the official weights. Raises StgEvalError where they are missing."""
    return ObjectScorer(name, JUDGES[name], weights.require(GRIT), weights.require(BERT_VOCABULARY), device)


CARDS = tuple(
    MetricCard(
        name=name,
        title=title,
        short=short,
        higher_is_better=True,
        load=partial(load, name),
        limits=(0.0, 1.0),
        needs_case=True,
        weights=(GRIT, BERT_VOCABULARY),
        margin=0.02,
        citations=(VBENCH, GRIT_PAPER),
        note=DIMENSION + note,
    )
    for name, title, short, note in (
        ("object_class", "Object Class", "OC", ""),
        ("multiple_objects", "Multiple Objects", "MO", ""),
        ("color", "Color", "Col", " Clips in which the object is not found in any colour have no value."),
        ("spatial_relationship", "Spatial Relationship", "SR", ""),
    )
)
