"""The terms of a guidance as data: what each does, when it acts, and how it prints. See `stg_eval.signature`."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Literal

from stg_eval.errors import StgEvalError
from stg_eval.methods import PREDICTIONS, SKIPS

Unit = Literal["", "s", "n"]


def number(x: float) -> str:
    """Return the shortest text that reads back as the same float, without a `+` that parse would split at."""
    return repr(float(x) + 0.0).removesuffix(".0").replace("e+", "e")


@dataclass(frozen=True)
class Moment:
    """Where in its run a step is."""

    step: int
    """0 is the first."""
    num_steps: int
    noise_level: float | None = None
    """Before the step, falling over the run; None where the scheduler does not tell."""


@dataclass(frozen=True)
class Window:
    """When a term acts: ``@0.1-0.9`` by fractions of the steps, ``@s2-5`` by steps, ``@n0.9-0.6`` by noise levels.

    By fractions, step i of N acts where start <= i / N < stop: the first step acts only if start is 0, the last one if
    stop is 1. By steps, start <= i < stop, from 0. By noise level, which falls, start >= level > stop.
    """

    start: float
    stop: float
    unit: Unit = ""

    def __post_init__(self) -> None:
        first, last = (self.stop, self.start) if self.unit == "n" else (self.start, self.stop)
        if not 0 <= first < last < math.inf or (not self.unit and last > 1):
            kind = {"": "fractions of the steps, 0 to 1", "s": "steps", "n": "noise levels, which fall"}[self.unit]
            raise StgEvalError(f"the window {self} goes from its first to its last moment, in {kind}")
        if self.unit == "s" and not (self.start.is_integer() and self.stop.is_integer()):
            raise StgEvalError(f"the window {self} counts steps, which are whole numbers")

    def __contains__(self, moment: Moment) -> bool:
        if self.unit == "n":
            assert moment.noise_level is not None
            return self.start >= moment.noise_level > self.stop
        at = moment.step if self.unit else moment.step / moment.num_steps
        return self.start <= at < self.stop

    def __str__(self) -> str:
        return f"@{self.unit}{number(self.start)}-{number(self.stop)}"


@dataclass(frozen=True)
class Piece:
    """A number within a window."""

    value: float
    window: Window


@dataclass(frozen=True)
class Restart:
    """Restart sampling (Alg. 3): on reaching noise level `low`, go back up to `high`, `repeats` times."""

    low: float
    high: float
    repeats: int

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high < math.inf or self.repeats < 0:
            raise StgEvalError(f"restart goes from a low noise level up to a higher one, not {self}")

    def __str__(self) -> str:
        return f"restart[{number(self.low)},{number(self.high)}]x{self.repeats}"


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Perturbs layers: in weak passes of the conditional prediction, or in the unconditional pass itself.

    Signature: ``<method>[<layers>]<scales>[@<window>]`` with a method of `stg_eval.methods.SKIPS`; layers in the
    model's published numbering or exact module paths; scales ``s<x>`` (spatial), ``t<y>`` (temporal), or ``w<z>`` (one
    weak pass that perturbs all of the layer, as joint attention needs); or ``u``: the unconditional pass of
    classifier-free guidance is the perturbed one, as Wan's skip-layer guidance has it. ``b<sigma>`` after them is the
    blur of seg, in tokens (left out: infinite, every query the mean one).
    """

    method: str
    layers: tuple[str, ...]
    spatial_scale: float = 0.0
    temporal_scale: float = 0.0
    joint_scale: float = 0.0
    unconditional: bool = False
    blur_sigma: float | None = None
    """Of seg: standard deviation of the Gaussian in tokens, None for infinite."""
    window: Window | None = None

    def __post_init__(self) -> None:
        scales = (self.spatial_scale, self.temporal_scale, self.joint_scale)
        if self.method not in SKIPS:
            raise StgEvalError(f"there is no skip method {self.method!r} (known: {', '.join(SKIPS)})")
        if not all(0 <= scale < math.inf for scale in scales):
            raise StgEvalError(f"guidance scales are finite and not negative, not {scales}")
        if not self.layers:
            raise StgEvalError(f"{self.method} needs a layer, for example {self.method}[8]s2t2")
        if any(not re.fullmatch(r"[\w.]+", layer) for layer in self.layers):
            raise StgEvalError(f"a layer is a number or a module path such as up_blocks.1, not {self.layers}")
        if self.joint_scale and (self.spatial_scale or self.temporal_scale):
            raise StgEvalError("use either w (one joint weak pass) or s and t (separate weak passes), not both")
        if self.unconditional and any(scales):
            raise StgEvalError("u perturbs the unconditional pass and has no scale of its own: leave out s, t and w")
        if self.blur_sigma is not None and (not SKIPS[self.method].blurs or not 0 < self.blur_sigma < math.inf):
            raise StgEvalError("b, the blur's standard deviation in tokens, belongs to seg and is above 0")

    def __str__(self) -> str:
        letters = (("s", self.spatial_scale), ("t", self.temporal_scale), ("w", self.joint_scale))
        scales = "".join(f"{letter}{number(scale)}" for letter, scale in letters if scale)
        blur = "" if self.blur_sigma is None else f"b{number(self.blur_sigma)}"
        scales = "u" if self.unconditional else scales or "w0"
        return f"{self.method}[{','.join(self.layers)}]{scales}{blur}{self.window or ''}"


@dataclass(frozen=True, kw_only=True)
class Auto:
    """AutoGuidance (arXiv 2406.02507): away from the prediction of a weaker checkpoint of the same model.

    Signature: ``auto[<weights>]w<scale>[@<window>]``; weights are ``owner/name@<commit>``, ``FILE@<first hex digits of
    its SHA-256>`` (so a signature says what was loaded), or ``random-weights(seed=N)``. The term is w (c - weaker c);
    the paper's own scale is w + 1.
    """

    weights: str
    scale: float
    window: Window | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise StgEvalError(f"guidance scales are finite and not negative, not {self.scale}")
        if not re.fullmatch(r"[^\[\]+]+@[0-9a-f]{8,64}|random-weights\([\w=,]+\)", self.weights):
            raise StgEvalError(
                f"auto names its weaker checkpoint as owner/name@commit, FILE@digest or random-weights(seed=N), not "
                f"{self.weights!r}; a digest is the first 8 or more hex digits of the file's SHA-256"
            )

    def __str__(self) -> str:
        return f"auto[{self.weights}]w{number(self.scale)}{self.window or ''}"


@dataclass(frozen=True, kw_only=True)
class Combine:
    """Combines conditional and unconditional prediction otherwise than u + g (c - u).

    Signature: ``<method>[<name>=<number>,...][@<window>]`` with a method of `stg_eval.methods.PREDICTIONS`, or
    ``guider:<Class>{json}``, a class of `diffusers.guiders` and its configuration without guidance_scale, which is
    cfg's. Outside its window CFG is as ever.
    """

    method: str
    """Name of a row, or "guider:<Class>"."""
    parameters: tuple[tuple[str, float], ...] = ()
    """Those that are not left to their defaults, in the row's order."""
    config: str = ""
    """Of a guider: canonical JSON."""
    window: Window | None = None

    def __post_init__(self) -> None:
        if self.method.startswith("guider:"):
            self._check_guider()
        elif self.method not in PREDICTIONS:
            known = ", ".join((*PREDICTIONS, "guider:<Class>"))
            raise StgEvalError(f"there is no prediction method {self.method!r} (known: {known})")
        known_parameters = () if self.config else tuple(PREDICTIONS[self.method].parameters)
        for name, value in self.parameters:
            if name not in known_parameters:
                have = f"it has {', '.join(known_parameters)}" if known_parameters else "it has none"
                raise StgEvalError(f"{self.method} has no parameter {name!r}; {have}")
            if not math.isfinite(value):
                raise StgEvalError(f"{self.method}: {name} is a finite number, not {value}")

    def _check_guider(self) -> None:
        try:
            config = json.loads(self.config)
        except (ValueError, RecursionError) as error:
            raise StgEvalError(
                f"{self.method} is followed by its configuration as JSON, {{}} for none: {error}"
            ) from error
        if not isinstance(config, dict) or "guidance_scale" in config:
            raise StgEvalError(f"{self.method} takes a JSON object without guidance_scale, which is cfg's number")
        object.__setattr__(self, "config", json.dumps(config, sort_keys=True, separators=(",", ":")))

    def __str__(self) -> str:
        listed = ",".join(f"{name}={number(value)}" for name, value in self.parameters)
        return f"{self.method}{self.config}{f'[{listed}]' if listed else ''}{self.window or ''}"
