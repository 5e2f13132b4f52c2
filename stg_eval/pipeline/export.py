"""A run's clips under the names that other tools expect: VBench's {prompt}-{index}.mp4, EvalCrafter's 0000.mp4 ...

Each variant gets a folder with nothing but videos (VBench takes the suffix of the folder's first file for that of all);
its JSON files lie beside it. Clips are copied as they are stored. An export that was cut off is completed by the same
command.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stg_eval.storage import atomic
from stg_eval.storage.inside import finding
from stg_eval.storage.results import Results
from stg_eval.storage.walk import is_hidden
from stg_eval.types import StgEvalError

MAX_NAME = 255
"""Bytes of a file name on common file systems."""
PER_VIDEO: dict[str, Callable[[float], float | bool]] = {"imaging_quality": lambda v: 100 * v, "dynamic_degree": bool}
"""What VBench writes for one video where it is not our value: 0 to 100, and a truth value."""
VBENCH_DIMENSIONS = 16
EVALCRAFTER_PROMPTS = 700


@dataclass
class Exported:
    """One variant, exported."""

    folder: Path
    videos: int = 0
    problems: list[str] = field(default_factory=list)
    """What could not be done to the letter: missing clips, shortened names, collisions. One line each."""


@dataclass(frozen=True)
class _Sample:
    row: int
    """Row in scores.csv."""
    case: str
    prompt: str
    """The prompt, or for cases without one (images) the case's name without suffix."""
    seed: int
    source: Path


def export_vbench(results: Results, directory: Path) -> list[Exported]:
    """Write DIR/<variant>/{prompt}-{index}.mp4 for every variant, index being the seed minus the run's first.

    Beside each folder: <variant>_eval_results.json, our scores in the form of VBench's own results ({dimension: [mean,
    [{video_path, video_results}]]}); <variant>_submission.zip, the same as its leaderboard takes them, one file a
    dimension; and <variant>_prompts.json, file name -> prompt, for VBench's `--mode custom_input --prompt_file`.

    A prompt that no file name can hold (longer than 255 bytes, or with a slash) is shortened and marked with a digest.
    Prompts that differ only in case collide on a disk that ignores case: there the later one goes to <variant>.2.

    Raises StgEvalError for a run without videos, and where the directory cannot be written.
    """
    return [_vbench(results, name, samples, directory) for name, samples in _variants(results)]


def export_evalcrafter(results: Results, directory: Path) -> list[Exported]:
    """Write DIR/<variant>/0000.mp4 ...: EvalCrafter's own numbers where the cases have them, else the order of the run.
    One video a case, that of the first seed. Beside each folder: <variant>.json, number -> {"prompt", "seed"}.

    Raises StgEvalError as `export_vbench` does.
    """
    return [_evalcrafter(results, name, samples, directory) for name, samples in _variants(results)]


def vbench_name(prompt: str, index: int) -> tuple[str, bool]:
    """Return VBench's file name for a prompt's sample, and whether it is the exact one."""
    name = f"{prompt}-{index}.mp4"
    if len(name.encode()) <= MAX_NAME and not re.search(r"[/\\\x00-\x1f]", prompt) and not prompt.startswith("."):
        return name, True
    mark = f"~{hashlib.sha256(prompt.encode()).hexdigest()[:8]}-{index}.mp4"
    safe = re.sub(r"[/\\\x00-\x1f]", "_", prompt).lstrip(".")
    return safe.encode()[: MAX_NAME - len(mark)].decode(errors="ignore").rstrip() + mark, False


def folder_name(variant: str) -> str:
    """Return a variant's name without what shells and VBench's glob patterns read otherwise, cut where it leaves no
    room for the endings of the files beside it."""
    name = re.sub(r"[^\w.+-]+", "_", variant).strip("_")
    mark = f"~{hashlib.sha256(variant.encode()).hexdigest()[:8]}"
    return name if len(name.encode()) <= 200 else name.encode()[:190].decode(errors="ignore") + mark


def _vbench(results: Results, variant: str, samples: Sequence[_Sample], directory: Path) -> Exported:
    ignores_case = _ignores_case(directory)
    out = _begin(results, variant, directory)
    targets: dict[int, Path] = {}
    prompts: dict[str, str] = {}
    folded: dict[str, str] = {}
    rivals: set[tuple[str, str]] = set()
    shortened: set[str] = set()
    for sample, index in _indices(samples, out):
        name, exact = vbench_name(sample.prompt, index)
        if not exact:
            shortened.add(sample.prompt)
        folder = out.folder
        if (rival := folded.setdefault(name.casefold(), name)) != name:
            rivals.add((rival, name))
            folder = folder.with_name(f"{folder.name}.2") if ignores_case else folder
        targets[sample.row], prompts[name] = folder / name, sample.prompt
        _copy(sample.source, folder / name)
    if shortened:
        out.problems.append(
            f"{len(shortened)} prompts fit no file name and were shortened, such as {min(shortened)[:40]!r}...: "
            f"evaluate with VBench's --mode custom_input --prompt_file {out.folder.name}_prompts.json"
        )
    if rivals:
        where = (
            f"the second lies in {out.folder.name}.2" if ignores_case else "keep them on a disk that tells case apart"
        )
        first, second = min(rivals)
        out.problems.append(f"{first!r} and {second!r} ({len(rivals)} such pairs) differ only in case: {where}")
    _write_json(directory / f"{out.folder.name}_prompts.json", prompts)
    evaluated = _eval_results(results, targets)
    if evaluated:
        _write_json(directory / f"{out.folder.name}_eval_results.json", evaluated)
        _write_submission(directory / f"{out.folder.name}_submission.zip", evaluated)
    if len(evaluated) < VBENCH_DIMENSIONS:
        out.problems.append(
            f"{len(evaluated)} of VBench's {VBENCH_DIMENSIONS} dimensions are scored: "
            "its leaderboard takes 0 for the others"
        )
    return _end(out, targets.values())


def _evalcrafter(results: Results, variant: str, samples: Sequence[_Sample], directory: Path) -> Exported:
    out = _begin(results, variant, directory)
    first: dict[str, _Sample] = {}
    for sample in sorted(samples, key=lambda s: s.seed):
        first.setdefault(sample.case, sample)
    own = all(re.fullmatch(r"\d{4}", case) for case in first)
    listing: dict[str, Any] = {}
    for order, sample in enumerate(sorted(first.values(), key=lambda s: s.row)):
        number = sample.case if own else f"{order:04d}"
        _copy(sample.source, out.folder / f"{number}.mp4")
        listing[number] = {"prompt": sample.prompt, "seed": sample.seed}
    if len(first) < len(samples):
        out.problems.append(
            f"EvalCrafter takes one video a prompt: {len(samples) - len(first)} further ones are left out"
        )
    if own and (absent := EVALCRAFTER_PROMPTS - len(listing)) > 0:
        out.problems.append(f"{absent} of EvalCrafter's {EVALCRAFTER_PROMPTS} videos are not part of this run")
    _write_json(directory / f"{out.folder.name}.json", dict(sorted(listing.items())))
    return _end(out, [out.folder / f"{number}.mp4" for number in listing])


def _variants(results: Results) -> list[tuple[str, list[_Sample]]]:
    rows = results.scores[results.scores["file"].fillna("") != ""]
    if rows.empty:
        raise StgEvalError(f"{results.path} has no videos to export; complete it with `stg-eval run`")
    find = finding(results.store, set(rows["key"]))
    samples: dict[str, list[_Sample]] = {name: [] for name in results.variants}
    for row, variant, case, prompt, seed, file, key in zip(
        rows.index, *(rows[name] for name in ("variant", "case", "prompt", "seed", "file", "key")), strict=True
    ):
        shown = prompt if isinstance(prompt, str) and prompt else Path(case).stem
        samples[variant].append(_Sample(row, case, shown, int(seed), find(file, key)))
    return [(name, chosen) for name, chosen in samples.items() if chosen]


def _indices(samples: Sequence[_Sample], out: Exported) -> list[tuple[_Sample, int]]:
    """Return each sample's index: its seed, counted from the run's first. Where several cases show one prompt, the
    samples of later cases are numbered on."""
    start, span = min(s.seed for s in samples), max(s.seed for s in samples) - min(s.seed for s in samples) + 1
    cases: dict[str, list[str]] = {}
    for sample in samples:
        known = cases.setdefault(sample.prompt, [])
        if sample.case not in known:
            known.append(sample.case)
    for prompt, known in cases.items():
        if len(known) > 1:
            out.problems.append(f"{len(known)} cases show {prompt[:60]!r}: their samples are numbered through")
    return [(s, s.seed - start + span * cases[s.prompt].index(s.case)) for s in samples]


def _begin(results: Results, variant: str, directory: Path) -> Exported:
    lost = [m for m in results.run.missing if m.variant == variant]
    atomic.sweep(directory / folder_name(variant))
    problems = [f"{m.case}, seed {m.seed}, is missing: {m.problem}" for m in lost]
    return Exported(directory / folder_name(variant), problems=problems)


def _end(out: Exported, written: Collection[Path]) -> Exported:
    out.videos = len(written)
    strangers = {p.name for p in out.folder.iterdir() if not is_hidden(p.name)} - {p.name for p in written}
    if strangers:
        out.problems.append(f"{out.folder} holds {len(strangers)} other files, such as {min(strangers)!r}: remove them")
    return out


def _eval_results(results: Results, targets: Mapping[int, Path]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for column in results.columns:
        if "|vbench" not in column.signature or column.name not in results.scores:
            continue
        values = {row: float(results.scores[column.name][row]) for row in targets}
        values = {row: value for row, value in values.items() if value == value}
        if values:
            convert = PER_VIDEO.get(column.name, float)
            videos = [{"video_path": str(targets[row]), "video_results": convert(v)} for row, v in values.items()]
            out[column.name] = [sum(values.values()) / len(values), videos]
    return out


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise StgEvalError(f"{source} is gone; make it again with the same `stg-eval run`")
    try:
        if target.is_file() and _same(source, target):
            return
        with atomic.replacing(target) as partial:
            shutil.copy2(source, partial)
    except OSError as error:
        raise StgEvalError(f"cannot write {target} ({error.strerror}); export to another folder") from error


def _same(source: Path, target: Path) -> bool:
    one, two = source.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (two.st_size, two.st_mtime_ns)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    try:
        atomic.write(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise StgEvalError(f"cannot write {path} ({error.strerror}); export to another folder") from error


def _write_submission(path: Path, evaluated: Mapping[str, Any]) -> None:
    """Return Pack one <dimension>_eval_results.json a dimension at the top of a zip file; same scores, same bytes."""
    try:
        with atomic.replacing(path) as partial, zipfile.ZipFile(partial, "w") as bundle:
            for dimension, found in evaluated.items():
                entry = zipfile.ZipInfo(f"{dimension}_eval_results.json", date_time=(1980, 1, 1, 0, 0, 0))
                bundle.writestr(entry, json.dumps({dimension: found}, ensure_ascii=False), zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise StgEvalError(f"cannot write {path} ({error.strerror}); export to another folder") from error


def _ignores_case(directory: Path) -> bool:
    probe = directory / ".Case"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        same = (directory / ".cASE").exists()
        probe.unlink()
    except OSError as error:
        raise StgEvalError(f"cannot write to {directory} ({error.strerror}); export to another folder") from error
    return same
