"""The nouns of stg-eval: Case, Guidance, Request, Clip, Score. Frozen, hashable, to JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

from stg_eval.errors import StgEvalError as StgEvalError
from stg_eval.signature import Guidance as Guidance

JSONValue = str | int | float | bool | None

PIXELLESS: dict[str, JSONValue] = {"offload": "none"}
"""Settings that change no pixel of a clip. A request's key holds the value given here, whatever was chosen."""


def check_text(text: str) -> str:
    """Return the text itself. Raises StgEvalError for one that no UTF-8 file can hold: with half a surrogate pair, as
    broken escapes and file names in another encoding have."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 40) : error.start + 40]
        raise StgEvalError(f"{near!a} is no UTF-8 text ({text[error.start]!a}); replace or rename it") from error
    return text


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to show a model."""

    id: str
    """Name inside its suite, stable between runs."""
    prompt: str = ""
    asked: str = ""
    """What metrics look for, where the model is shown a prompt that was made longer; empty: the prompt itself."""
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
        texts = (self.id, self.prompt, self.asked, self.negative_prompt, self.image or "", *self.tags)
        if not "".join(texts).isascii():
            for text in texts:
                check_text(text)

    @property
    def wanted(self) -> str:
        """What metrics look for in the clip."""
        return self.asked or self.prompt

    def conditions(self) -> dict[str, JSONValue]:
        """Say what the model sees, and what is asked where that is something else, as scores belong to clips. Two cases
        with equal conditions share their clips."""
        seen: dict[str, JSONValue] = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "image": self.image_sha256,
            "label": self.label,
        }
        return seen | ({"asked": self.asked} if self.asked else {})

    @cached_property
    def _conditions_as_json(self) -> str:
        return _json(self.conditions())


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
        """Return the JSON whose digest is the key. What changes no pixel is left out (case id, tags and image path) or
        stands there as if it had not been chosen (PIXELLESS)."""
        out = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("case", "guidance", "settings")}
        return out | {
            "guidance": str(self.guidance),
            "case": self.case.conditions(),
            "settings": {name: PIXELLESS.get(name, value) for name, value in self.settings},
        }

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        # A run has up to a hundred thousand requests that differ in case and seed alone: the rest is written once. A
        # cached_property would give each of them a dictionary.
        known: str | None = getattr(self, "_key", None)
        if known is None:
            shared = [getattr(self, name) for name in _SHARED]
            before, between, after = _around_case_and_seed(repr(self.settings), *shared)
            text = f"{before}{self.case._conditions_as_json}{between}{self.seed:d}{after}"
            known = hashlib.sha256(text.encode()).hexdigest()
            object.__setattr__(self, "_key", known)
        return known

    @property
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
    """Return a plain dictionary; `Guidance` becomes its signature."""
    out: dict[str, Any] = asdict(noun) if not isinstance(noun, Guidance) else {"guidance": str(noun)}
    if isinstance(noun, Request):
        out["guidance"], out["settings"] = str(noun.guidance), dict(noun.settings)
    return out


_SHARED = tuple(field.name for field in fields(Request) if field.name not in ("case", "seed"))


@lru_cache(maxsize=256, typed=True)
def _around_case_and_seed(settings_as_text: str, *shared: Any) -> tuple[str, str, str]:
    """Return canonical JSON of a request before its case's value, between that and the seed's, and after.
    `settings_as_text` tells 1 from 1.0 and True, which are equal and read differently."""
    request = Request(case=Case(id=""), seed=0, **dict(zip(_SHARED, shared, strict=True)))
    parts = {name: f"{_json(name)}: {_json(value)}" for name, value in sorted(request.canonical().items())}
    parts["case"], parts["seed"] = '"case": \0', '"seed": \0'  # no JSON holds a bare null character
    before, between, after = f"{{{', '.join(parts.values())}}}".split("\0")
    return before, between, after


_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def _sha256(value: Any) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()
