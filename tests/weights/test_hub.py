"""Checkpoints in the hub's own cache: found offline, checked file by file, and not there until they are whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from stg_eval import weights
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_hub_file_is_found_offline_in_the_hubs_own_cache_and_checked(tmp_path: Path) -> None:
    row = Weight(name="hubby", needed_by="tests", licence="none", size=1, repo="someone/thing", file="sub/net.bin")
    assert weights.where(row) is None
    # The layout huggingface_hub documents: refs/main -> commit, snapshots/<commit>/<file> -> blobs/<sha256>.
    repo, commit = tmp_path / "hub" / "models--someone--thing", "1" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "blobs").mkdir()
    (repo / "blobs" / SHA256).write_bytes(CONTENT)
    (repo / "snapshots" / commit / "sub").mkdir(parents=True)
    (repo / "snapshots" / commit / "sub" / "net.bin").symlink_to(repo / "blobs" / SHA256)
    assert weights.require(row).sha256 == SHA256
    (repo / "blobs" / SHA256).write_bytes(CONTENT[1:])
    with pytest.raises(StgEvalError, match="damaged or another file"):
        weights.require(row)


def test_pipeline_is_checked_file_by_file_in_the_hubs_cache(tmp_path: Path) -> None:
    row = Weight(
        name="pipe",
        needed_by="tests",
        licence="none",
        size=1,
        repo="someone/pipe",
        revision="2" * 40,
        files=("*.json",),
    )
    assert not weights.is_present(row)
    repo = tmp_path / "hub" / "models--someone--pipe"
    folder = repo / "snapshots" / ("2" * 40)
    folder.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "blobs" / SHA256).write_bytes(CONTENT)
    (folder / "unet.safetensors").symlink_to(repo / "blobs" / SHA256)
    (folder / "model_index.json").write_text("{}")
    assert weights.require(row).path == folder
    before = weights.require(row).sha256
    (folder / "model_index.json").write_text("{ }")
    assert weights.require(row).sha256 != before
    (repo / "blobs" / SHA256).write_bytes(CONTENT[1:])
    with pytest.raises(StgEvalError, match=r"unet\.safetensors is damaged"):
        weights.require(row)
    with pytest.raises(StgEvalError, match="--set weights=FOLDER"):
        weights.fetch(row, source=tmp_path)


PIPELINE = {
    "model_index.json": "{}",
    "unet/config.json": "{}",
    "unet/net.safetensors.index.bf16.json": '{"weight_map": {"a": "1.bf16.safetensors", "b": "2.bf16.safetensors"}}',
    "unet/1.bf16.safetensors": "one",
    "unet/2.bf16.safetensors": "two",
    "vae/net.bf16.safetensors": "three",
    "vae/model.safetensors.index.json": '{"weight_map": {"a": "of-no-pattern.safetensors"}}',
}


PIPE = Weight(
    name="pipe",
    needed_by="tests",
    licence="none",
    size=1,
    repo="someone/pipe",
    revision="2" * 40,
    files=("model_index.json", "*/*.json", "unet/*bf16*", "vae/*bf16*", "*.index.json"),
)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The folder of a pipeline in the hub's cache, complete, as clients leave it that keep no listing of the repo."""
    folder = tmp_path / "hub" / "models--someone--pipe" / "snapshots" / ("2" * 40)
    for name, text in PIPELINE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder.parents[1] / "blobs").mkdir()
    return folder


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("model_index.json", "model_index.json"),
        ("unet/2.bf16.safetensors", "unet/2.bf16.safetensors"),
        ("vae/net.bf16.safetensors", r"vae/\*bf16\*"),
    ],
)
def test_pipeline_that_lacks_a_file_is_not_here_and_fetch_names_it(pipeline: Path, lost: str, named: str) -> None:
    assert weights.where(PIPE) == pipeline
    assert weights.fetch(PIPE).path == pipeline
    (pipeline / lost).unlink()
    assert weights.where(PIPE) is None
    with pytest.raises(StgEvalError, match=r"weights 'pipe' .* missing"):
        weights.require(PIPE)
    with pytest.raises(StgEvalError, match=f"lacks {named}"):
        weights.fetch(PIPE)


def test_pipeline_with_a_cut_download_is_not_here_until_the_file_arrived(pipeline: Path) -> None:
    blobs = pipeline.parents[1] / "blobs"
    (blobs / f"{SHA256}.0badcafe.incomplete").write_bytes(CONTENT[:9])
    assert weights.where(PIPE) is None
    with pytest.raises(StgEvalError, match=r"incomplete.*finish or delete it"):
        weights.fetch(PIPE)
    (blobs / SHA256).write_bytes(CONTENT)
    assert weights.where(PIPE) == pipeline


def test_pipeline_with_a_cut_index_is_not_here(pipeline: Path) -> None:
    for text in ("", "[]", '{"weight_map": 1}'):
        (pipeline / "unet" / "net.safetensors.index.bf16.json").write_text(text)
        assert weights.where(PIPE) is None


def test_fetch_completes_a_pipeline_that_began_to_arrive(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    (pipeline / "unet" / "config.json").unlink()  # no rule of ours sees that: the hub's client must be asked
    cached = huggingface_hub.snapshot_download

    def online(*args: object, local_files_only: bool = False, **kwargs: object) -> str:
        if not local_files_only:
            (pipeline / "unet" / "config.json").write_text("{}")
        return str(cached(*args, local_files_only=True, **kwargs))  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", online)
    weights.fetch(PIPE)
    assert (pipeline / "unet" / "config.json").is_file()
