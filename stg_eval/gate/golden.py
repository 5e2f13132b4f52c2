"""Golden frames: a few clips are kept, and later runs must make the same pixels.

For changes that promise exactness (a faster kernel, a refactored sampler). A golden folder holds golden.json and
clips/; write it with ``--update-baseline --golden N``.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from stg_eval.gate.outcome import Check, Outcome, Table
from stg_eval.gate.pairing import Mismatch, NotComparable
from stg_eval.metrics.paired.psnr import frame_psnr
from stg_eval.metrics.paired.ssim import frame_ssim
from stg_eval.storage import atomic, lock, results
from stg_eval.storage.inside import finding, inside
from stg_eval.storage.record import first_problem, refuse_newer
from stg_eval.storage.results import Results
from stg_eval.storage.video import read_video
from stg_eval.types import StgEvalError

FORMAT = 1
HEADER = "golden.json"
GATES: dict[str, float] = {
    # Rounding differs between kernels and cards by about one grey level: 48 dB. The eye sees nothing above 45.
    "psnr": 45.0,
    "ssim": 0.99,
    "percent": 99.0,
    # No frame at all may be visibly another one.
    "floor_psnr": 30.0,
    "floor_ssim": 0.9,
}
"""`percent` of a clip's frames must reach psnr (dB) and ssim, and every frame the two floors."""


class GoldenClip(BaseModel):
    """One clip that is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    variant: str
    case: str
    seed: int
    file: str
    """Below the folder."""
    sha256: str


class Golden(BaseModel):
    """golden.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    suite: str
    model: str | None
    clips: tuple[GoldenClip, ...]


def is_golden(path: Path) -> bool:
    return atomic.newest(path, HEADER).is_file()


def update(folder: Path, run: Path, count: int) -> Outcome:
    """Keep the first `count` clips of each variant of a run as the golden ones."""
    if folder.exists() and not is_golden(folder) and (not folder.is_dir() or any(folder.glob("[!.]*"))):
        raise StgEvalError(f"{folder} exists and holds no golden frames; choose a new folder")
    found = results.load(run)
    kept = [row for _, rows in found.scores.groupby("variant", sort=False) for row in _rows(found, rows.head(count))]
    clips: list[GoldenClip] = []
    find = finding(found.store, {row["key"] for row in kept})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock.held(folder / ".lock", "choose another folder"), atomic.renewing(folder) as partial:
            (partial / "clips").mkdir()
            for row in kept:
                source = find(row["file"], row["key"])
                target = Path("clips") / f"{len(clips):04d}{source.suffix}"
                shutil.copyfile(source, partial / target)
                digest = hashlib.sha256(source.read_bytes()).hexdigest()
                named = {key: row[key] for key in ("variant", "case", "seed")}
                clips.append(GoldenClip(file=str(target), sha256=digest, **named))
            record = Golden(format=FORMAT, suite=found.run.suite, model=found.run.model, clips=tuple(clips))
            text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
            (partial / HEADER).write_text(text, encoding="utf-8")
        for path in {*(folder / "clips").glob("[0-9]" * 4 + ".*")} - {folder / clip.file for clip in clips}:
            path.unlink()  # of more golden clips than these
    except OSError as error:
        raise StgEvalError(f"cannot write golden frames to {folder}: {error.strerror}") from error
    return Outcome(exit_code=0, headline=f"{len(clips)} golden clips written to {folder}")


def compare(folder: Path, run: Path, gates: Mapping[str, float] | None = None) -> Outcome:
    """Compare every golden clip with the run's clip of the same variant, case and seed, frame by frame.

    Raises NotComparable for a clip that the run lacks or that has another size, StgEvalError for a damaged one.
    """
    gates = _gates(gates or {})
    golden, found = _load(folder), results.load(run)
    if golden.suite != found.run.suite:
        raise NotComparable([Mismatch("golden", f"{golden.suite} in the golden frames, {found.run.suite} in the run")])
    rows = {(row["variant"], row["case"], row["seed"]): row for row in _rows(found, found.scores)}
    absent = [clip for clip in golden.clips if (clip.variant, clip.case, clip.seed) not in rows]
    if absent:
        raise NotComparable([Mismatch("golden", f"{_name(clip)} is missing in the run") for clip in absent[:5]])
    find = finding(found.store, {row["key"] for row in rows.values()})
    lines, checks, data = [], [], []
    for clip in golden.clips:
        name = _name(clip)
        before = _read_golden(folder, clip)
        row = rows[clip.variant, clip.case, clip.seed]
        after = read_video(find(row["file"], row["key"]))
        if before.shape != after.shape:
            raise NotComparable(
                [Mismatch("golden", f"{name} is {before.shape} in the golden frames, {after.shape} in the run")]
            )
        psnr, ssim = frame_psnr(after, before), frame_ssim(after, before)
        percent, passed = judge_frames(psnr, ssim, gates)
        cells = (f"{percent:.0f} %", _db(float(psnr.min())), f"{ssim.min():.4f}")
        lines.append((name, *cells, "same" if passed else "worse"))
        line = f"{cells[0]} of frames within the gate, worst frame {cells[1]} dB, SSIM {cells[2]}"
        checks.append(Check(group="golden frames", name=name, state="pass" if passed else "fail", line=line))
        data.append({"clip": name, "passed": passed, "psnr": psnr.tolist(), "ssim": ssim.tolist()})
    failed = sum(check.state == "fail" for check in checks)
    lines.sort(key=lambda row: row[-1] == "same")
    header = ("Clip", "Frames within", "Worst PSNR", "Worst SSIM", "Verdict")
    gate = ", ".join(f"{name} {value:g}" for name, value in gates.items())
    return Outcome(
        exit_code=1 if failed else 0,
        headline=f"{failed} of {len(checks)} golden clips changed"
        if failed
        else f"{len(checks)} golden clips unchanged",
        tables=(Table(title=f"Golden frames (gates: {gate})", header=header, rows=tuple(lines)),),
        checks=tuple(checks),
        data={"gates": dict(gates), "clips": data},
    )


def judge_frames(psnr: np.ndarray, ssim: np.ndarray, gates: Mapping[str, float]) -> tuple[float, bool]:
    """Return per cent of a clip's frames within the gate, and whether the clip passes both gates; inputs [T]."""
    percent = 100 * float(((psnr >= gates["psnr"]) & (ssim >= gates["ssim"])).mean())
    floor = (psnr >= gates["floor_psnr"]).all() and (ssim >= gates["floor_ssim"]).all()
    return percent, bool(percent >= gates["percent"] and floor)


def _gates(changes: Mapping[str, float]) -> dict[str, float]:
    unknown = changes.keys() - GATES.keys()
    if unknown:
        raise StgEvalError(f"unknown entry golden.{sorted(unknown)[0]} (known: {', '.join(GATES)})")
    for name, value in changes.items():
        if not isinstance(value, int | float):
            raise StgEvalError(f"golden.{name} must be a number, not {value!r}")
    return {**GATES, **changes}


def _load(folder: Path) -> Golden:
    """Raises StgEvalError for a header that is damaged or of a newer version."""
    try:
        text = atomic.newest(folder, HEADER).read_bytes()
        refuse_newer(text, folder, FORMAT)
        return Golden.model_validate_json(text)
    except (OSError, ValueError) as error:
        told = first_problem(error) if isinstance(error, ValidationError) else error
        raise StgEvalError(f"{folder / HEADER} is damaged ({told}); write it again with --update-baseline") from error


def _read_golden(folder: Path, clip: GoldenClip) -> np.ndarray:
    path = atomic.newest(folder, inside(folder, clip.file).relative_to(folder.resolve()).as_posix())
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != clip.sha256:
        raise StgEvalError(
            f"golden clip {path} is missing or damaged; fetch it again, or write it with --update-baseline"
        )
    return read_video(path)


def _rows(found: Results, scores: Any) -> Iterator[dict[str, Any]]:
    """Yield rows of clips that exist."""
    absent = found.run.absent
    for row in scores[["variant", "case", "seed", "file", "key"]].to_dict("records"):
        if (row["variant"], row["case"], row["seed"]) not in absent:
            yield {str(key): value for key, value in row.items()}


def _name(clip: GoldenClip) -> str:
    return f"{clip.variant}/{clip.case}/seed {clip.seed}"


def _db(value: float) -> str:
    return "identical" if math.isinf(value) else f"{value:.1f}"
