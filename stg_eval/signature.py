"""Guidance as data, and the signature that says it in one line: ``cfg4.5+stg-r[35]w1@0.1-0.9``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stg_eval.errors import StgEvalError
from stg_eval.methods import PREDICTIONS, SKIPS
from stg_eval.terms import Auto, Combine, Moment, Piece, Restart, Skip, Window, number


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How predictions are combined. `str()` gives the signature, `Guidance.parse` reads it back.

    Signature: terms joined by ``+``: ``cfg<g>``, then any of a `Skip` (several are added up), an `Auto`, a `Combine`,
    ``rescale<r>``, ``orth`` and ``restart[<low>,<high>]x<n>``. All but the last two may end in a `Window`,
    outside of which the term is off (``cfg1`` means no classifier-free guidance). cfg and rescale may come several
    times with windows that do not overlap. A list is short for that: ``cfg6,8,6@n0.99-0.98-0.97-0.9`` is
    ``cfg6@n0.99-0.98+cfg8@n0.98-0.97+cfg6@n0.97-0.9``; so with the scales of a skip.
    """

    cfg_scale: float = 1.0
    """Where the scale changes over the run: the one farthest from 1, which the pipeline is told."""
    cfg_pieces: tuple[Piece, ...] = ()
    """The scale within windows; empty where it holds for the whole run."""
    skips: tuple[Skip, ...] = ()
    auto: Auto | None = None
    combine: Combine | None = None
    rescale: float = 0.0
    """0 is off, 1 is the full per-sample standard deviation of the conditional prediction (Alg. 4). Where it changes
    over the run: the largest."""
    rescale_pieces: tuple[Piece, ...] = ()
    orthogonal: bool = False
    """Remove the part of the temporal term that lies along the spatial one (Eq. 21, Alg. 5)."""
    restart: Restart | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.cfg_scale < math.inf:
            raise StgEvalError(f"guidance scales are finite and not negative, not {self.cfg_scale}")
        if not 0 <= self.rescale <= 1:
            raise StgEvalError(f"rescale is between 0 and 1, not {self.rescale:g}")
        for name, largest, pieces in (
            ("cfg", self.cfg_scale, self.cfg_pieces),
            ("rescale", self.rescale, self.rescale_pieces),
        ):
            _check_pieces(name, largest, pieces)
        if self.orthogonal and not any(skip.spatial_scale and skip.temporal_scale for skip in self.skips):
            raise StgEvalError("orth needs both a spatial and a temporal scale, for example stg-a[8]s2t2+orth")
        if self.cfg_scale == 1:
            for term in (*(skip for skip in self.skips if skip.unconditional), *filter(None, [self.combine])):
                raise StgEvalError(f"{term} acts on the unconditional prediction, which cfg1 does without")

    # ---- what it says at a moment of the run

    def cfg_at(self, moment: Moment | None) -> float:
        """Return the CFG scale of a step; 1 is off."""
        return _at(self.cfg_scale, self.cfg_pieces, moment, off=1.0)

    def rescale_at(self, moment: Moment | None) -> float:
        """Return the rescale of a step; 0 is off."""
        return _at(self.rescale, self.rescale_pieces, moment, off=0.0)

    def windows(self) -> list[Window]:
        """Return all windows of its terms."""
        terms: list[Any] = [*self.cfg_pieces, *self.rescale_pieces, *self.skips]
        terms += filter(None, [self.auto, self.combine])
        return [term.window for term in terms if term.window is not None]

    # ---- the skip where there is one, the first of several

    @property
    def method(self) -> str | None:
        return self.skips[0].method if self.skips else None

    @property
    def layers(self) -> tuple[str, ...]:
        return self.skips[0].layers if self.skips else ()

    @property
    def spatial_scale(self) -> float:
        return self.skips[0].spatial_scale if self.skips else 0.0

    @property
    def temporal_scale(self) -> float:
        return self.skips[0].temporal_scale if self.skips else 0.0

    @property
    def joint_scale(self) -> float:
        return self.skips[0].joint_scale if self.skips else 0.0

    # ---- the signature

    def __str__(self) -> str:
        parts: list[str] = [f"cfg{number(p.value)}{p.window}" for p in self.cfg_pieces]
        parts = parts or [f"cfg{number(self.cfg_scale)}"]
        parts += map(str, self.skips)
        parts += map(str, filter(None, [self.auto, self.combine]))
        rescales = [f"rescale{number(p.value)}{p.window}" for p in self.rescale_pieces]
        parts += rescales or ([f"rescale{number(self.rescale)}"] if self.rescale else [])
        parts += ["orth"] if self.orthogonal else []
        parts += [str(self.restart)] if self.restart else []
        return "+".join(parts)

    @classmethod
    def parse(cls, text: str) -> Guidance:
        """Read a signature such as ``cfg7+stg-a[11]s2t2``. Raises StgEvalError that names the part it cannot read."""
        found: dict[str, Any] = {"skips": []}
        for part in _split(text.strip()):
            try:
                read = _term(*_windows(part))
            except StgEvalError as error:
                raise StgEvalError(f"{part!r} in guidance {text!r}: {error}") from None
            if read is None:
                raise StgEvalError(f"cannot read {part!r} in guidance {text!r}; write it like cfg7+stg-a[11]s2t2")
            found["skips"] += read.pop("skips", [])
            for name, value in read.items():
                if name in found and not (name.endswith("_pieces") and found[name] and value):
                    raise StgEvalError(f"guidance {text!r} says {name.removesuffix('_pieces')} twice; say it once")
                found[name] = (*found.get(name, ()), *value) if name.endswith("_pieces") else value
        for pieces, value, off in (("cfg_pieces", "cfg_scale", 1.0), ("rescale_pieces", "rescale", 0.0)):
            if found.get(pieces):
                found[value] = _largest(found[pieces], off)
        return cls(**{**found, "skips": tuple(found["skips"])})


def _at(value: float, pieces: Sequence[Piece], moment: Moment | None, off: float) -> float:
    if not pieces:
        return value
    assert moment is not None
    return next((piece.value for piece in pieces if moment in piece.window), off)


def _largest(pieces: Sequence[Piece], off: float) -> float:
    return max((piece.value for piece in pieces), key=lambda value: abs(value - off))


def _check_pieces(name: str, value: float, pieces: Sequence[Piece]) -> None:
    if pieces and value not in (piece.value for piece in pieces):
        raise StgEvalError(f"{name} is {value:g}, and none of its pieces is")
    if len({piece.window.unit for piece in pieces}) > 1:
        raise StgEvalError(f"the windows of {name} are in one unit: fractions, steps (s) or noise levels (n)")
    spans = sorted(sorted((piece.window.start, piece.window.stop)) for piece in pieces)
    for (_, stop), (start, _) in pairwise(spans):
        if start < stop:
            raise StgEvalError(f"the windows of {name} overlap at {start:g}; a moment has one {name}")


_NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"
_LIST = rf"({_NUMBER}(?:,{_NUMBER})*)"
_SKIP = re.compile(rf"({'|'.join(SKIPS)})\[([\w.,]+)\](?:(u)|(?:s{_LIST})?(?:t{_LIST})?(?:w{_LIST})?)(?:b({_NUMBER}))?")
_COMBINE = re.compile(rf"({'|'.join(PREDICTIONS)})(?:\[(\w+=-?{_NUMBER}(?:,\w+=-?{_NUMBER})*)\])?")


def _split(text: str) -> list[str]:
    """Return the terms: text at each `+` that stands in no bracket, brace or JSON string."""
    parts, depth, quoted, escaped = [""], 0, False, False
    for letter in text:
        if letter == '"' and not escaped:
            quoted = not quoted
        escaped = letter == "\\" and not escaped
        if not quoted:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "+" and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _windows(part: str) -> tuple[str, list[Window | None]]:
    """A term without its window, and the window: one for each value of the term, [None] where it has none."""
    m = re.fullmatch(rf"(.*)@([sn]?)({_NUMBER}(?:-{_NUMBER})+)", part, re.DOTALL)
    if not m:
        return part, [None]
    bounds = [float(bound) for bound in re.findall(_NUMBER, m[3])]
    return m[1], [Window(a, b, m[2]) for a, b in pairwise(bounds)]  # type: ignore[arg-type]


def _values(text: str | None, windows: Sequence[Window | None]) -> list[float]:
    """Return the numbers of a list, one for each window; a single one holds for all."""
    values = [float(value) for value in (text or "0").split(",")]
    if len(values) > 1 and windows == [None]:
        raise StgEvalError(
            f"a list needs a window with its bounds, such as {text}@" + "-".join("0" * len(values)) + "-1"
        )
    if len(values) not in (1, len(windows)):
        raise StgEvalError(f"{len(values)} values need {len(values) + 1} bounds, and the window has {len(windows) + 1}")
    return values * (len(windows) // len(values))


def _term(body: str, windows: list[Window | None]) -> dict[str, Any] | None:
    """What one term says, as arguments of `Guidance`; None if it cannot be read."""
    if m := re.fullmatch(rf"(cfg|rescale){_LIST}", body):
        values, name = _values(m[2], windows), m[1]
        if windows == [None]:
            return {"cfg_scale" if name == "cfg" else name: values[0], f"{name}_pieces": ()}
        return {f"{name}_pieces": tuple(map(Piece, values, windows))}  # type: ignore[arg-type]
    if m := _SKIP.fullmatch(body):
        names = ("spatial_scale", "temporal_scale", "joint_scale")
        scales = zip(*(_values(text, windows) for text in m.groups()[3:6]), strict=True)
        common: dict[str, Any] = {"method": m[1], "layers": tuple(m[2].split(",")), "unconditional": bool(m[3])}
        common["blur_sigma"] = float(m[7]) if m[7] else None
        return {
            "skips": [
                Skip(**common, **dict(zip(names, row, strict=True)), window=window)
                for row, window in zip(scales, windows, strict=True)
            ]
        }
    if len(windows) == 1:
        if m := re.fullmatch(rf"auto\[([^\[\]+]+)\]w({_NUMBER})", body):
            return {"auto": Auto(weights=m[1], scale=float(m[2]), window=windows[0])}
        if m := _COMBINE.fullmatch(body):
            pairs = [pair.split("=") for pair in m[2].split(",")] if m[2] else []
            order = list(PREDICTIONS[m[1]].parameters)
            given = [(name, float(value)) for name, value in pairs]
            known = sorted(given, key=lambda pair: order.index(pair[0]) if pair[0] in order else -1)
            return {"combine": Combine(method=m[1], parameters=tuple(known), window=windows[0])}
        if m := re.fullmatch(r"(guider:\w+)(\{.*\})", body, re.DOTALL):
            return {"combine": Combine(method=m[1], config=m[2], window=windows[0])}
    if windows != [None]:
        return None
    if body == "none":
        return {"cfg_scale": 1.0, "cfg_pieces": ()}
    if body == "orth":
        return {"orthogonal": True}
    if m := re.fullmatch(rf"restart\[({_NUMBER}),({_NUMBER})\]x(\d+)", body):
        return {"restart": Restart(float(m[1]), float(m[2]), int(m[3]))}
    return None
