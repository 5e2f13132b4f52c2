"""Pebble: a text-to-video model that is small and random. Imports no torch: plans only read this."""

from __future__ import annotations

from collections.abc import Mapping

from stg_eval import Guidance
from stg_eval.generators import Generator, Model, ModelCard, Preset
from stg_eval.generators.guidance import LayerMap, stack


class Pebble(Model):
    def load(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, object]) -> Generator:
        from own_model.generator import PebbleGenerator

        return PebbleGenerator(self.layer_map, device=device, dtype=dtype)


MODEL = Pebble(
    card=ModelCard(
        name="pebble",
        title="Pebble (random)",
        weights="random-weights(seed=0)",
        task="text-to-video",
        height=32,
        width=48,
        num_frames=8,
        fps=8.0,
        num_inference_steps=4,
        dtype="float32",
        encoding="vp9-lossless",
        batch_size=4,
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg3")),
            "stg": Preset(Guidance.parse("cfg3+stg-a[2]w1")),
        },
        num_layers=4,
    ),
    layer_map=LayerMap(model="Pebble", layers=stack(joint="blocks"), attention="attn", streams=("x",)),
    size_multiple=8,
)
