"""Wan 2.1 14B: text to video. Not in the paper's tables. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from stg_eval.generators import wan
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="wan14b",
    needed_by="model wan14b",
    licence="Apache-2.0",
    size=80_400_000_000,
    repo="Wan-AI/Wan2.1-T2V-14B-Diffusers",
    files=wan.CHECKPOINT.files,
)

MODEL = replace(
    wan.MODEL,
    card=replace(
        wan.MODEL.card,
        name="wan14b",
        title="Wan 2.1 14B",
        weights=CHECKPOINT.source,
        tflops_per_pass=1678.4,
        num_layers=40,
    ),
    small=partial(wan.small, num_layers=40),
    checkpoints=(CHECKPOINT,),
)
