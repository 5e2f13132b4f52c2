"""Reads suites from YAML files, built-in or a user's own; every mistake is named by file, line and field."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from stg_eval.metrics import registry
from stg_eval.suites.sources import DATASETS, others
from stg_eval.suites.suite import MOST_CLIPS, MOST_SAMPLES, Suite
from stg_eval.types import Guidance, StgEvalError, check_text

DEEPEST = 20
PROMPT_SUFFIXES = (".txt", ".csv", ".jsonl")
_HOME = Path(__file__).parent


def names() -> list[str]:
    """List the built-in suites."""
    return sorted(path.stem for path in _HOME.glob("*.yaml"))


def load(name_or_path: str | Path) -> Suite:
    """Read a built-in suite by name or a user's YAML file, or make a suite of a prompt file or a folder of images.

    Raises StgEvalError: the nearest name for an unknown one; file, line and field for a mistake in a YAML file.
    """
    text, path = check_text(str(name_or_path)), Path(name_or_path).expanduser()
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


def _custom(path: Path, dataset: str) -> Suite:
    template = _read(_HOME / "custom.yaml")
    return replace(template, name=path.stem, title=str(path), dataset=dataset, dataset_options={"path": str(path)})


def _read(path: Path) -> Suite:
    """Parse and check one YAML file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        _check_events(path, text)
        node = yaml.compose(text, yaml.SafeLoader)
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
    for metric in suite.keep_static:
        if not registry.card(metric).filter:
            raise _fail(path, lines["keep_static"], "keep_static", f"no filter says which clips of {metric!r} count")
    if suite.clips and any(count > suite.clips for count in suite.metric_clips.values()):
        raise _fail(path, lines["metric_clips"], "metric_clips", f"more clips than the run makes ({suite.clips})")
    return suite


def _check_events(path: Path, text: str) -> None:
    """Refuse, before anything is built of it, what could not be built or written down later."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = f"is nested more than {DEEPEST} deep; a suite needs three" if depth > DEEPEST else ""
        if isinstance(event, yaml.ScalarEvent):
            try:
                check_text(event.value)
            except StgEvalError as error:
                problem = str(error)
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise StgEvalError(f"{path}, line {line}: {problem}")


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
    """Give `value` of field `name` in the type that Suite declares, or raise the error that says what it should be."""
    if name in ("name", "title", "dataset", "baseline", "cluster"):
        if not isinstance(value, str) or not value:
            raise fail(f"must be text, not {_shown(value)}")
        if name == "name" and (value.startswith(".") or not value.isprintable() or "/" in value):
            raise fail(f"names the folder of the results: it holds no slash and begins with no dot, unlike {value!r}")
        choices = {"dataset": list(DATASETS), "cluster": ["case", "sample"]}.get(name)
        if name == "dataset" and value not in DATASETS:  # plug-ins are not even imported for a dataset of our own
            choices = [*DATASETS, *others()]
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
    elif name in ("samples", "metric_clips", "keep_static", "dataset_options", "generation") and (
        not isinstance(value, dict) or not all(isinstance(key, str) for key in value)
    ):
        raise fail("must map names to values; a name that looks like a number stands in quotes")
    elif name in ("samples", "metric_clips", "keep_static"):
        most = MOST_SAMPLES if name == "samples" else MOST_CLIPS
        if not all(_whole(v, 1, most) for v in value.values()):
            raise fail(f"must map names to whole numbers from 1 to {most:,}")
        if name == "samples" and "default" not in value:
            raise fail("needs 'default': samples of a case without a listed tag")
    elif name in ("dataset_options", "generation"):
        if any(isinstance(v, dict) for v in value.values()):
            raise fail("must map names to values")
        if name == "generation" and any(isinstance(v, list) for v in value.values()):
            raise fail("must map names to single values")
    elif name == "score_by_tag":
        if not isinstance(value, bool):
            raise fail(f"must be true or false, not {_shown(value)}")
    elif name == "seed" and not _whole(value, 0, 2**63 - 1):
        raise fail(f"must be a whole number of at most 63 bits, not {_shown(value)}")
    elif name != "seed" and value is not None and not _whole(value):
        raise fail(f"must be a whole number from 1 to {MOST_CLIPS:,}, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return reprlib.repr(value)[:80]


def _whole(value: Any, least: int = 1, most: int = MOST_CLIPS) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check_guidance(text: str) -> None:
    """Refuse what is neither a signature nor like a preset's name, which only the model knows."""
    if re.search(r"[\[+]|\d$", text):
        Guidance.parse(text)
    elif not re.fullmatch(r"[A-Za-z][\w-]*", text):
        raise StgEvalError(f"{text!r} is neither a preset's name nor a signature such as cfg7+stg-a[11]s2t2")
