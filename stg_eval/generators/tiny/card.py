"""The embedded model's card: a class-conditional model of sprites, small enough to ship. Imports no torch.

Another one, unfinished, ships beside it: weak.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stg_eval.generators.guidance.layers import LayerMap, stack
from stg_eval.generators.model import Generator, Model, ModelCard, Preset
from stg_eval.generators.tiny.weights import EMBEDDED, WEIGHTS, embedded
from stg_eval.types import Guidance, JSONValue, StgEvalError

CARD = ModelCard(
    name="tiny",
    title="Tiny (embedded)",
    weights=embedded(WEIGHTS),
    task="class-to-video",
    height=16,
    width=16,
    num_frames=8,
    fps=8.0,
    num_inference_steps=16,
    dtype="float32",
    encoding="vp9-lossless",
    batch_size=32,
    presets={
        "none": Preset(Guidance.parse("none")),
        "cfg": Preset(Guidance.parse("cfg2")),
        "stg": Preset(Guidance.parse("cfg2+stg-a[6]t0.25")),  # MODEL_CARD.md
    },
    tflops_per_pass=0.00039,  # counted, see the tests
    num_layers=8,
)


class Tiny(Model):
    """The embedded model."""

    def load(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Generator:
        """Return the embedded model, or another checkpoint of `train.py`: `weights` is its path (.safetensors).

        Raises StgEvalError for weights that are neither, and for settings: this model has none.
        """
        from stg_eval.generators.tiny.generator import TinyGenerator

        if settings:
            raise StgEvalError(f"{self.card.name} has no settings; leave out {', '.join(settings)}")
        path = EMBEDDED.get(weights) or Path(weights)
        if path.suffix != ".safetensors" or not path.is_file():
            raise StgEvalError(
                f"no weights {weights!r} for {self.card.name}: leave weights out for the embedded ones, or give a "
                ".safetensors file that python -m stg_eval.generators.tiny.train wrote"
            )
        return TinyGenerator(path, self.layer_map, device=device, dtype=dtype)

    def around(self, live: Any, *, device: str, dtype: str) -> Generator:
        """See `Model.around`; `live` is a TinyDiT."""
        from stg_eval.generators.tiny.generator import TinyGenerator
        from stg_eval.generators.tiny.model import TinyDiT

        if not isinstance(live, TinyDiT):
            raise StgEvalError(f"tiny is a TinyDiT, not a {type(live).__name__}; give the bare network")
        return TinyGenerator(live, self.layer_map, device=device, dtype=dtype)


MODEL = Tiny(
    card=CARD,
    layer_map=LayerMap(
        model="tiny",
        layers=stack(spatial="spatial_blocks", temporal="temporal_blocks"),
        attention="attn",
        grid=lambda args, kwargs: (args[0].shape[2], args[0].shape[3] // 4, args[0].shape[4] // 4),
    ),
)
"""Layers count from 0; layer i is spatial_blocks.i and temporal_blocks.i."""
