"""Scene: does Tag2Text's caption of a frame hold every word of the scene in the prompt, such as "amusement park"?

Source: vbench 0.1.5, vbench/scene.py, with two of its peculiarities. The decoder itself scales frames to 384 x 384, so
they are read from the file here. And with the transformers that VBench pins, the caption of frame k of 16 is made from
the image of frame k // 3: three beams are spread over images twice. So six images decide, the last of them once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, exact
from stg_eval.metrics.vbench.objects import BERT_VOCABULARY
from stg_eval.metrics.vbench.prompts import auxiliary
from stg_eval.metrics.vbench.sampling import middle_indices
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

TAG2TEXT = Weight(
    name="tag2text-swin-14m",
    needed_by="metric scene",
    licence="Apache-2.0",
    size=4_480_000_000,
    url="https://huggingface.co/spaces/xinyu1205/recognize-anything/resolve/main/tag2text_swin_14m.pth",
    file="tag2text_swin_14m.pth",
)

FRAMES, CAPTIONS_AN_IMAGE = 16, 3

TAG2TEXT_PAPER = """@inproceedings{huang2024tag2text,
  title = {{Tag2Text}: Guiding Vision-Language Model via Image Tagging},
  author = {Huang, Xinyu and others},
  booktitle = {ICLR},
  year = {2024},
}"""


class Scene:
    """A `ClipScorer`: 0 to 1, the share of captions that name the scene."""

    def __init__(self, checkpoint: weights.Checkpoint, vocabulary: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.linear import use_onednn
        from stg_eval.metrics.vbench.tag2text import Tag2Text

        state: Any = weights.load_torch(checkpoint)
        network = Tag2Text(state.get("model", state), vocabulary.path).eval().requires_grad_(False)
        self._network, self._device = network.to(device), device
        use_onednn(self._network, device)
        self.signature = f"scene|vbench{VERSION}|tag2text-swin-14m:{checkpoint.fingerprint}|16f|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self._words = auxiliary("scene", case)["scene"]["scene"].split(" ")
        if not video.path.is_file() or not video.num_frames:
            raise StgEvalError(
                "scene reads its frames from the clip's file, at the size to which the decoder scales them"
            )
        self._path, self._expected, self._seen = video.path, video.num_frames, 0

    def update(self, frames: np.ndarray) -> None:
        self._seen += len(frames)

    def end(self) -> float:
        if self._seen != self._expected:
            raise StgEvalError("the header's frame count is wrong, and the score depends on it; re-encode the clip")
        used = middle_indices(FRAMES, self._seen)[: -(-FRAMES // CAPTIONS_AN_IMAGE)]
        frames = read_scaled(self._path, set(used))
        shows = {}
        for index, frame in frames.items():
            with exact():
                caption = self._network.caption(preprocess(frame).to(self._device))
            shows[index] = all(word in caption for word in self._words)
        return float(np.mean([shows[used[k // CAPTIONS_AN_IMAGE]] for k in range(FRAMES)]))


def read_scaled(path: Path, indices: set[int]) -> dict[int, np.ndarray]:
    """Return frames uint8 [384, 384, 3], RGB, scaled while they are decoded: bit for bit what decord gives for that
    size."""
    import av

    from stg_eval.metrics.vbench.tag2text import SIZE

    found = {}
    with av.open(str(path)) as container:
        stream: Any = container.streams.best("video")
        graph = av.filter.Graph()
        steps = [
            graph.add_buffer(template=stream),
            graph.add("scale", f"{SIZE}:{SIZE}:flags=bilinear"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*steps).configure()
        frame: Any
        for index, frame in enumerate(container.decode(stream)):
            if index in indices:
                graph.push(frame)
                found[index] = graph.pull().to_ndarray()
            if len(found) == len(indices):
                break
    return found


def preprocess(frame: np.ndarray) -> Tensor:
    """Map frame uint8 [384, 384, 3] -> Tag2Text's input [3, 384, 384]."""
    import torch
    from torchvision.transforms.functional import normalize

    from stg_eval.metrics.vbench.dino import MEAN, STD

    out: Tensor = normalize(torch.from_numpy(frame).permute(2, 0, 1).float().div(255), MEAN, STD)
    return out


def load(device: str) -> Scene:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return Scene(weights.require(TAG2TEXT), weights.require(BERT_VOCABULARY), device)


CARD = MetricCard(
    name="scene",
    title="Scene",
    short="Scn",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    needs_case=True,
    weights=(TAG2TEXT, BERT_VOCABULARY),
    margin=0.02,
    citations=(VBENCH, TAG2TEXT_PAPER),
    note=DIMENSION + " Captions of six of the clip's frames decide.",
)
