"""Where data lies, how it is fetched, and digests of files that are computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_eval import weights
from stg_eval.storage import atomic, image
from stg_eval.types import StgEvalError
from stg_eval.weights.download import sha256_of

MOST = 10_000
"""Frames, pixels a side, prompts: what an option of a data set may count."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that is not part of the package."""

    title: str
    file: str = ""
    """What `fetch` downloads, relative to the data set's folder."""
    url: str = ""
    sha256: str = ""
    size: int = 0
    """Bytes of `file`."""
    licence: str
    steps: tuple[str, ...] = ()
    """What the user does by hand, with {folder} for the data set's folder."""


SOURCES: dict[str, Source] = {
    "evalcrafter": Source(
        title="EvalCrafter's 700 prompts",
        file="prompt700.txt",
        url="https://raw.githubusercontent.com/evalcrafter/EvalCrafter/1275bda05e74f295ad2585e3ebde8e95a81a15af/prompt700.txt",
        sha256="2b54c2786af539df302dee7270d5d82658652d1531c0814c9e4c32f02ff1c8fc",
        size=49_929,
        licence="none stated in its repository",
    ),
    "vbench-i2v": Source(
        title="VBench-I2V: 355 images with prompts and dimensions",
        file="vbench2_i2v_full_info.json",
        url="https://raw.githubusercontent.com/Vchitect/VBench/6149cafdc8f53df13bcd7108ce05ea4ad67e3ff3/vbench2_beta_i2v/vbench2_i2v_full_info.json",
        sha256="8cf4d34dc11779a336c216a1a71d482927cfa24a1bf736ab5c92425609f129f8",
        size=364_832,
        licence="Apache-2.0 (prompts); images from Pexels and Pixabay, under those sites' licences",
        steps=(
            "pip install gdown",
            "gdown 1Y_JnYnyJ3a6QhiranoX0MQVZFcTDPekZ --output {folder}/crop.zip",
            "unzip {folder}/crop.zip -d {folder}",
        ),
    ),
    "ucf101": Source(
        title="UCF-101: 13,320 videos of 101 human actions (6.9 GB), and the official split lists",
        licence="none stated; videos collected from YouTube, for research",
        steps=(
            "wget -P {folder} https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",
            "wget -P {folder} https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
            "unrar x {folder}/UCF101.rar {folder}/",
            "unzip {folder}/UCF101TrainTestSplits-RecognitionTask.zip -d {folder}",
        ),
    ),
}


def data_home() -> Path:
    """``data`` in the package's cache folder, see `stg_eval.weights.cache_dir`."""
    return weights.cache_dir() / "data"


def folder(name: str, root: object = None) -> Path:
    """Return the folder of a data set: the suite's option `root`, else its place in `data_home`."""
    return Path(str(root)).expanduser() if root else data_home() / name


def how_to_get(name: str) -> str:
    """Return the end of an error line about missing data."""
    return f"`stg-eval data fetch {name}` says how to get it (or set root: in a suite file of your own)"


def fetch(name: str) -> list[str]:
    """Download what may be downloaded; returns lines that say where it is, its size and licence, and what is left to
    do by hand. Raises StgEvalError for an unknown name, a failed download or a wrong digest."""
    if name not in SOURCES:
        raise StgEvalError(f"unknown data {name!r} (known: {', '.join(SOURCES)})")
    source, where = SOURCES[name], folder(name)
    lines = [source.title, f"licence: {source.licence}"]
    if source.file:
        path = where / source.file
        try:
            weights.download(source.url, path, source.sha256, size=source.size)
        except OSError as error:
            raise _cannot_write(path, error) from error
        lines.append(f"{path}: {source.size:,} bytes, digest verified")
    if source.steps:
        lines += ["by hand:", *("  " + step.format(folder=where) for step in source.steps)]
    return lines


def check_options(dataset: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises StgEvalError for an option that the dataset does not take."""
    unknown = [name for name in options if name not in known]
    if unknown:
        raise StgEvalError(
            f"dataset {dataset} takes the options {', '.join(known)}, not {', '.join(map(str, unknown))}"
        )


def whole_number(dataset: str, option: str, value: object) -> int:
    """Return the value of an option that counts something. Raises StgEvalError for one that is no whole number from 1
    to MOST."""
    if type(value) is not int or not 1 <= value <= MOST:  # a bool is an int to isinstance
        raise StgEvalError(f"{option} of dataset {dataset} must be a whole number from 1 to {MOST:,}, not {value!r}")
    return value


def file_digest(path: Path, dry: bool = False) -> str:
    """Return SHA-256 of a file, 64 hex digits; remembered, see `_remembered`."""
    return _remembered(path, "False", sha256_of, dry)


def image_digest(path: Path, dry: bool = False) -> str:
    """Say what identifies a first frame, see `stg_eval.storage.image.image_digest`; remembered, see `_remembered`."""
    return _remembered(path, "image-2", image.image_digest, dry)


def _remembered(path: Path, rule: str, digest: Callable[[Path], str], dry: bool) -> str:
    """Return a file's digest under a rule, by path, size and time of change: large sets of files are read only once;
    when `dry`, not at all."""
    stat = path.stat()
    known_as = _sha256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{rule}".encode())
    note = data_home() / "digests" / known_as[:2] / known_as
    try:
        return note.read_text(encoding="utf-8")
    except OSError:
        if dry:
            return f"not read: {path}"
    found = digest(path)
    write_whole(note, found.encode())
    return found


def write_whole(path: Path, data: bytes) -> None:
    """Write a file at once or not at all. Raises StgEvalError where the disk refuses."""
    try:
        atomic.write(path, data)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> StgEvalError:
    return StgEvalError(f"cannot write {path} ({error.strerror}); set STG_EVAL_CACHE to another folder")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
