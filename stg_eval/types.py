"""The nouns of stg-eval: Case, Guidance, Request, Clip, Score. Frozen, hashable, to JSON."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

Method = Literal["stg-a", "stg-r", "stg-i", "seg"]
JSONValue = str | int | float | bool | None

PIXELLESS: dict[str, JSONValue] = {"offload": "none"}
"""Settings that say how a clip is made and change no pixel of it, each with the value that stands in every key."""


class StgEvalError(Exception):
    """Something the user can mend: one clear line that says what to do. The command line exits with `exit_code`."""

    exit_code = 2


def check_text(text: str) -> str:
    """The text itself. Raises StgEvalError for one that no UTF-8 file can hold: with half a surrogate pair, as broken
    escapes and file names in another encoding have."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StgEvalError(f"{text[:60]!a} is no UTF-8 text ({text[error.start]!a}); replace or rename it") from error
    return text


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to show a model."""

    id: str
    """Name inside its suite, stable between runs."""
    prompt: str = ""
    negative_prompt: str = ""
    image: str | None = None
    """Path of the first frame, for image-to-video models."""
    image_sha256: str | None = None
    """Digest of the image file, needed with `image`; identifies it in `Request.key`, wherever the file lies."""
    label: int | None = None
    """Class label, for class-conditional models and per-class analysis."""
    tags: tuple[str, ...] = ()
    """Suite tags such as VBench dimensions. They say how a clip is scored, never what it looks like."""

    def __post_init__(self) -> None:
        if self.image and not self.image_sha256:
            raise StgEvalError(
                f"case {self.id!r} has an image without image_sha256; give the file's digest, without which all images "
                "would be taken for one"
            )
        for text in (self.id, self.prompt, self.negative_prompt, self.image or "", *self.tags):
            check_text(text)

    def conditions(self) -> dict[str, JSONValue]:
        """What the model sees. Two cases with equal conditions share their clips."""
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "image": self.image_sha256,
            "label": self.label,
        }


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
        return f"restart[{_number(self.low)},{_number(self.high)}]x{self.repeats}"


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How predictions are combined. `str()` gives the signature, `Guidance.parse` reads it back.

    Signature: ``cfg<g>[+<method>[<layers>]<scales>][+rescale<r>][+orth][+restart[<low>,<high>]x<n>]`` with method
    ``stg-a`` (identity attention), ``stg-r`` (residual skip, Eq. 15), ``stg-i`` (attention returns its input) or
    ``seg`` (Gaussian-blurred queries); layers in the model's published numbering or exact module paths; scales
    ``s<x>`` (spatial), ``t<y>`` (temporal), or ``w<z>`` (one weak pass that perturbs all of the layer, as joint
    attention needs); ``b<sigma>`` after the scales of seg, in tokens (left out: infinite, every query the mean one).
    ``cfg1`` means no classifier-free guidance.
    """

    cfg_scale: float = 1.0
    method: Method | None = None
    layers: tuple[str, ...] = ()
    spatial_scale: float = 0.0
    temporal_scale: float = 0.0
    joint_scale: float = 0.0
    blur_sigma: float | None = None
    """Of seg: standard deviation of the Gaussian in tokens, None for infinite."""
    rescale: float = 0.0
    """0 is off, 1 is the full per-sample standard deviation of the conditional prediction (Alg. 4)."""
    orthogonal: bool = False
    """Remove the part of the temporal term that lies along the spatial one (Eq. 21, Alg. 5)."""
    restart: Restart | None = None

    def __post_init__(self) -> None:
        scales = (self.spatial_scale, self.temporal_scale, self.joint_scale)
        if not all(0 <= scale < math.inf for scale in (self.cfg_scale, *scales)):
            raise StgEvalError(f"guidance scales are finite and not negative, not {(self.cfg_scale, *scales)}")
        if self.method and not self.layers:
            raise StgEvalError(f"{self.method} needs a layer, for example {self.method}[8]s2t2")
        if any(not re.fullmatch(r"[\w.]+", layer) for layer in self.layers):
            raise StgEvalError(f"a layer is a number or a module path such as up_blocks.1, not {self.layers}")
        if not self.method and (self.layers or any(scales) or self.orthogonal):
            raise StgEvalError("layers, skip scales and orth need a method: stg-a, stg-r, stg-i or seg")
        if self.joint_scale and (self.spatial_scale or self.temporal_scale):
            raise StgEvalError("use either w (one joint weak pass) or s and t (separate weak passes), not both")
        if self.blur_sigma is not None and (self.method != "seg" or not 0 < self.blur_sigma < math.inf):
            raise StgEvalError("b, the blur's standard deviation in tokens, belongs to seg and is above 0")
        if self.orthogonal and not (self.spatial_scale and self.temporal_scale):
            raise StgEvalError("orth needs both a spatial and a temporal scale, for example stg-a[8]s2t2+orth")
        if not 0 <= self.rescale <= 1:
            raise StgEvalError(f"rescale is between 0 and 1, not {self.rescale:g}")

    def __str__(self) -> str:
        parts = [f"cfg{_number(self.cfg_scale)}"]
        if self.method:
            letters = (("s", self.spatial_scale), ("t", self.temporal_scale), ("w", self.joint_scale))
            scales = "".join(f"{letter}{_number(scale)}" for letter, scale in letters if scale) or "w0"
            blur = "" if self.blur_sigma is None else f"b{_number(self.blur_sigma)}"
            parts.append(f"{self.method}[{','.join(self.layers)}]{scales}{blur}")
        if self.rescale:
            parts.append(f"rescale{_number(self.rescale)}")
        if self.orthogonal:
            parts.append("orth")
        if self.restart:
            parts.append(str(self.restart))
        return "+".join(parts)

    @classmethod
    def parse(cls, text: str) -> Guidance:
        """Read a signature such as ``cfg7+stg-a[11]s2t2``. Raises StgEvalError that names the part it cannot read."""
        number = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
        methods = "|".join(get_args(Method))
        found: dict[str, Any] = {}
        for part in re.split(r"\+(?![^\[]*\])", text.strip()):
            read: dict[str, Any] = {}
            if part == "none":
                read["cfg_scale"] = 1.0
            elif m := re.fullmatch(rf"cfg{number}", part):
                read["cfg_scale"] = float(m[1])
            elif m := re.fullmatch(
                rf"({methods})\[([\w.,]+)\](?:s{number})?(?:t{number})?(?:w{number})?(?:b{number})?", part
            ):
                read["method"], read["layers"] = m[1], tuple(m[2].split(","))
                for name, value in zip(
                    ("spatial_scale", "temporal_scale", "joint_scale"), m.groups()[2:5], strict=True
                ):
                    read[name] = float(value or 0)
                read["blur_sigma"] = float(m[6]) if m[6] else None
            elif m := re.fullmatch(rf"rescale{number}", part):
                read["rescale"] = float(m[1])
            elif part == "orth":
                read["orthogonal"] = True
            elif m := re.fullmatch(rf"restart\[{number},{number}\]x(\d+)", part):
                read["restart"] = Restart(float(m[1]), float(m[2]), int(m[3]))
            else:
                raise StgEvalError(f"cannot read {part!r} in guidance {text!r}; write it like cfg7+stg-a[11]s2t2")
            if twice := found.keys() & read.keys():
                raise StgEvalError(f"guidance {text!r} says {' and '.join(sorted(twice))} twice; say it once")
            found |= read
        return cls(**found)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that determines one clip; nothing else may change a pixel of it."""

    model: str
    """Registered name of the generator."""
    weights: str
    """What was loaded: hub id @ revision, a digest of a local checkpoint, or ``random-weights(...)``."""
    guidance: Guidance
    case: Case
    seed: int
    height: int
    width: int
    num_frames: int
    fps: float
    num_inference_steps: int
    dtype: str
    encoding: str
    """How the frames are stored, see `stg_eval.storage.video.ENCODINGS`; lossy encodings move FVD and IS."""
    settings: tuple[tuple[str, JSONValue], ...] = ()
    """Model-specific settings, sorted by name (motion_bucket_id, noise_aug_strength, ...)."""

    def canonical(self) -> dict[str, Any]:
        """The JSON whose digest is the key. What changes no pixel is left out (case id, tags and image path) or stands
        there as if it had not been chosen (PIXELLESS)."""
        out = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("case", "guidance", "settings")}
        return out | {
            "guidance": str(self.guidance),
            "case": self.case.conditions(),
            "settings": {name: PIXELLESS.get(name, value) for name, value in self.settings},
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return _sha256(self.canonical())

    @cached_property
    def noise_seed(self) -> int:
        """Seed of this request's own random generator, 0 <= seed < 2**63.

        It depends on the case's conditions and the seed alone: every guidance starts from the same noise (paired
        comparison), and different cases with the same seed do not share noise, as set metrics such as FVD assume.
        """
        return int(_sha256({"case": self.case.conditions(), "seed": self.seed})[:16], 16) >> 1


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A generated video in the store."""

    key: str
    file: str
    """Path relative to the store."""
    sha256: str
    num_frames: int
    height: int
    width: int
    fps: float
    encoding: str
    seconds: float
    """Wall-clock seconds of generation, this clip's share of its batch."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric's value for one clip."""

    key: str
    metric: str
    """Signature, in the manner of sacreBLEU: name, network and digest, frames, size, protocol, version."""
    value: float


def to_json(noun: Case | Guidance | Request | Clip | Score) -> dict[str, Any]:
    """A plain dictionary; `Guidance` becomes its signature."""
    out: dict[str, Any] = asdict(noun) if not isinstance(noun, Guidance) else {"guidance": str(noun)}
    if isinstance(noun, Request):
        out["guidance"], out["settings"] = str(noun.guidance), dict(noun.settings)
    return out


def _number(x: float) -> str:
    """The shortest text that reads back as the same float, without a `+` that parse would split at."""
    return repr(float(x) + 0.0).removesuffix(".0").replace("e+", "e")


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
