"""Suites: what is shown, how often, and how it is scored. One YAML file each beside this module, or a user's own."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from stg_eval.datasets.dataset import Dataset, Reference
from stg_eval.metrics import registry
from stg_eval.types import Case, Guidance, JSONValue, StgEvalError

__all__ = ["DATASETS", "Dataset", "Reference", "Suite", "load", "names", "open_dataset", "samples"]

DATASETS: dict[str, str] = {
    "sprites": "stg_eval.datasets.embedded",
    "ucf101": "stg_eval.datasets.ucf101",
    "vbench-t2v": "stg_eval.datasets.vbench",
    "vbench-i2v": "stg_eval.datasets.vbench",
    "evalcrafter": "stg_eval.datasets.evalcrafter",
    "demo-100": "stg_eval.datasets.demo100",
    "prompts": "stg_eval.datasets.prompts",
    "images": "stg_eval.datasets.images",
}
"""Name -> module with open_dataset(name, options, reference_clips) -> Dataset."""

PROMPT_SUFFIXES = (".txt", ".csv", ".jsonl")
_HOME = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A protocol, in the order in which its YAML file reads."""

    name: str
    title: str
    dataset: str
    """One of DATASETS."""
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    """What the dataset takes, e.g. `root`: the folder with the data."""
    samples: Mapping[str, int] = field(default_factory=lambda: {"default": 1})
    """Samples a case: "default", and per tag for cases that have it (the largest applies)."""
    seed: int = 0
    """The k-th sample of every case has seed `seed` + k."""
    clips: int | None = None
    """Clips a variant in the full run. Samples stop there, and a dataset that ends earlier is an error."""
    metrics: tuple[str, ...]
    metric_clips: Mapping[str, int] = field(default_factory=dict)
    """Metrics computed on the first N clips only, e.g. FVD on 2,048 of the 10,000 that IS takes."""
    score_by_tag: bool = False
    """Compute a metric only on clips of cases that have its name as a tag (VBench gives each dimension its prompts)."""
    keep_static: Mapping[str, int] = field(default_factory=dict)
    """Metric -> how many of a case's samples count: the first N that VBench's static filter passes."""
    reference_clips: int | None = None
    """How many real clips FVD compares with."""
    guidance: tuple[str, ...] = ("cfg", "stg")
    """Names of the model's presets, or signatures such as cfg7+stg-a[11]s2t2."""
    baseline: str = "cfg"
    cluster: Literal["case", "sample"] = "case"
    """What the statistics resample: cases with all their samples, or single samples (few cases, many samples)."""
    generation: Mapping[str, JSONValue] = field(default_factory=dict)
    """Overrides of the model's defaults: height, width, num_frames, fps, num_inference_steps, or its own settings."""


def names() -> list[str]:
    """The built-in suites."""
    return sorted(path.stem for path in _HOME.glob("*.yaml"))


def load(name_or_path: str | Path) -> Suite:
    """A built-in suite by name, a user's YAML file, or a custom suite over a prompt file or a folder of images.

    Raises StgEvalError: the nearest name for an unknown one; file, line and field for a mistake in a YAML file.
    """
    text, path = str(name_or_path), Path(name_or_path).expanduser()
    if text in names():
        return _read(_HOME / f"{text}.yaml")
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return _read(path)
    if path.suffix.lower() in PROMPT_SUFFIXES and path.is_file():
        return _custom(path, "prompts")
    if path.is_dir():
        return _custom(path, "images")
    if path.suffix or "/" in text:
        kinds = ", ".join((".yaml", *PROMPT_SUFFIXES))
        raise StgEvalError(f"there is no suite at {text}; give a {kinds} file or a folder of images that exists")
    near = get_close_matches(text, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StgEvalError(f"unknown suite {text!r}{hint} (known: {', '.join(names())}, or the path of a file)")


def open_dataset(suite: Suite) -> Dataset:
    """The suite's dataset. Raises StgEvalError for an unknown option; missing data shows in `Dataset.missing`."""
    module = importlib.import_module(DATASETS[suite.dataset])
    return module.open_dataset(suite.dataset, suite.dataset_options, suite.reference_clips)  # type: ignore[no-any-return]


def samples(
    suite: Suite,
    dataset: Dataset,
    limit: int | None = None,
    fraction: float | None = None,
    seeds: int | None = None,
    dry: bool = False,
) -> Iterator[tuple[Case, int]]:
    """Every (case, seed) of the run, ordered so that any prefix is a stratified, deterministic part of the full run and
    a limited run grows later without waste.

    A case with n samples has its k-th at position (k + u) / n of the run, where u in (0, 1) grows along the dataset's
    own (stratified) order. `limit` is a number of clips, `fraction` a share of the full run (at least one clip),
    `seeds` a number of samples a case that replaces the suite's. Lazy: with one count for all cases, N clips read N
    cases at most. `dry` is for plans: data that is not there yet is counted by stand-ins, nothing is prepared.

    Raises StgEvalError for a dataset that ends before `suite.clips`.
    """
    if limit is not None and limit < 1:
        raise StgEvalError(f"--limit must be at least 1, not {limit}")
    if fraction is not None and not 0 < fraction <= 1:
        raise StgEvalError(f"--fraction must be above 0 and at most 1, not {fraction:g}")
    if seeds is not None and seeds < 1:
        raise StgEvalError(f"--seeds must be at least 1, not {seeds}")
    if dry and dataset.missing and suite.clips is not None:
        dataset = _StandIn(suite, dataset.missing)
        suite = replace(suite, samples={"default": suite.samples["default"]})
    total = suite.clips if seeds is None else None
    wanted = total
    if fraction is not None:
        total = sum(1 for _ in _ordered(suite, dataset, seeds, dry)) if total is None else total
        wanted = max(1, round(fraction * total))
    if limit is not None:
        wanted = limit if wanted is None else min(limit, wanted)
    made = 0
    for pair in _ordered(suite, dataset, seeds, dry):
        yield pair
        made += 1
        if made == wanted:
            return
    if wanted is not None and total is not None:
        raise StgEvalError(
            f"suite {suite.name} needs {wanted:,} clips a variant and its dataset gives only {made:,}; "
            "complete the data, or make fewer with --limit or --fraction"
        )


def _ordered(suite: Suite, dataset: Dataset, seeds: int | None, dry: bool) -> Iterator[tuple[Case, int]]:
    counts = {"default": seeds} if seeds is not None else suite.samples
    if len(counts) == 1:
        yield from _rounds(dataset.cases(dry), counts["default"], suite.seed)
        return
    groups: dict[int, list[Case]] = {}
    for case in dataset.cases(dry):
        tagged = [counts[tag] for tag in case.tags if tag in counts]
        groups.setdefault(max(tagged, default=counts["default"]), []).append(case)
    placed = [
        ((k + (rank + 0.5) / len(cases)) / n, n, k, rank)
        for n, cases in groups.items()
        for k in range(n)
        for rank in range(len(cases))
    ]
    for _, n, k, rank in sorted(placed):
        yield groups[n][rank], suite.seed + k


def _rounds(cases: Iterator[Case], n: int, seed: int) -> Iterator[tuple[Case, int]]:
    seen = []
    for case in cases:
        yield case, seed
        if n > 1:
            seen.append(case)
    for k in range(1, n):
        yield from ((case, seed + k) for case in seen)


class _StandIn:
    """As many cases as the suite's clips need, in place of data that is not there."""

    def __init__(self, suite: Suite, missing: str) -> None:
        self._suite = suite
        self.missing: str | None = missing

    def cases(self, dry: bool = False) -> Iterator[Case]:
        for i in range((self._suite.clips or 0) // self._suite.samples["default"]):
            what = f"not there yet: {self._suite.dataset}, case {i + 1}"
            yield Case(id=what, prompt=what, image=what, image_sha256=what, label=0, tags=self._suite.metrics)

    def reference(self) -> None:
        return None


def _custom(path: Path, dataset: str) -> Suite:
    template = _read(_HOME / "custom.yaml")
    return replace(template, name=path.stem, title=str(path), dataset=dataset, dataset_options={"path": str(path)})


def _read(path: Path) -> Suite:
    """Parse and check one YAML file."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StgEvalError(f"{path}, line {line}: {error.problem}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StgEvalError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        raise StgEvalError(f"{path}, line 1: a suite is a mapping of fields such as name, dataset, metrics")
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    known = [f.name for f in fields(Suite)]
    for key_node, value_node in node.value:
        name, line = str(key_node.value), key_node.start_mark.line + 1
        fail = partial(_fail, path, line, name)
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise fail(f"unknown field{f', did you mean {near[0]!r}?' if near else ''} (known: {', '.join(known)})")
        if name in values:
            raise fail(f"given twice, first in line {lines[name]}")
        _reject_repeated_keys(path, name, value_node)
        lines[name], values[name] = line, _check(name, _plain(value_node, fail), fail)
    for missing in (f.name for f in fields(Suite) if f.default is MISSING and f.default_factory is MISSING):
        if missing not in values:
            raise StgEvalError(f"{path}, line 1: the field {missing!r} is missing")
    suite = Suite(**values)
    if suite.baseline not in suite.guidance:
        at = lines.get("baseline", lines.get("guidance", 1))
        raise _fail(path, at, "baseline", f"{suite.baseline!r} is not one of guidance: {', '.join(suite.guidance)}")
    for name in ("metric_clips", "keep_static"):
        for metric in getattr(suite, name):
            if metric not in suite.metrics:
                raise _fail(path, lines[name], name, f"{metric!r} is not one of metrics: {', '.join(suite.metrics)}")
    if suite.clips and any(count > suite.clips for count in suite.metric_clips.values()):
        raise _fail(path, lines["metric_clips"], "metric_clips", f"more clips than the run makes ({suite.clips})")
    return suite


def _plain(node: yaml.Node, fail: Callable[[str], StgEvalError]) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)  # type: ignore[no-untyped-call]
    except Exception as error:  # a bad tag or date raises YAMLError, ValueError, KeyError, AttributeError, ...
        reason = getattr(error, "problem", None) or error
        raise fail(f"no plain value ({' '.join(str(reason).split())})") from error
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]


def _reject_repeated_keys(path: Path, name: str, node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise _fail(path, key.start_mark.line + 1, f"{name}.{key.value}", "given twice")
            seen.add(str(key.value))


def _fail(path: Path, line: int, name: str, problem: str) -> StgEvalError:
    return StgEvalError(f"{path}, line {line}: {name}: {problem}")


def _check(name: str, value: Any, fail: Callable[[str], StgEvalError]) -> Any:
    """`value` of field `name` in the type that Suite declares, or the error that says what it should be."""
    if name in ("name", "title", "dataset", "baseline", "cluster"):
        if not isinstance(value, str) or not value:
            raise fail(f"must be text, not {value!r}")
        choices = {"dataset": list(DATASETS), "cluster": ["case", "sample"]}.get(name)
        if choices and value not in choices:
            near = get_close_matches(value, choices, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise fail(f"unknown value {value!r}{hint} (known: {', '.join(choices)})")
    elif name in ("metrics", "guidance"):
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise fail("must be a list with at least one name")
        if len(set(value)) < len(value):
            raise fail("names something twice")
        for item in value:
            try:
                registry.card(item) if name == "metrics" else _check_guidance(item)
            except StgEvalError as error:
                raise fail(str(error)) from error
        return tuple(value)
    elif name in ("samples", "metric_clips", "keep_static"):
        if not isinstance(value, dict) or not all(_whole(v, 1) for v in value.values()):
            raise fail("must map names to whole numbers above 0")
        if name == "samples" and "default" not in value:
            raise fail("needs 'default': samples of a case without a listed tag")
    elif name in ("dataset_options", "generation"):
        if not isinstance(value, dict) or any(isinstance(v, dict) for v in value.values()):
            raise fail("must map names to values")
        if name == "generation" and any(isinstance(v, list) for v in value.values()):
            raise fail("must map names to single values")
    elif name == "score_by_tag":
        if not isinstance(value, bool):
            raise fail(f"must be true or false, not {value!r}")
    elif value is not None and not _whole(value, 0 if name == "seed" else 1):
        raise fail(f"must be a whole number, not {value!r}")
    return value


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_guidance(text: str) -> None:
    """A preset's name (which only the model knows) or a signature."""
    if re.search(r"[\[+]|\d$", text):
        Guidance.parse(text)
    elif not re.fullmatch(r"[A-Za-z][\w-]*", text):
        raise StgEvalError(f"{text!r} is neither a preset's name nor a signature such as cfg7+stg-a[11]s2t2")
