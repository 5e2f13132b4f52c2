"""Every checkpoint that stg-eval can use: where it comes from, its digest, size and licence, and how it gets here.

Files of the Hugging Face hub stay in the hub's own cache, which other programs share. All others, and what `fetch`
takes from a folder, lie under `cache_dir()`. Nothing here opens a connection but `fetch`; `require` checks the digest
at every load, so a damaged or exchanged file can never turn into a score.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stg_eval.types import StgEvalError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the total, None where the server does not say."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One checkpoint: a file on the hub (`repo`), several (`files`), or a file behind a URL, perhaps inside a zip."""

    name: str
    needed_by: str
    """The metric or model that loads it."""
    licence: str
    size: int
    """Bytes; rounded where the publisher's exact number is not known."""
    sha256: str | None = None
    """Of the file. None: not published, so the digest of the first fetch is kept and checked from then on."""
    repo: str | None = None
    revision: str | None = None
    """Commit on the hub; None: the newest one."""
    file: str = ""
    """Path inside the repo or the zip, else the name of the file."""
    files: tuple[str, ...] = ()
    """Patterns of the files of a whole pipeline; `require` then gives the folder."""
    url: str | None = None
    zip_sha256: str | None = None
    """Digest of the archive at `url` that holds `file`."""


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


_TABLE = (
    Weight(
        name="videomae-g-ssv2",
        needed_by="metric fvd",
        licence="CC-BY-NC-4.0",
        size=2_023_804_201,
        sha256="5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
        repo="OpenGVLab/VideoMAE2",
        revision="97d119d270aca7a1217fff7f413c0c543eb325d9",
        file="mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
    ),
    Weight(
        name="c3d-ucf101",
        needed_by="metric is",
        licence="not stated",
        size=314_000_000,
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/conv3d_deepnetA_ucf.npz",
        file="conv3d_deepnetA_ucf.npz",
    ),
    Weight(
        name="c3d-mean",
        needed_by="metric is",
        licence="not stated",
        size=4_200_000,
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/mean2.npz",
        file="mean2.npz",
    ),
    Weight(
        name="amt-s",
        needed_by="metric motion_smoothness",
        licence="CC-BY-NC-4.0",
        size=12_000_000,
        repo="lalala125/AMT",
        file="amt-s.pth",
    ),
    Weight(
        name="raft-things",
        needed_by="metric dynamic_degree",
        licence="BSD-3-Clause",
        size=21_108_000,
        sha256="fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
        url="https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip",
        zip_sha256="4be6101b271f58ec49866da5cf609fd17e86e9cae2483f70630ef4a295dc66bd",
        file="models/raft-things.pth",
    ),
    Weight(
        name="musiq-spaq",
        needed_by="metric imaging_quality",
        licence="Apache-2.0",
        size=109_000_000,
        sha256="358bb6af275e28ea56821d44fb55c6cb83645db11f394d3ad65b2d149965ab50",
        url="https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
        file="musiq_spaq_ckpt-358bb6af.pth",
    ),
    Weight(
        name="clip-vit-l-14",
        needed_by="metric aesthetic_quality",
        licence="MIT",
        size=1_710_540_580,
        sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        repo="openai/clip-vit-large-patch14",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        file="model.safetensors",
    ),
    Weight(
        name="laion-aesthetic",
        needed_by="metric aesthetic_quality",
        licence="MIT",
        size=4_071,
        url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
        file="sa_0_4_vit_l_14_linear.pth",
    ),
)

WEIGHTS: dict[str, Weight] = {weight.name: weight for weight in _TABLE}
"""All checkpoints, by name."""


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
    return f"{row.size / 1e9:.1f} GB" if row.size >= 1e9 else f"{max(row.size / 1e6, 0.1):.1f} MB"


def where(name: str) -> Path | None:
    """The file (or folder of a pipeline) on this machine, None if it is not here. Checks no digest."""
    row = weight(name)
    own = _own_path(row)
    if own.exists():
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
    is right. Hub files go through huggingface_hub into its cache, with its own progress bar.

    Args:
        source: A folder (a copied stick, a mounted disk) to take the file from instead of the network. It is searched
            for the file's name.
        progress: Called as bytes arrive from a URL.

    Raises:
        StgEvalError: no connection, gated repo, full disk, wrong digest, or nothing by that name in `source`.
    """
    row = weight(name)
    if source is not None:
        _copy(row, source)
    elif where(name) is None:
        if row.repo:
            _fetch_from_hub(row)
        else:
            _fetch_from_url(row, progress)
    checkpoint = require(name)
    if row.sha256 is None and checkpoint.path == _own_path(row) and checkpoint.path.is_file():
        _note_path(row).write_text(checkpoint.sha256 + "\n")
    return checkpoint


def _own_path(row: Weight) -> Path:
    folder = cache_dir() / "weights" / row.name
    return folder if row.files else folder / Path(row.file).name


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
        return Path(
            huggingface_hub.snapshot_download(
                row.repo, revision=row.revision, allow_patterns=list(row.files), local_files_only=True
            )
        )
    except errors.LocalEntryNotFoundError:
        return None


def _expected_digest(row: Weight, path: Path) -> str | None:
    if row.sha256:
        return row.sha256
    if path.is_file():
        blob = path.resolve().name  # the hub's cache names large files by their SHA-256
        if re.fullmatch("[0-9a-f]{64}", blob):
            return blob
        if path == _own_path(row) and _note_path(row).is_file():
            return _note_path(row).read_text().strip()
    return None


def _digest(path: Path) -> str:
    if path.is_dir():
        names = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".partial")
        lines = "".join(f"{_checked_digest(p)}  {p.relative_to(path).as_posix()}\n" for p in names)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked_digest(path: Path) -> str:
    found, blob = _digest(path), path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", blob) and found != blob:
        raise StgEvalError(f"{path} is damaged: its SHA-256 is {found[:16]}..., the hub's {blob[:16]}...; delete it")
    return found


def _fetch_from_hub(row: Weight) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    assert row.repo is not None
    try:
        if row.files:
            huggingface_hub.snapshot_download(row.repo, revision=row.revision, allow_patterns=list(row.files))
        else:
            huggingface_hub.hf_hub_download(row.repo, row.file, revision=row.revision)
    except errors.GatedRepoError as error:
        raise StgEvalError(
            f"{row.repo} is gated: accept its licence at https://huggingface.co/{row.repo}, then `hf auth login`"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise StgEvalError(_no_connection(row, f"https://huggingface.co/{row.repo}", error)) from error


def _copy(row: Weight, source: Path) -> None:
    own = _own_path(row)
    if not source.is_dir():
        raise StgEvalError(f"{source} is no folder")
    if row.files:
        shutil.copytree(source / row.name, own, dirs_exist_ok=True) if (source / row.name).is_dir() else None
        if not own.is_dir():
            raise StgEvalError(f"{source} holds no folder {row.name}, the pipeline's files from {row.repo}")
        return
    found = next((p for p in sorted(source.rglob(Path(row.file).name)) if p.is_file()), None)
    if found is None:
        raise StgEvalError(f"{source} holds no {Path(row.file).name}")
    own.parent.mkdir(parents=True, exist_ok=True)
    partial = own.with_name(own.name + ".partial")
    shutil.copyfile(found, partial)
    _accept(partial, own, row.sha256, str(found))


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
        _accept(partial, own, row.sha256, f"{row.file} in {row.url}")
        archive.unlink()


def download(
    url: str,
    path: Path,
    sha256: str | None,
    *,
    attempts: int = 5,
    progress: Progress = lambda done, total: None,
) -> None:
    """Fetch `url` into `path`, whole or not at all.

    What has arrived lies in ``<path>.partial``; a cut connection is taken up there, in this call or in a later one.

    Raises:
        StgEvalError: no connection after `attempts`, full disk, or bytes whose SHA-256 is not `sha256`.
    """
    partial = path.with_name(path.name + ".partial")
    for attempt in range(1, attempts + 1):
        try:
            _continue(url, partial, progress)
            break
        except OSError as error:  # URLError, resets and time-outs are OSErrors too
            status = getattr(error, "code", None)
            final = isinstance(status, int) and 400 <= status < 500
            if error.errno == 28 or final or attempt == attempts:
                raise StgEvalError(
                    f"{url} could not be fetched ({error}); what has arrived is kept, run the same command to continue"
                ) from error
    _accept(partial, path, sha256, url)


def _continue(url: str, partial: Path, progress: Progress) -> None:
    import urllib.error
    import urllib.request

    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "stg-eval", "Range": f"bytes={have}-"})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies behind what we have
            return
        raise
    with response, partial.open("ab" if response.status == 206 else "wb") as out:
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        progress(have, total)
        while block := response.read(1 << 20):
            out.write(block)
            have += len(block)
            progress(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"the connection was cut after {have} of {total} bytes")


def _accept(partial: Path, path: Path, sha256: str | None, origin: str) -> None:
    """Give a complete file its name, if it is what it should be; else delete it."""
    found = _digest(partial)
    if sha256 and found != sha256:
        partial.unlink()
        raise StgEvalError(f"{origin} is not the published file: SHA-256 {found[:16]}..., expected {sha256[:16]}...")
    partial.replace(path)


def _no_connection(row: Weight, origin: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return (
        f"{origin} could not be reached ({reason}); on a machine without network, copy the files into a folder and "
        f"run: stg-eval weights fetch {row.name} --from FOLDER"
    )
