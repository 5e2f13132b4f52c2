"""How checkpoints get here: from the hub, from a URL, out of a zip file there, or from a folder."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from stg_eval.storage import atomic
from stg_eval.types import StgEvalError
from stg_eval.weights import hub
from stg_eval.weights.download import check, download, only_one, sha256_of
from stg_eval.weights.local import Checkpoint, cache_dir, expected_digest, note_path, own_path, require, where
from stg_eval.weights.transfer import Progress
from stg_eval.weights.weight import Weight

ARCHIVE = 10
"""So many times the size of its member an archive may have."""


def fetch(row: Weight, *, source: Path | None = None, progress: Progress = lambda done, total: None) -> Checkpoint:
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
    try:
        if source is None and row.repo:
            if row.files or where(row) is None:
                hub.fetch(row)
            return require(row)
        with only_one(note_path(row)):
            if not own_path(row).is_file():
                note_path(row).unlink(missing_ok=True)  # whoever deletes a file does not want to be held to it
            if source is not None:
                _copy(row, source)
            elif where(row) is None:
                try:
                    _fetch_from_url(row, progress)
                except StgEvalError as error:
                    offline = f"stg-eval weights fetch {row.name} --from FOLDER"
                    raise StgEvalError(f"{error}; a copy from elsewhere is taken by: {offline}") from error
            checkpoint = require(row)
            if row.sha256 is None:
                atomic.write(note_path(row), checkpoint.sha256 + "\n")
            return checkpoint
    except OSError as error:
        raise StgEvalError(
            f"weights {row.name!r} cannot be stored ({error}); STG_EVAL_CACHE chooses the folder, now {cache_dir()}"
        ) from error


def _copy(row: Weight, source: Path) -> None:
    own = own_path(row)
    if not source.is_dir():
        raise StgEvalError(f"{source} is no folder")
    if row.files:
        raise StgEvalError(
            f"{row.name} is a whole pipeline, which runs from where it lies: give its folder with --set weights=FOLDER"
        )
    found = next((p for p in sorted(source.rglob(Path(row.file).name)) if p.is_file()), None)
    if found is None:
        raise StgEvalError(f"{source} holds no {Path(row.file).name}")
    first = expected_digest(row, own)
    if row.sha256 is None and first and (other := sha256_of(found)) != first:
        raise StgEvalError(
            f"{found} is not the file that was fetched first (SHA-256 {other[:16]}..., expected {first[:16]}...); to "
            f"take it all the same, delete {own} and run this again"
        )
    with atomic.replacing(own) as partial:
        shutil.copyfile(found, partial)
        check(partial, own.suffix, row.sha256, str(found))


def _fetch_from_url(row: Weight, progress: Progress) -> None:
    own = own_path(row)
    assert row.url is not None
    if row.zip_sha256 is None:
        download(row.url, own, row.sha256, size=row.size, progress=progress)
        return
    archive = own.parent / "archive.zip"
    download(row.url, archive, row.zip_sha256, size=ARCHIVE * row.size, progress=progress)
    with atomic.replacing(own) as partial:
        with zipfile.ZipFile(archive) as bundle, bundle.open(row.file) as member, partial.open("wb") as out:
            shutil.copyfileobj(member, out)
        check(partial, own.suffix, row.sha256, f"{row.file} in {row.url}")
    archive.unlink()
