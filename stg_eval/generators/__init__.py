"""Generators: requests in, frames out. One file or folder a model; each is named in MODELS.

A model is described by a light `Model` (no torch), which plans read, and loaded only when clips are made. Another
package adds models of its own by naming them in its metadata::

    [project.entry-points."stg_eval.models"]
    mine = "my_package:MODEL"
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from stg_eval.generators.model import DTYPES, Generator, Model, ModelCard, Preset, to_uint8, torch_dtype
from stg_eval.plug_ins import plug_ins
from stg_eval.types import StgEvalError

__all__ = [
    "DTYPES",
    "MODELS",
    "Generator",
    "Model",
    "ModelCard",
    "Preset",
    "card",
    "get",
    "models",
    "to_uint8",
    "torch_dtype",
]

MODELS: dict[str, str] = {
    "tiny": "stg_eval.generators.tiny.card",
    "tiny-weak": "stg_eval.generators.tiny.weak",
    "svd": "stg_eval.generators.svd",
    "mochi": "stg_eval.generators.mochi",
    "opensora": "stg_eval.generators.opensora.card",
    "ltx": "stg_eval.generators.ltx",
    "ltx13b": "stg_eval.generators.ltx13b",
    "ltx2": "stg_eval.generators.ltx2",
    "ltx23": "stg_eval.generators.ltx23",
    "cogvideox": "stg_eval.generators.cogvideox",
    "cogvideox-i2v": "stg_eval.generators.cogvideox_i2v",
    "wan": "stg_eval.generators.wan",
    "wan14b": "stg_eval.generators.wan14b",
    "wan22": "stg_eval.generators.wan22",
    "wan22-i2v": "stg_eval.generators.wan22_i2v",
    "hunyuan": "stg_eval.generators.hunyuan",
    "hunyuan15": "stg_eval.generators.hunyuan15",
}
"""Name -> module that defines MODEL (a `Model`); importing it must not import torch."""


def get(name: str) -> Model:
    """Return a model by name, from here or from another package. Raises StgEvalError with the nearest name for an
    unknown."""
    if name in MODELS:  # plug-ins are not even imported for a model of our own
        return importlib.import_module(MODELS[name]).MODEL  # type: ignore[no-any-return]
    if name in _plug_ins():
        return _plug_ins()[name]
    known = [*MODELS, *_plug_ins()]
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StgEvalError(f"unknown model {name!r}{hint} (known: {', '.join(known)})")


def models() -> list[Model]:
    """Return all models, those of other packages last."""
    return [get(name) for name in (*MODELS, *_plug_ins())]


def card(name: str) -> ModelCard:
    """Return the card of a model, see `get`."""
    return get(name).card


@cache
def _plug_ins() -> Mapping[str, Model]:
    def name_of(_: str, loaded: Any) -> str:
        if not isinstance(loaded, Model):
            raise TypeError(f"it is a {type(loaded).__name__}, not a stg_eval.generators.Model")
        return loaded.card.name

    return plug_ins("stg_eval.models", name_of, MODELS)
