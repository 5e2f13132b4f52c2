"""What a comparison reads: a run folder, or the small baseline file that is kept of one.

A baseline file is a zip of header.json, scores.csv and one array of features an extractor: no videos, so it can live
in git or on the hub. The same run gives the same bytes.
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from stg_eval.statistics.counting import counted
from stg_eval.storage import atomic, csv_text, results
from stg_eval.storage.record import RunRecord, first_problem, refuse_newer
from stg_eval.storage.schema import Column, check, read_scores
from stg_eval.storage.store import Store
from stg_eval.types import StgEvalError
from stg_eval.version import __version__

FORMAT = 1
HEADER_BYTES, SCORES_BYTES = 2**24, 2**28
RATIO = 200
"""Text packs to a tenth, or, where prompts repeat, to less; each key alone keeps 32 bytes of a row."""
MOST_FEATURES = 2**16
_DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, EOFError, OSError, NotImplementedError,
           RuntimeError, OverflowError, lzma.LZMAError)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Scores and features of one run."""

    path: Path
    run: RunRecord
    columns: tuple[Column, ...]
    scores: pd.DataFrame
    """One row a clip that exists: variant, case, prompt, label, seed, key, then the metrics, as in Results.scores."""
    features: Mapping[str, np.ndarray]
    """Extractor signature -> float32 [rows of scores, D]; nan where a clip has none, or no metric counts it."""
    store: Path | None
    """Where the clips lie; None for a baseline file."""

    def counted(self, metric: str) -> np.ndarray:
        """Say which rows of scores a set metric counts, bool [rows]."""
        return counted(self.scores, metric)

    def set_features(self, metric: str) -> np.ndarray:
        """Return features of a set metric, [rows of scores, D], whether it counts the row or another with its
        extractor."""
        return self.features[self.run.features[metric].extractor]


def load(path: Path) -> Snapshot:
    """Read a run folder or a baseline file. Raises StgEvalError for one that is missing, damaged or too new."""
    if path.is_dir():
        return _of_run(path)
    if not path.is_file():
        raise StgEvalError(
            f"there is no run or baseline at {path}; `stg-eval run` writes a run, "
            f"`stg-eval compare {path} RUN --update-baseline` a baseline"
        )
    return _read(path)


def write(snapshot: Snapshot, path: Path) -> None:
    """Write a baseline file, all of it or nothing."""
    if path.is_dir():
        raise StgEvalError(f"{path} is a folder; a baseline is a file, for example {path / 'baseline.zip'}")
    extractors = sorted(snapshot.features)
    header = {
        "format": FORMAT,
        "stg_eval": __version__,
        "run": snapshot.run.model_dump(mode="json", exclude={"store", "files"}),
        "columns": [asdict(column) for column in snapshot.columns],
        "features": extractors,
    }
    try:
        with atomic.replacing(path) as partial, zipfile.ZipFile(partial, "w") as file:
            _add(file, "header.json", json.dumps(header, indent=1, ensure_ascii=False).encode())
            _add(file, "scores.csv", csv_text.of_frame(snapshot.scores))
            for number, extractor in enumerate(extractors):
                buffer = io.BytesIO()
                np.save(buffer, snapshot.features[extractor])
                _add(file, f"features-{number}.npy", buffer.getvalue())
    except OSError as error:
        raise StgEvalError(f"cannot write the baseline {path}: {error.strerror}") from error


def reference(snapshot: Snapshot, metric: str) -> np.ndarray | None:
    """Return features float32 [M, D] of the real clips that a set metric compares with, from the run's own store; None
    where it needs none. Raises StgEvalError if the store has lost them."""
    entry = snapshot.run.features[metric]
    if entry.reference is None:
        return None
    if snapshot.store is None:
        raise StgEvalError(f"{metric} needs the real clips' features, which {snapshot.path} lacks; give a run folder")
    keys = [f"reference/{entry.reference.digest}/{i}" for i in range(entry.reference.count)]
    with Store(snapshot.store, write=False) as store:
        found = store.features(keys, entry.extractor)
    if len(found) < len(keys):
        raise StgEvalError(
            f"{snapshot.store} has features of {len(found)} of {len(keys)} real clips for {metric}; "
            "run the same `stg-eval run` again"
        )
    _width(found)
    return np.stack([found[key] for key in keys])


def _of_run(path: Path) -> Snapshot:
    found = results.load(path)
    absent = found.run.absent
    rows = found.scores[["variant", "case", "seed"]].itertuples(index=False, name=None)
    scores = found.scores[[row not in absent for row in rows]].reset_index(drop=True)
    store_path = found.store
    wanted: dict[str, np.ndarray] = {}
    for metric, entry in found.run.features.items():
        wanted[entry.extractor] = wanted.get(entry.extractor, False) | counted(scores, metric)
    features: dict[str, np.ndarray] = {}
    if wanted:  # an imported run has no store
        try:
            with Store(store_path, write=False) as store:
                features = {
                    extractor: _stack(store.features(list(scores["key"][rows]), extractor), scores["key"])
                    for extractor, rows in wanted.items()
                }
        except OSError as error:
            raise StgEvalError(f"the store of {path} cannot be read ({error.strerror})") from error
    return Snapshot(
        path=path,
        run=found.run,
        columns=found.columns,
        scores=scores.drop(columns=["file", "tags"], errors="ignore"),
        features=features,
        store=store_path,
    )


def _stack(found: Mapping[str, np.ndarray], keys: pd.Series) -> np.ndarray:
    width = _width(found)
    lacking = np.full(width, np.nan, np.float32)
    return _shorten(np.array([found.get(key, lacking) for key in keys], np.float32).reshape(len(keys), width))


def _width(found: Mapping[str, np.ndarray]) -> int:
    widths = {len(features) for features in found.values()} or {0}
    if len(widths) > 1:
        raise StgEvalError("the store holds features of one network in several lengths; run again with a new --store")
    return widths.pop()


def _shorten(features: np.ndarray) -> np.ndarray:
    """Round to ten bits of mantissa, those of float16, in the range of float32: the zeros compress away. Applied to
    both sides of every comparison, so a baseline file and the run that it was made of are the same thing."""
    bits = features.view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(features), rounded, features)


class Header(BaseModel):
    """header.json of a baseline file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    stg_eval: str
    run: RunRecord
    columns: tuple[Column, ...]
    features: tuple[str, ...]
    """Signature of the extractor of features-0.npy, features-1.npy, ..."""


def _read(path: Path) -> Snapshot:
    try:
        with zipfile.ZipFile(path) as file:
            text = _unpack(file, "header.json", HEADER_BYTES)
            refuse_newer(text, path, FORMAT)
            header = Header.model_validate_json(text)
            scores = read_scores(io.BytesIO(_unpack(file, "scores.csv", SCORES_BYTES)), header.columns)
            check(header.run, header.columns, scores)
            features = {name: _array(file, number, len(scores)) for number, name in enumerate(header.features)}
        lacking = {entry.extractor for entry in header.run.features.values()} - features.keys()
        if lacking:
            raise ValueError(f"no features of {min(lacking)}")
    except _DAMAGE as error:
        told = first_problem(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise StgEvalError(
            f"{path} is not a whole baseline ({told[:300] or type(error).__name__}); "
            "fetch it again, or write it again with --update-baseline"
        ) from error
    return Snapshot(path=path, run=header.run, columns=header.columns, scores=scores, features=features, store=None)


def _unpack(file: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return a part of the file, if it says that it is no larger than `most` and than its packed size makes likely:
    more is never read. Raises the errors of `_DAMAGE`."""
    part = file.getinfo(name)
    if part.file_size > min(most, 2**20 + RATIO * part.compress_size):
        raise ValueError(f"{name} would unpack to {part.file_size:,} bytes")
    return file.read(part)


def _array(file: zipfile.ZipFile, number: int, rows: int) -> np.ndarray:
    """Return float32 [rows, D], its header read before any of it is."""
    part = file.getinfo(f"features-{number}.npy")
    with file.open(part) as opened:
        version = np.lib.format.read_magic(opened)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(opened)
        if len(shape) != 2 or shape[0] != rows or shape[1] > MOST_FEATURES or by_columns or dtype != np.float32:
            raise ValueError(f"{part.filename} holds {dtype} {shape} for {rows} clips")
        size = 4 * shape[0] * shape[1]
        if part.file_size != opened.tell() + size:
            raise ValueError(f"{part.filename} is of another size than it says")
        return np.frombuffer(opened.read(), np.float32).reshape(shape)


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # no clock: same run, same bytes
    file.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=9)
