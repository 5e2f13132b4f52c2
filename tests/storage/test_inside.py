"""Clips are found where they belong, with the bytes that were stored, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from stg_eval.storage.inside import clip_path, finding, inside
from stg_eval.storage.store import Store, clip_name
from stg_eval.types import Case, Clip, Guidance, Request, StgEvalError


@pytest.mark.parametrize("name", ["/etc/passwd", "..", "a/../../b", "link", "x" * 5000, "\0"])
def test_names_that_lead_out_of_a_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(StgEvalError, match="leads out of"):
        inside(root, name)
    assert inside(root, "a/../b") == root / "b"


def test_the_clips_of_a_store_may_lie_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk" / "ab").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "clips").symlink_to(tmp_path / "disk")
    assert clip_path(tmp_path / "store", "clips/ab/abc.mp4", "abc") == tmp_path / "disk" / "ab" / "abc.mp4"


def test_a_clip_whose_bytes_changed_since_it_was_stored_is_named(
    tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    request = Request(
        model="m", weights="w", guidance=Guidance(), case=Case(id="a"), seed=0, height=32, width=64, num_frames=8,
        fps=8.0, num_inference_steps=1, dtype="float32", encoding="vp9-lossless",
    )  # fmt: skip
    file = tmp_path / "store" / clip_name(request.key)
    data = make_video(file.name, folder=file.parent).read_bytes()
    with Store(tmp_path / "store") as store:
        clip = Clip(
            key=request.key, file=clip_name(request.key), sha256=hashlib.sha256(data).hexdigest(), num_frames=8,
            height=32, width=64, fps=8.0, encoding="vp9-lossless", seconds=1.0,
        )  # fmt: skip
        store.add_clips([(request, clip)])
    find = finding(tmp_path / "store", {request.key})
    assert find(clip.file, clip.key).read_bytes() == data
    for damaged in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1]):
        file.write_bytes(damaged)
        with pytest.raises(StgEvalError, match="not those that were stored"):
            find(clip.file, clip.key)
    file.unlink()
    assert not find(clip.file, clip.key).exists(), "who looks for it says that it is gone"
