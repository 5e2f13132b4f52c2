"""Every checkpoint of the paper's metrics and models: source, digest, size and licence, and how it gets here.

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
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stg_eval.download import Progress, accept, sha256_of
from stg_eval.download import download as download
from stg_eval.types import StgEvalError


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
    """Patterns of a whole pipeline's files, which models load from the hub's cache; `require` gives the folder."""
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
        needed_by="metrics fvd, fvd_unbiased",
        licence="CC-BY-NC-4.0",
        size=2_023_804_201,
        sha256="5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
        repo="OpenGVLab/VideoMAE2",
        revision="97d119d270aca7a1217fff7f413c0c543eb325d9",
        file="mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
    ),
    Weight(
        name="c3d-ucf101",
        needed_by="metrics is, is_tgan, is_tganv2",
        licence="not stated",
        size=314_000_000,
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/conv3d_deepnetA_ucf.npz",
        file="conv3d_deepnetA_ucf.npz",
    ),
    Weight(
        name="c3d-mean",
        needed_by="metrics is, is_tgan, is_tganv2",
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
        needed_by="metrics dynamic_degree, static_filter",
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
    Weight(
        name="svd",
        needed_by="model svd",
        licence="Stability AI Community",
        size=4_510_000_000,
        repo="stabilityai/stable-video-diffusion-img2vid-xt",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        files=("model_index.json", "*/*.json", "*/*.fp16.safetensors"),
    ),
    Weight(
        name="mochi",
        needed_by="model mochi",
        licence="Apache-2.0",
        size=40_025_270_143,
        repo="genmo/mochi-1-preview",
        revision="14be5fcea23095ed330cb214647916a451e38b6e",
        # The text encoder has no bfloat16 files.
        files=("model_index.json", "scheduler/*", "tokenizer/*", "*/config.json", "text_encoder/*", "*/*bf16*"),
    ),
    Weight(
        name="opensora-stdit",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=4_835_598_472,
        repo="hpcai-tech/OpenSora-STDiT-v3",
        revision="dccc046bf978d03e783508ed15bcea04c6f5b34c",
        files=("config.json", "*.safetensors", "*.safetensors.index.json"),
    ),
    Weight(
        name="opensora-vae",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=1_573_430_548,
        repo="hpcai-tech/OpenSora-VAE-v1.2",
        revision="33d153e9b5a9f771a8a84f98bd3f46458a8ed0bf",
        files=("config.json", "*.safetensors", "*.safetensors.index.json"),
    ),
    Weight(
        name="opensora-t5",
        needed_by="model opensora",
        licence="Apache-2.0",
        size=19_050_000_000,
        repo="PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
        revision="2c17b4e85261cd549b4068d086b7c2ba9d468e9f",
        files=("*.json", "*/*.json", "*/*.model", "text_encoder/*.safetensors"),
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
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if row.size >= factor:
            return f"{row.size / factor:.1f} {unit}"
    return f"{row.size / 1e3:.1f} kB"


def where(name: str) -> Path | None:
    """The file (or folder of a pipeline) on this machine, None if it is not here. Checks no digest."""
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
    if row.sha256 is None and checkpoint.path == _own_path(row):
        _note_path(row).write_text(checkpoint.sha256 + "\n")
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
        names = sorted(p for p in path.rglob("*") if p.is_file())
        lines = "".join(f"{_checked_digest(p)}  {p.relative_to(path).as_posix()}\n" for p in names)
        return hashlib.sha256(lines.encode()).hexdigest()
    return sha256_of(path)


def _checked_digest(path: Path) -> str:
    found, blob = sha256_of(path), path.resolve().name
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
        raise StgEvalError(
            f"{row.name} is a whole pipeline, which runs from where it lies: give its folder with --set weights=FOLDER"
        )
    found = next((p for p in sorted(source.rglob(Path(row.file).name)) if p.is_file()), None)
    if found is None:
        raise StgEvalError(f"{source} holds no {Path(row.file).name}")
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
    return (
        f"{origin} could not be reached ({reason}); on a machine without network, copy the files into a folder and "
        f"run: stg-eval weights fetch {row.name} --from FOLDER"
    )
