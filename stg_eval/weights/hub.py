"""Checkpoints of the Hugging Face hub, in the hub's own cache: found there whole, or brought there."""

from __future__ import annotations

import errno
import json
from fnmatch import fnmatch
from pathlib import Path

from stg_eval.types import StgEvalError
from stg_eval.weights.weight import Weight

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def in_cache(row: Weight) -> Path | None:
    """Return the file or the complete folder in the hub's cache, None where it is not."""
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


def fetch(row: Weight) -> None:
    """Bring the file or the folder into the hub's cache. Raises StgEvalError: no connection, gated repo, full disk."""
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


def _lacks(row: Weight, folder: Path) -> str | None:
    """Say what a snapshot in the hub's cache still lacks, None if it is complete.

    The hub's client tells only where it has kept the repo's listing, and takes any other folder for complete.
    """
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for pattern in row.files:
        if not pattern.endswith(".index.json") and not any(fnmatch(file, pattern) for file in files):
            return pattern
    for index in (file for file in files if fnmatch(file, "*.index*.json")):
        try:
            shards: set[str] = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return f"{index} in one piece"
        for shard in sorted((Path(index).parent / name).as_posix() for name in shards):
            if shard not in files and any(fnmatch(shard, pattern) for pattern in row.files):
                return shard
    blobs = folder.parent.parent / "blobs"
    for part in sorted(blobs.glob("*.incomplete")):
        if not (blobs / part.name.split(".")[0]).exists():
            return f"the whole of {part} (a download that was cut: finish or delete it)"
    return None


def _no_connection(row: Weight, origin: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    then = "give it with --set weights=FOLDER" if row.files else f"run: stg-eval weights fetch {row.name} --from FOLDER"
    alone = "on a machine without network, copy the files into a folder and"
    return f"{origin} could not be reached ({reason}); {alone} {then}"
