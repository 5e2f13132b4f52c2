"""I2V subject: DINO features of a clip's frames against those of the image that it started from.

Source: vbench 0.1.5, vbench2_beta_i2v/i2v_subject.py; see `stg_eval.metrics.vbench.i2v` for the score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH_I2V, VERSION
from stg_eval.metrics.vbench.i2v import SIZE, Faithfulness
from stg_eval.metrics.vbench.subject_consistency import DINO, DINO_PAPER

if TYPE_CHECKING:
    from torch import Tensor

SHORTER = 256


def scorer(checkpoint: weights.Checkpoint, device: str) -> Faithfulness:
    """Return the scorer with DINO from that file."""
    from torchvision.transforms.functional import normalize

    from stg_eval.metrics.vbench.dino import MEAN, STD, load_dino

    dino = load_dino(checkpoint, device)

    def network(images: Tensor) -> Tensor:
        return dino(normalize(images, MEAN, STD))  # type: ignore[no-any-return]

    signature = f"i2v_subject|vbench{VERSION}|dino-vit-b-16:{checkpoint.fingerprint}|float32|v1"
    return Faithfulness(signature, network, fit, device)


def fit(picture: Any) -> Any:
    """Return the middle of the picture made smaller: bicubic, antialiased."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, resize

    return center_crop(resize(picture, SHORTER, interpolation=InterpolationMode.BICUBIC, antialias=True), SIZE)


def load(device: str) -> Faithfulness:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return scorer(weights.require(DINO), device)


CARD = MetricCard(
    name="i2v_subject",
    title="I2V Subject",
    short="I2V-S",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    needs_case=True,
    weights=(DINO,),
    margin=0.001,
    citations=(VBENCH_I2V, DINO_PAPER),
    note=DIMENSION + " Needs the image that each clip started from.",
)
