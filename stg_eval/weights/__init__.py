"""How the checkpoints of `stg_eval.weights.published` get here, where they lie, and that they are the published bytes.

Files of the Hugging Face hub stay in the hub's own cache, which other programs share. All others, and what `fetch`
takes from a folder, lie under `cache_dir()`. Nothing here opens a connection but `fetch`; `require` checks the digest
at every load, so a damaged or exchanged file can never turn into a score.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stg_eval.types import StgEvalError
from stg_eval.weights.download import Progress, accept, sha256_of
from stg_eval.weights.download import download as download
from stg_eval.weights.published import WEIGHTS as WEIGHTS
from stg_eval.weights.published import Weight as Weight


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is here and was found intact."""

    path: Path
    sha256: str
    """64 hex digits; of a folder, the digest of its files' digests."""

    @property
    def fingerprint(self) -> str:
        """The eight hex digits that signatures print."""
        return self.sha256[:8]


def cache_dir() -> Path:
    """Where files live that are not in the hub's cache: STG_EVAL_CACHE, else stg-eval in the user's cache folder."""
    if chosen := os.environ.get("STG_EVAL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stg-eval"


def weight(name: str) -> Weight:
    """The row of a checkpoint. Raises StgEvalError with the nearest name for an unknown one."""
    if name not in WEIGHTS:
        near = get_close_matches(name, WEIGHTS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"unknown weights {name!r}{hint} (known: {', '.join(WEIGHTS)})")
    return WEIGHTS[name]


def size(row: Weight) -> str:
    """How large the download is, for people: "2.0 GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if row.size >= factor:
            return f"{row.size / factor:.1f} {unit}"
    return f"{row.size / 1e3:.1f} kB"


def where(name: str) -> Path | None:
    """The file (or folder of a pipeline, if it is complete) on this machine, else None. Checks no digest."""
    row = weight(name)
    own = _own_path(row)
    if own.is_file():
        return own
    return _in_hub_cache(row) if row.repo else None


def is_present(name: str) -> bool:
    """Whether the checkpoint is on this machine."""
    return where(name) is not None


def require(name: str) -> Checkpoint:
    """The checkpoint, its digest checked now. Never opens a connection.

    Raises StgEvalError with the command that mends it: missing, or not the bytes that were published.
    """
    row, path = weight(name), where(name)
    if path is None:
        raise StgEvalError(
            f"weights {name!r} ({size(row)}, for {row.needed_by}) are missing; get them with: "
            f"stg-eval weights fetch {name}"
        )
    found, expected = _digest(path), _expected_digest(row, path)
    if expected and found != expected:
        raise StgEvalError(
            f"{path} is damaged or another file (SHA-256 {found[:16]}..., expected {expected[:16]}...); delete it, "
            f"then: stg-eval weights fetch {name}"
        )
    return Checkpoint(path, found)


def load_torch(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The tensors of a .pth file, on the CPU. Unpickles tensors and plain containers only, never code."""
    import torch

    return torch.load(checkpoint.path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(checkpoint.path))  # type: ignore[no-any-return]


def fetch(name: str, *, source: Path | None = None, progress: Progress = lambda done, total: None) -> Checkpoint:
    """Bring a checkpoint here, or find it intact here already.

    A download continues where an earlier one was cut, and the file takes its place only when it is whole and its digest
    is right. Hub files go through huggingface_hub into its cache, with its own progress bar; a pipeline that is here is
    completed where files of it are missing.

    Args:
        source: A folder (a copied stick, a mounted disk) to take the file from instead of the network. It is searched
            for the file's name. A file that is here is replaced by the published one only, or, where none is published,
            by the one that was fetched first.
        progress: Called as bytes arrive from a URL.

    Raises:
        StgEvalError: no connection, gated repo, full or write-protected disk, wrong digest, or nothing by that name in
            `source`.
    """
    row = weight(name)
    try:
        if not _own_path(row).is_file():
            _note_path(row).unlink(missing_ok=True)  # whoever deletes a file does not want to be held to it
        if source is not None:
            _copy(row, source)
        elif row.files:
            _fetch_from_hub(row)
        elif where(name) is None:
            _fetch_from_hub(row) if row.repo else _fetch_from_url(row, progress)
        checkpoint = require(name)
        if row.sha256 is None and checkpoint.path == _own_path(row):
            _note_path(row).write_text(checkpoint.sha256 + "\n", encoding="utf-8")
    except OSError as error:
        raise StgEvalError(
            f"weights {name!r} cannot be stored ({error}); STG_EVAL_CACHE chooses the folder, now {cache_dir()}"
        ) from error
    return checkpoint


def _own_path(row: Weight) -> Path:
    return cache_dir() / "weights" / row.name / Path(row.file).name


def _note_path(row: Weight) -> Path:
    return cache_dir() / "weights" / row.name / "sha256"


def _in_hub_cache(row: Weight) -> Path | None:
    import huggingface_hub
    from huggingface_hub import errors

    assert row.repo is not None
    if not row.files:
        found = huggingface_hub.try_to_load_from_cache(row.repo, row.file, revision=row.revision)
        return Path(found) if isinstance(found, str) else None
    try:
        folder = huggingface_hub.snapshot_download(
            row.repo, revision=row.revision, allow_patterns=list(row.files), local_files_only=True
        )
    except errors.LocalEntryNotFoundError:
        return None
    return None if _lacks(row, Path(folder)) else Path(folder)


def _lacks(row: Weight, folder: Path) -> str | None:
    """What a snapshot in the hub's cache still lacks, None if it is complete.

    The hub's client tells only where it has kept the repo's listing, and takes any other folder for complete.
    """
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for pattern in row.files:
        if not pattern.endswith(".index.json") and not any(fnmatch(file, pattern) for file in files):
            return pattern
    for index in (file for file in files if fnmatch(file, "*.index*.json")):
        try:
            shards: set[str] = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, LookupError, TypeError, AttributeError):
            return f"{index} in one piece"
        for shard in sorted((Path(index).parent / name).as_posix() for name in shards):
            if shard not in files and any(fnmatch(shard, pattern) for pattern in row.files):
                return shard
    blobs = folder.parent.parent / "blobs"
    for part in sorted(blobs.glob("*.incomplete")):
        if not (blobs / part.name.split(".")[0]).exists():
            return f"the whole of {part} (a download that was cut: finish or delete it)"
    return None


def _expected_digest(row: Weight, path: Path) -> str | None:
    if row.sha256:
        return row.sha256
    if path.is_file():
        blob = path.resolve().name  # the hub's cache names large files by their SHA-256
        if re.fullmatch("[0-9a-f]{64}", blob):
            return blob
        if path == _own_path(row) and _note_path(row).is_file():
            return _note_path(row).read_text(encoding="utf-8").strip()
    return None


def _digest(path: Path) -> str:
    if path.is_dir():
        names = sorted(p for p in path.rglob("*") if p.is_file())
        lines = "".join(f"{_checked_digest(p)}  {p.relative_to(path).as_posix()}\n" for p in names)
        return hashlib.sha256(lines.encode()).hexdigest()
    return sha256_of(path)


def _checked_digest(path: Path) -> str:
    found, blob = sha256_of(path), path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", blob) and found != blob:
        raise StgEvalError(f"{path} is damaged: its SHA-256 is {found[:16]}..., the hub's {blob[:16]}...; delete it")
    return found


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def _fetch_from_hub(row: Weight) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    assert row.repo is not None
    try:
        if row.files:
            folder = Path(
                huggingface_hub.snapshot_download(row.repo, revision=row.revision, allow_patterns=list(row.files))
            )
            if lacking := _lacks(row, folder):  # the client is content with any folder where it has no connection
                raise StgEvalError(
                    f"{row.repo} is incomplete, {folder} lacks {lacking}; with a connection to https://huggingface.co "
                    f"run again: stg-eval weights fetch {row.name}"
                )
        else:
            huggingface_hub.hf_hub_download(row.repo, row.file, revision=row.revision)
    except errors.GatedRepoError as error:
        raise StgEvalError(
            f"{row.repo} is gated: accept its licence at https://huggingface.co/{row.repo}, then `hf auth login`"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        if getattr(error, "errno", None) in _DISK:
            raise StgEvalError(f"the hub's cache cannot be written ({error}); make room, or set HF_HOME") from error
        raise StgEvalError(_no_connection(row, f"https://huggingface.co/{row.repo}", error)) from error


def _copy(row: Weight, source: Path) -> None:
    own = _own_path(row)
    if not source.is_dir():
        raise StgEvalError(f"{source} is no folder")
    if row.files:
        raise StgEvalError(
            f"{row.name} is a whole pipeline, which runs from where it lies: give its folder with --set weights=FOLDER"
        )
    found = next((p for p in sorted(source.rglob(Path(row.file).name)) if p.is_file()), None)
    if found is None:
        raise StgEvalError(f"{source} holds no {Path(row.file).name}")
    first = _expected_digest(row, own)
    if row.sha256 is None and first and (other := sha256_of(found)) != first:
        raise StgEvalError(
            f"{found} is not the file that was fetched first (SHA-256 {other[:16]}..., expected {first[:16]}...); to "
            f"take it all the same, delete {own} and run this again"
        )
    own.parent.mkdir(parents=True, exist_ok=True)
    partial = own.with_name(own.name + ".partial")
    shutil.copyfile(found, partial)
    accept(partial, own, row.sha256, str(found))


def _fetch_from_url(row: Weight, progress: Progress) -> None:
    from filelock import FileLock

    own = _own_path(row)
    own.parent.mkdir(parents=True, exist_ok=True)
    assert row.url is not None
    with FileLock(own.parent / "lock"):
        if own.exists():  # another process was first
            return
        if row.zip_sha256 is None:
            download(row.url, own, row.sha256, progress=progress)
            return
        archive = own.parent / "archive.zip"
        download(row.url, archive, row.zip_sha256, progress=progress)
        partial = own.with_name(own.name + ".partial")
        with zipfile.ZipFile(archive) as bundle, bundle.open(row.file) as member, partial.open("wb") as out:
            shutil.copyfileobj(member, out)
        accept(partial, own, row.sha256, f"{row.file} in {row.url}")
        archive.unlink()


def _no_connection(row: Weight, origin: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    then = "give it with --set weights=FOLDER" if row.files else f"run: stg-eval weights fetch {row.name} --from FOLDER"
    alone = "on a machine without network, copy the files into a folder and"
    return f"{origin} could not be reached ({reason}); {alone} {then}"
