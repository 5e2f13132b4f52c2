"""VBench's dimensions: the official networks, with loops of our own that give the official scores.

Definitions: vbench 0.1.5 (Huang et al., CVPR 2024, arXiv 2311.17982). Here is what the dimensions share.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval.types import StgEvalError

if TYPE_CHECKING:
    import torch

VERSION = "0.1.5"
"""Of vbench, whose definitions these are."""
DIMENSION = "VBench's own definition and networks, printed from 0 to 1 as in the paper."
"""How the note on a dimension's card begins."""
VBENCH = """@inproceedings{huang2024vbench,
  title = {{VBench}: Comprehensive Benchmark Suite for Video Generative Models},
  author = {Huang, Ziqi and others},
  booktitle = {CVPR},
  year = {2024},
}"""
VBENCH_I2V = """@article{huang2024vbenchplusplus,
  title = {{VBench++}: Comprehensive and Versatile Benchmark Suite for Video Generative Models},
  author = {Huang, Ziqi and others},
  journal = {arXiv preprint arXiv:2411.13503},
  year = {2024},
}"""
"""BibTeX of the dimensions' definitions."""


def import_vbench(module: str) -> Any:
    """Return a module of the vbench package, without its side effect on the root logger and its warnings of old
    imports."""
    if find_spec("vbench") is None:
        raise StgEvalError(f"vbench is not installed; get it with: pip install --no-deps vbench=={VERSION}")
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def to_tensor(frames: np.ndarray, device: str) -> torch.Tensor:
    """Map frames uint8 [t, H, W, 3] -> float32 [t, 3, H, W] with values 0 to 255, on the device."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(frames))
    if device.startswith("cuda"):  # from pinned memory the copy does not wait for the GPU
        pixels = pixels.pin_memory()
    pixels = pixels.to(device, non_blocking=True)
    # Contiguous: with channels last, convolutions round differently than in the official loops.
    return pixels.permute(0, 3, 1, 2).float().contiguous()


def batch_size(height: int, width: int, device: str) -> int:
    """Return frames or frame pairs of one forward pass. It moves no score beyond rounding."""
    if device == "cpu":
        return 1  # a core is busy with one; larger batches only leave its cache
    return max(1, min(32, 16 * 256 * 256 // (height * width)))


@contextmanager
def exact() -> Iterator[None]:
    """Return Inference in full float32: on a GPU, TensorFloat-32 would make scores depend on the batch size."""
    import torch

    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
