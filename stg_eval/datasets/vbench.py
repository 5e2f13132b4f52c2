"""VBench's prompts (T2V, from the installed vbench package) and images (I2V, fetched), their dimensions as tags.

Source: Huang et al., CVPR 2024; VBench_full_info.json of vbench 0.1.5; vbench2_i2v_full_info.json of its repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stg_eval.datasets.dataset import stratified
from stg_eval.datasets.files import SOURCES, check_options, folder, how_to_get, image_digest, whole_number
from stg_eval.datasets.prompt_files import rows
from stg_eval.types import Case, StgEvalError

CITATIONS = (
    """@inproceedings{huang2024vbench,
  title = {{VBench}: Comprehensive Benchmark Suite for Video Generative Models},
  author = {Huang, Ziqi and others},
  booktitle = {CVPR},
  year = {2024},
}""",
)
RATIOS = ("1-1", "8-5", "7-4", "16-9")
"""Aspect ratios (width-height) in which VBench-I2V ships its images."""


class VBenchT2V:
    """One case a unique prompt (944 for 946 entries: two prompts stand there twice, with other dimensions each).

    Args:
        augmented: A text file with one longer prompt an entry, in the order of the list, as VBench's repository has
            them. The model is shown these; metrics look for what the original says, as VBench's do.
    """

    def __init__(self, dimensions: tuple[str, ...], random_prompts: int | None, augmented: Path | None = None) -> None:
        self._dimensions, self._count, self._augmented = dimensions, random_prompts, augmented
        spec = find_spec("vbench")  # does not import it
        places = [Path(place) / "VBench_full_info.json" for place in (spec and spec.submodule_search_locations) or ()]
        self._path = next((place for place in places if place.is_file()), None)
        self.missing = None
        if self._path is None:
            self.missing = "VBench's prompts are part of its package: pip install --no-deps vbench==0.1.5"

    def cases(self, dry: bool = False) -> Iterator[Case]:
        if self._path is None:
            raise StgEvalError(str(self.missing))
        merged: dict[str, Case] = {}
        entries = _entries(self._path)
        shown = _longer(self._augmented, len(entries)) if self._augmented else [entry["prompt_en"] for entry in entries]
        for number, (entry, longer) in enumerate(zip(entries, shown, strict=True)):
            prompt = entry["prompt_en"]
            new = Case(id=f"{number:03d}", prompt=longer, asked=prompt if self._augmented else "")
            case = merged.get(prompt, new)
            merged[prompt] = replace(case, tags=tuple(dict.fromkeys((*case.tags, *entry["dimension"]))))
        cases = _with(merged.values(), self._dimensions)
        if self._count is not None:
            yield from stratified(cases, lambda case: None, lambda case: case.wanted)[: self._count]
        else:
            yield from stratified(cases, lambda case: case.tags, lambda case: case.wanted)

    def reference(self) -> None:
        return None


class VBenchI2V:
    """One case an image, as cropped to `ratio`; with the dimension camera_motion also the prompts that move the camera.

    Layout: root/vbench2_i2v_full_info.json and root/crop/<ratio>/*.jpg.
    """

    def __init__(self, root: Path, ratio: str, dimensions: tuple[str, ...]) -> None:
        self._info = root / SOURCES["vbench-i2v"].file
        self._crops, self._dimensions = root / "crop" / ratio, dimensions
        self.missing = self._problem(root)

    def _problem(self, root: Path) -> str | None:
        if not self._info.is_file():
            return f"VBench-I2V's list is not at {self._info}; {how_to_get('vbench-i2v')}"
        if not self._crops.is_dir():
            return f"VBench-I2V's images are not at {self._crops}; {how_to_get('vbench-i2v')}"
        there = {path.name for path in self._crops.iterdir() if path.is_file() and path.stat().st_size > 0}
        try:
            needed = {str(entry["image_name"]) for entry in _entries(self._info)}
        except (StgEvalError, KeyError) as error:
            return str(error)
        if absent := sorted(needed - there):
            return (
                f"{self._crops} lacks {len(absent)} of {len(needed)} images, such as {absent[0]!r}; "
                "extract crop.zip again"
            )
        return None

    def cases(self, dry: bool = False) -> Iterator[Case]:
        if self.missing:
            raise StgEvalError(self.missing)
        entries = _entries(self._info)
        cases = [
            Case(id=f"{number:04d}", prompt=entry["prompt_en"], tags=(*entry["dimension"], entry["image_type"]))
            for number, entry in enumerate(entries)
        ]
        for case in stratified(_with(cases, self._dimensions), lambda case: case.tags, lambda case: case.prompt):
            image = self._crops / entries[int(case.id)]["image_name"]
            yield replace(case, image=str(image), image_sha256=image_digest(image, dry))

    def reference(self) -> None:
        return None


def open_dataset(name: str, options: Mapping[str, Any], reference_clips: int | None) -> VBenchT2V | VBenchI2V:
    """Options of both: `dimensions`, a list (default: all). vbench-t2v: `random_prompts`, a number of prompts drawn
    regardless of dimension, and `augmented`, a file of longer prompts, see VBenchT2V. vbench-i2v: `root`, and `ratio`
    (one of RATIOS, default 16-9)."""
    dimensions = options.get("dimensions") or ()
    if not isinstance(dimensions, list | tuple) or not all(isinstance(d, str) for d in dimensions):
        raise StgEvalError(f"dimensions of dataset {name} must be a list of names, not {dimensions!r}")
    if name == "vbench-t2v":
        check_options(name, options, ("dimensions", "random_prompts", "augmented"))
        count, longer = options.get("random_prompts"), options.get("augmented")
        return VBenchT2V(
            tuple(dimensions),
            None if count is None else whole_number(name, "random_prompts", count),
            Path(str(longer)).expanduser() if longer else None,
        )
    check_options(name, options, ("root", "ratio", "dimensions"))
    ratio = str(options.get("ratio", "16-9"))
    if ratio not in RATIOS:
        raise StgEvalError(f"vbench-i2v has images of {', '.join(RATIOS)}, not {ratio}")
    return VBenchI2V(folder(name, options.get("root")), ratio, tuple(dimensions))


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for entry in entries:
            if not isinstance(entry["prompt_en"], str) or not isinstance(entry["dimension"], list):
                raise TypeError("an entry without prompt_en or dimension")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise StgEvalError(f"{path} is damaged ({error}); install or fetch it again") from error
    return entries  # type: ignore[no-any-return]


def _longer(path: Path, count: int) -> list[str]:
    """Read one prompt a line. Raises StgEvalError for another number of them: a line too few would move all others."""
    lines = [row["prompt"] if row else "" for _, row in rows(path)]
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) != count or not all(lines):
        filled = sum(map(bool, lines))
        raise StgEvalError(f"{path} has {filled} prompts in {len(lines)} lines; VBench's list has {count}, one a line")
    return [line.strip() for line in lines]


def _with(cases: Any, dimensions: tuple[str, ...]) -> list[Case]:
    cases = list(cases)
    known = {tag for case in cases for tag in case.tags}
    if unknown := [d for d in dimensions if d not in known]:
        raise StgEvalError(f"VBench has no dimension {unknown[0]!r} (known: {', '.join(sorted(known))})")
    return [case for case in cases if not dimensions or set(dimensions) & set(case.tags)]
