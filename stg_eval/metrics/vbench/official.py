"""The vbench package's own loops as scorers, for the sceptical: slow, and with nothing of ours inside.

`load` gives the same kind of scorer as the dimensions' own modules, so everything else of a run stays as it is.
"""

from __future__ import annotations

import importlib
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from stg_eval import weights
from stg_eval.metrics import registry
from stg_eval.metrics.vbench import VERSION, import_vbench
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError


class OfficialScorer:
    """A `ClipScorer` that looks at the file instead of the frames it is handed."""

    def __init__(self, name: str, score: Callable[[str], float], networks: list[weights.Checkpoint]) -> None:
        self._score = score
        digests = "".join(f"|{checkpoint.fingerprint}" for checkpoint in networks)
        self.signature = f"{name}|vbench{VERSION}{digests}|official"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        if video.path.suffix != ".mp4":
            raise StgEvalError(f"the official vbench reads only .mp4 files, not {video.path.suffix}")
        self._path = str(video.path)

    def update(self, frames: np.ndarray) -> None:
        pass

    def end(self) -> float:
        with _quiet():
            return self._score(self._path)


def load(name: str, device: str) -> OfficialScorer:
    """Return a dimension by the official code. Raises StgEvalError where vbench or the weights are missing."""
    if name not in LOADERS:
        raise StgEvalError(f"the official engine has no metric {name!r} (it has: {', '.join(LOADERS)})")
    networks = [weights.require(row) for row in registry.card(name).weights]
    with _quiet():
        return OfficialScorer(name, LOADERS[name](device, *(checkpoint.path for checkpoint in networks)), networks)


def _flickering(device: str) -> Callable[[str], float]:
    score: Callable[[str], float] = import_vbench("vbench.temporal_flickering").cal_score
    return score


def _smoothness(device: str, checkpoint: Path) -> Callable[[str], float]:
    import torch

    module = import_vbench("vbench.motion_smoothness")
    config = Path(module.__file__).parent / "third_party/amt/cfgs/AMT-S.yaml"
    # A torch.device, not a string: for the string "cuda" the input would be scaled by the GPU's memory.
    scorer = module.MotionSmoothness(str(config), str(checkpoint), torch.device(device))
    return lambda path: float(scorer.motion_score(path))


def _dynamics(device: str, checkpoint: Path) -> Callable[[str], float]:
    from easydict import EasyDict

    settings = {"model": str(checkpoint), "small": False, "mixed_precision": False, "alternate_corr": False}
    scorer = import_vbench("vbench.dynamic_degree").DynamicDegree(EasyDict(settings), device)
    return lambda path: float(scorer.infer(path))


def _imaging(device: str, checkpoint: Path) -> Callable[[str], float]:
    import torch

    module = import_vbench("vbench.imaging_quality")
    network = module.MUSIQ(pretrained=False)
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    network.to(device).training = False
    return lambda path: float(module.technical_quality(network, [path], device)[1][0]["video_results"]) / 100.0


def _aesthetics(device: str, clip: Path, head: Path) -> Callable[[str], float]:
    import torch

    from stg_eval.metrics.vbench.clip import read_vision

    try:
        importlib.import_module("clip")
    except ImportError:  # of openai-clip, or of the pkg_resources that it needs and setuptools no longer has
        # The module imports it only to load the network, which here is the same one through transformers.
        sys.modules["clip"] = types.ModuleType("clip")
    module = import_vbench("vbench.aesthetic_quality")
    linear = torch.nn.Linear(768, 1).to(device)
    linear.load_state_dict(torch.load(head, map_location=device, weights_only=True))
    network: Any = read_vision(clip).to(device)
    network.encode_image = lambda images: network(pixel_values=images).image_embeds
    return lambda path: float(module.laion_aesthetic(linear, network, [path], device)[1][0]["video_results"])


LOADERS: dict[str, Callable[..., Callable[[str], float]]] = {
    "temporal_flickering": _flickering,
    "motion_smoothness": _smoothness,
    "dynamic_degree": _dynamics,
    "imaging_quality": _imaging,
    "aesthetic_quality": _aesthetics,
}
"""Dimension -> what makes a function (path of a clip -> score) of the device and the paths of the card's weights."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Return the official code prints to stdout, which is for results, and draws a progress bar for every clip."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
