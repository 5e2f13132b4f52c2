"""I2V background: DreamSim's embeddings of a clip's frames against that of the image that it started from.

Source: vbench 0.1.5, vbench2_beta_i2v/i2v_background.py; see `stg_eval.metrics.vbench.i2v` for the score. Pictures are
squeezed into a square, whatever their shape.
"""

from __future__ import annotations

from typing import Any

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH_I2V, VERSION
from stg_eval.metrics.vbench.i2v import SIZE, Faithfulness
from stg_eval.metrics.vbench.subject_consistency import DINO
from stg_eval.weights import Weight

DREAMSIM = Weight(
    name="dreamsim-ensemble",
    needed_by="metric i2v_background",
    licence="MIT",
    size=1_261_181_618,
    url="https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints/dreamsim_ensemble_checkpoint.zip",
    file="dreamsim_ensemble_checkpoint.zip",
)
DREAMSIM_PAPER = """@inproceedings{fu2023dreamsim,
  title = {{DreamSim}: Learning New Dimensions of Human Visual Similarity using Synthetic Data},
  author = {Fu, Stephanie and others},
  booktitle = {NeurIPS},
  year = {2023},
}"""


def scorer(own: weights.Checkpoint, ensemble: weights.Checkpoint, device: str) -> Faithfulness:
    """Return the scorer with DINO from its file and DreamSim's changes and other networks from theirs."""
    from stg_eval.metrics.vbench.dreamsim import load_dreamsim

    files = f"dino-vit-b-16:{own.fingerprint}|dreamsim-ensemble:{ensemble.fingerprint}"
    signature = f"i2v_background|vbench{VERSION}|{files}|float32|v1"
    return Faithfulness(signature, load_dreamsim(own, ensemble, device), fit, device)


def fit(picture: Any) -> Any:
    """Return the whole picture as a square: bicubic, antialiased."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize

    return resize(picture, [SIZE, SIZE], interpolation=InterpolationMode.BICUBIC, antialias=True)


def load(device: str) -> Faithfulness:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return scorer(weights.require(DINO), weights.require(DREAMSIM), device)


CARD = MetricCard(
    name="i2v_background",
    title="I2V Background",
    short="I2V-B",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    needs_case=True,
    weights=(DINO, DREAMSIM),
    margin=0.001,
    citations=(VBENCH_I2V, DREAMSIM_PAPER),
    note=DIMENSION + " Needs the image that each clip started from.",
)
