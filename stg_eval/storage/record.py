"""run.json: everything that was asked for in a run, with what it was made, and what is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stg_eval.types import JSONValue, StgEvalError

FORMAT = 2
"""2: names the digests of the files beside it. 1: does not say its format."""

Count = Annotated[int, Field(ge=0, lt=2**31)]


class _Frozen(BaseModel):
    """A record that cannot be changed and knows all of its fields: a misspelt one is an error, not a loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Variant(_Frozen):
    """One row of the tables: a guidance, by the name it was asked for."""

    name: str
    signature: str
    """`str(Guidance)`; of a folder of videos, how many files it holds."""
    published: Mapping[str, float] = Field(default_factory=dict)
    """Metric -> the value printed for this guidance."""
    source: str = ""


class Missing(_Frozen):
    """A clip that was asked for and is not there."""

    variant: str
    case: str
    seed: int
    problem: str


class Problem(_Frozen):
    """A clip that is there and has no value of a metric."""

    variant: str
    case: str
    seed: int
    key: str
    metric: str
    problem: str


class RealClips(_Frozen):
    """The real clips that a set metric compares with."""

    digest: str
    count: Count


class FeaturesOf(_Frozen):
    """Where the features of a set metric lie in the store."""

    extractor: str
    """Signature of the network that made them."""
    reference: RealClips | None = None


class AskedFor(_Frozen):
    """What the requests of a run share: `stg_eval.types.Request` without guidance, case and seed."""

    model: str
    weights: str
    height: Count
    width: Count
    num_frames: Count
    fps: float
    num_inference_steps: Count
    dtype: str
    encoding: str
    settings: Mapping[str, JSONValue] = Field(default_factory=dict)


class Provenance(_Frozen):
    """Versions and machine: what a reader needs in order to get the same numbers again."""

    stg_eval: str
    git_commit: str | None = None
    python: str = ""
    platform: str = ""
    packages: Mapping[str, str | None] = Field(default_factory=dict)
    """Name -> version; None where it is not installed."""
    device: str = ""
    threads: Count = 0
    attention: tuple[str, ...] = ()
    """Scaled-dot-product kernels that torch could choose from."""
    gpu: str | None = None
    cuda: str | None = None
    driver: str | None = None


class FileDigest(_Frozen):
    """What a file beside run.json must be."""

    sha256: str
    rows: Count
    """Clips in scores.csv, cells in table.json."""


class RunRecord(_Frozen):
    """run.json. A folder of videos that nobody asked for by prompt and seed leaves the fields of requests empty."""

    format: int = 1
    suite: str
    title: str
    model: str
    model_title: str = ""
    weights: str = ""
    metrics: tuple[str, ...] = ()
    variants: tuple[Variant, ...]
    baseline: str | None
    """Name of the variant that the others are compared with."""
    cluster: Literal["case", "sample"]
    metric_clips: Mapping[str, Count] = Field(default_factory=dict)
    """This, score_by_tag and keep_static say which clips a metric counts: see `stg_eval.suites.Suite`."""
    score_by_tag: bool = False
    keep_static: Mapping[str, Count] = Field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    settings: Mapping[str, JSONValue] = Field(default_factory=dict)
    """What `--set` and the suite changed."""
    request: AskedFor | None = None
    expected: Count
    """Clips asked for."""
    store: Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]+$")] | None = None
    """Folder of the clips; None where there are none: in a baseline file, in an imported run."""
    provenance: Provenance
    missing: tuple[Missing, ...] = ()
    problems: tuple[Problem, ...] = ()
    reader_of_new_scores: str | None = None
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know, a line each."""
    features: Mapping[str, FeaturesOf] = Field(default_factory=dict)
    """Set metric -> its features: a comparison reads them without loading a network."""
    files: Mapping[str, FileDigest] = Field(default_factory=dict)
    """Name of a file of the run -> what it must be; empty in format 1."""

    @model_validator(mode="after")
    def _fits_together(self) -> RunRecord:
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) < len(names):
            raise ValueError("variants must have names of their own, at least one")
        for name in (self.baseline, *(m.variant for m in self.missing), *(p.variant for p in self.problems)):
            if name is not None and name not in names:
                raise ValueError(f"{name!r} is none of the variants")
        return self

    def variant(self, name: str) -> Variant:
        """Return the variant of that name. Raises KeyError."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)

    @property
    def absent(self) -> set[tuple[str, str, int]]:
        """(variant, case, seed) of the clips that are not there."""
        return {(m.variant, m.case, m.seed) for m in self.missing}

    def to_json(self) -> str:
        """Return the text of run.json. Same record, same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


class _Version(BaseModel):
    format: int = 1


def read_record(text: bytes, path: Path) -> RunRecord:
    """Read run.json of a folder. Raises StgEvalError where a newer version wrote it, ValueError (one line) where it is
    damaged."""
    refuse_newer(text, path, FORMAT)
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"run.json: {first_problem(error)}") from error


def refuse_newer(text: bytes, path: Path, known: int) -> None:
    """Raises StgEvalError for JSON that says a newer format, whose fields this version could not know."""
    try:
        version = _Version.model_validate_json(text).format
    except ValidationError:
        return  # whoever reads it says what is wrong with it
    if version > known:
        raise StgEvalError(f"{path} was written by a newer stg-eval (format {version}); upgrade stg-eval")


def first_problem(error: ValidationError) -> str:
    """Say where a file departs from its schema, and how, in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    told = " ".join(first["msg"].split()).removeprefix("Value error, ")
    return (f"{where}: {told}" if where else told)[:300]
