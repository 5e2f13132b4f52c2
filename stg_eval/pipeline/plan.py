"""Suite x model x guidance -> the requests of a run, and what they will cost. Pure: nothing is loaded or written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stg_eval import generators
from stg_eval.generators import ModelCard, Preset
from stg_eval.metrics import MetricCard
from stg_eval.metrics import registry as metrics
from stg_eval.storage.video import check_format
from stg_eval.suites import Suite, open_dataset, samples
from stg_eval.types import Case, Guidance, JSONValue, Request, StgEvalError

REQUEST_SETTINGS = ("height", "width", "num_frames", "fps", "num_inference_steps", "dtype", "encoding")
"""Names that `--set` may change on any model; a model's card adds its own. Also: weights, batch_size."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table: a named guidance."""

    name: str
    guidance: Guidance
    published: Mapping[str, float]
    source: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run, spelled out."""

    suite: Suite
    card: ModelCard
    variants: tuple[Variant, ...]
    baseline: str
    metrics: tuple[MetricCard, ...]
    requests: Mapping[str, tuple[Request, ...]]
    """Variant name -> its requests, all variants in the same order of (case, seed)."""
    batch_size: int
    settings: Mapping[str, JSONValue]
    """What `--set` and the suite changed, for the record."""

    def batches(self, variant: str) -> list[tuple[Request, ...]]:
        """Fixed batches: resuming a run must not change which clips are made together."""
        requests = self.requests[variant]
        return [requests[i : i + self.batch_size] for i in range(0, len(requests), self.batch_size)]

    def tflops(self, variant: str) -> float:
        """Denoiser TFLOP of one clip of a variant: passes a step (shared prefix) x steps x the card's count for one
        pass, which holds at the card's default size. Steps that Restart repeats are not in it: how many there are, only
        the loaded scheduler knows."""
        request = self.requests[variant][0]
        passes = generators.cost(self.card.name, request.guidance)
        return passes * request.num_inference_steps * self.card.tflops_per_pass

    def scored(self, metric: MetricCard, variant: str) -> list[bool]:
        """For each request of a variant, whether the metric is computed on its clip."""
        return _scored(self.suite, metric, [request.case for request in self.requests[variant]])


def make_plan(
    suite: Suite,
    model: str,
    *,
    guidance: Sequence[str] = (),
    metric_names: Sequence[str] = (),
    limit: int | None = None,
    fraction: float | None = None,
    seeds: int | None = None,
    settings: Mapping[str, str | JSONValue] | None = None,
    allow_few: bool = False,
    dry: bool = False,
) -> Plan:
    """Spell out a run.

    `guidance` takes the card's preset names or signatures; empty means the suite's. `settings` are `--set` values:
    REQUEST_SETTINGS, `weights`, `batch_size`, or the card's own. `allow_few` lets a set metric with too few clips
    pass; its cell then says so. A `dry` plan is for counting: data that is not there gets stand-ins.

    Raises StgEvalError for an unknown model, metric, preset or setting (with the nearest name), for too few clips, and
    for a suite that does not fit the model.
    """
    card = generators.card(model)
    chosen = {**suite.generation, **(settings or {})}
    card, batch_size, model_settings = _apply(card, chosen)
    variants = tuple(_variant(card, name) for name in (guidance or suite.guidance))
    duplicates = {v.name for v in variants if sum(w.guidance == v.guidance for w in variants) > 1}
    if duplicates:
        raise StgEvalError(f"guidance {' and '.join(sorted(duplicates))} are the same; give each once")
    baseline = suite.baseline if suite.baseline in {v.name for v in variants} else variants[0].name
    pairs = list(samples(suite, open_dataset(suite), limit=limit, fraction=fraction, seeds=seeds, dry=dry))
    if not pairs:
        raise StgEvalError(f"suite {suite.name!r} has no cases to show; give a larger --limit or --fraction")
    names = list(metric_names or suite.metrics)
    if set(names) & set(suite.keep_static) and "static_filter" not in names:
        names.append("static_filter")
    cards = tuple(metrics.card(name) for name in names)
    if not allow_few:
        _enough(cards, suite, [case for case, _ in pairs])
    weights = weights_identity(card.weights)
    requests = {
        v.name: tuple(_request(card, weights, v.guidance, case, seed, model_settings) for case, seed in pairs)
        for v in variants
    }
    for made in requests.values():
        generators.check(made[0])
    return Plan(
        suite=suite,
        card=card,
        variants=variants,
        baseline=baseline,
        metrics=cards,
        requests=requests,
        batch_size=batch_size,
        settings={key: _value(value) for key, value in chosen.items()},
    )


def _scored(suite: Suite, metric: MetricCard, cases: Sequence[Case]) -> list[bool]:
    """Suites such as VBench give each dimension its own prompts; others take a metric on the first N clips only."""
    first = suite.metric_clips.get(metric.name, len(cases))
    tags = set(suite.keep_static) if metric.name == "static_filter" else {metric.name}
    return [i < first and (not suite.score_by_tag or bool(tags & set(case.tags))) for i, case in enumerate(cases)]


def _variant(card: ModelCard, name: str) -> Variant:
    if name in card.presets:
        preset: Preset = card.presets[name]
        return Variant(name=name, guidance=preset.guidance, published=preset.published, source=preset.source)
    if name != "none" and not re.search(r"\d", name):  # a signature has numbers, a preset's name has none
        near = get_close_matches(name, card.presets, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"unknown guidance {name!r} for {card.name}{hint} (presets: {', '.join(card.presets)})")
    guidance = Guidance.parse(name)
    generators.cost(card.name, guidance)  # refuses now what the model does not have: a layer, a kind of attention
    for preset in card.presets.values():
        if preset.guidance == guidance:
            return Variant(name=name, guidance=guidance, published=preset.published, source=preset.source)
    return Variant(name=name, guidance=guidance, published={}, source="")


def _apply(card: ModelCard, chosen: Mapping[str, Any]) -> tuple[ModelCard, int, dict[str, JSONValue]]:
    """The card with its defaults changed, the batch size, and the model's own settings."""
    common = {name: getattr(card, name) for name in (*REQUEST_SETTINGS, "weights", "batch_size")}
    read = read_settings(card.name, {**common, **card.settings}, chosen)
    card = replace(card, **{name: read[name] for name in common})
    own = {name: read[name] for name in card.settings}
    for name in ("height", "width", "num_frames", "num_inference_steps", "batch_size", "fps"):
        if getattr(card, name) <= 0:
            raise StgEvalError(f"{name} must be larger than 0, not {getattr(card, name)}")
    if card.dtype not in generators.DTYPES:
        raise StgEvalError(f"dtype is one of {', '.join(generators.DTYPES)}, not {card.dtype!r}")
    check_format(card.encoding, card.fps, card.height, card.width)
    return card, card.batch_size, own


def read_settings(
    owner: str, defaults: Mapping[str, JSONValue], chosen: Mapping[str, str | JSONValue]
) -> dict[str, Any]:
    """The defaults with what `--set` chose in their place, each in the type of its default.

    Raises StgEvalError for a name that `owner` does not have (with the nearest) and a value of another type.
    """
    for key in chosen:
        if key not in defaults:
            near = get_close_matches(key, defaults, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StgEvalError(f"{owner} has no setting {key!r}{hint} (known: {', '.join(defaults)})")
    return {**defaults, **{key: _like(key, raw, defaults[key]) for key, raw in chosen.items()}}


def _value(text: Any) -> Any:
    """`--set` text as a JSON value: numbers, true, false and null are read as such."""
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
    """`raw` in the type of the default it replaces."""
    value: Any = _value(raw)
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


def weights_identity(weights: str) -> str:
    """What names a checkpoint in a request: a hub id or "random-weights(...)" as it is; a local file by its digest; a
    local folder by a digest of its files' names, sizes and times, since hashing tens of gigabytes would not pay for
    each plan (a copied folder counts as new weights: clips are made again rather than mixed up)."""
    folder = Path(weights).expanduser()
    if folder.is_file():
        return f"file:{folder.name}@{hashlib.sha256(folder.read_bytes()).hexdigest()[:16]}"
    if not folder.is_dir():
        return weights
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        stat = path.stat()
        lines.append(f"{path.relative_to(folder).as_posix()} {stat.st_size} {stat.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"folder:{folder.resolve().name}@{digest[:16]}"


def _request(
    card: ModelCard, weights: str, guidance: Guidance, case: Case, seed: int, settings: Mapping[str, JSONValue]
) -> Request:
    needs = {
        "class-to-video": case.label is not None,
        "text-to-video": bool(case.prompt),
        "image-to-video": bool(case.image),
    }
    if not needs[card.task]:
        what = {"class-to-video": "a class label", "text-to-video": "a prompt", "image-to-video": "a first frame"}[
            card.task
        ]
        raise StgEvalError(
            f"{card.name} needs {what}, and case {case.id!r} has none; choose a suite made for {card.task}"
        )
    return Request(
        model=card.name,
        weights=weights,
        guidance=guidance,
        case=case,
        seed=seed,
        settings=tuple(sorted(settings.items())),
        **{name: getattr(card, name) for name in REQUEST_SETTINGS},
    )


def _enough(cards: Sequence[MetricCard], suite: Suite, cases: Sequence[Case]) -> None:
    real = suite.reference_clips or 0
    for metric in cards:
        if metric.needs_reference and not real:
            raise StgEvalError(f"{metric.name} compares with real clips, and suite {suite.name!r} has none; drop it")
        if metric.needs_reference and real < metric.min_clips:
            raise StgEvalError(
                f"{metric.name} needs at least {metric.min_clips} real clips and suite {suite.name!r} has "
                f"reference_clips: {real}; raise it, or drop {metric.name}"
            )
        n = sum(_scored(suite, metric, cases))
        if n < metric.min_clips:
            others = ",".join(m.name for m in cards if m.min_clips <= n)
            choose = f"--metrics {others}" if others else "other --metrics"
            raise StgEvalError(
                f"{metric.name} needs at least {metric.min_clips} clips and this run makes {n} for it; "
                f"raise --limit or --seeds, or choose {choose}"
            )
