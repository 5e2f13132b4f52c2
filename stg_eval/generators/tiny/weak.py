"""The embedded model's weak sibling: a narrower network, stopped early. Imports no torch.

Guidance has something to mend here, and AutoGuidance a bad version of the finished model to go away from.
"""

from __future__ import annotations

from dataclasses import replace

from stg_eval.generators.model import Preset
from stg_eval.generators.tiny.card import CARD, MODEL
from stg_eval.generators.tiny.weights import WEAK, embedded
from stg_eval.types import Guidance

PRESETS = {  # MODEL_CARD.md
    "none": Preset(Guidance.parse("none")),
    "cfg": Preset(Guidance.parse("cfg2")),
    "stg": Preset(Guidance.parse("cfg2+stg-a[5]t1")),
}

MODEL = replace(
    MODEL,
    card=replace(
        CARD,
        name="tiny-weak",
        title="Tiny, unfinished (embedded)",
        weights=embedded(WEAK),
        presets=PRESETS,
        tflops_per_pass=0.00018,  # counted, see the tests
    ),
    layer_map=replace(MODEL.layer_map, model="tiny-weak"),
)
