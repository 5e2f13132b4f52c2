"""Applies settings: `--set` and the suite change the defaults of a model's card, each in the type of its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from stg_eval import generators
from stg_eval.generators import ModelCard
from stg_eval.storage.video import check_format
from stg_eval.types import JSONValue, StgEvalError

REQUEST_SETTINGS = ("height", "width", "num_frames", "fps", "num_inference_steps", "dtype", "encoding")
"""Names that `--set` may change on any model; a model's card adds its own. Also: weights, batch_size."""

MOST_STEPS = 100_000
MOST_GIGABYTES = 64
"""Of one clip's frames: more would be an error of writing, which shows late where it is not refused."""


def chosen_card(card: ModelCard, chosen: Mapping[str, Any]) -> tuple[ModelCard, dict[str, JSONValue]]:
    """Give the card with its defaults changed, and the values of the model's own settings. Raises StgEvalError."""
    common = {name: getattr(card, name) for name in (*REQUEST_SETTINGS, "weights", "batch_size")}
    read = read_settings(card.name, {**common, **card.settings}, chosen)
    card = replace(card, **{name: read[name] for name in common})
    own = {name: read[name] for name in card.settings}
    for name in ("height", "width", "num_frames", "num_inference_steps", "batch_size", "fps"):
        if getattr(card, name) <= 0:
            raise StgEvalError(f"{name} must be larger than 0, not {getattr(card, name)}")
    if card.num_inference_steps > MOST_STEPS or card.batch_size > MOST_STEPS:
        raise StgEvalError(f"num_inference_steps and batch_size are at most {MOST_STEPS:,}")
    if (gigabytes := 3 * card.num_frames * card.height * card.width / 1e9) > MOST_GIGABYTES:
        raise StgEvalError(
            f"a clip of {card.num_frames:,} frames of {card.height} x {card.width} has {gigabytes:,.0f} GB, more than "
            f"{MOST_GIGABYTES}; choose less with --set"
        )
    if card.dtype not in generators.DTYPES:
        raise StgEvalError(f"dtype is one of {', '.join(generators.DTYPES)}, not {card.dtype!r}")
    check_format(card.encoding, card.fps, card.height, card.width)
    return card, own


def read_settings(
    owner: str, defaults: Mapping[str, JSONValue], chosen: Mapping[str, str | JSONValue]
) -> dict[str, Any]:
    """Put what `--set` chose in the place of the defaults, each in the type of its default.

    Raises StgEvalError for a name that `owner` does not have (with the nearest) and a value of another type.
    """
    for key in chosen:
        if key not in defaults:
            near = get_close_matches(key, defaults, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StgEvalError(f"{owner} has no setting {key!r}{hint} (known: {', '.join(defaults)})")
    return {**defaults, **{key: _like(key, raw, defaults[key]) for key, raw in chosen.items()}}


def typed(text: Any) -> Any:
    """Read `--set` text as a JSON value: numbers, true, false and null are read as such."""
    if not isinstance(text, str):
        return text
    named: dict[str, JSONValue] = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _like(key: str, raw: Any, default: JSONValue) -> JSONValue:
    """Give `raw` in the type of the default it replaces."""
    value: Any = typed(raw)
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int | float):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63  # nan is not
        if fits and isinstance(default, int):
            fits = value == int(value)
            value = int(value) if fits else value
        elif fits:
            value = float(value)
    elif isinstance(default, str):
        fits, value = True, str(raw)
    else:
        fits = True
    if not fits:
        raise StgEvalError(f"--set {key}={raw} does not fit: it is {type(default).__name__}, such as {default}")
    return value  # type: ignore[no-any-return]
