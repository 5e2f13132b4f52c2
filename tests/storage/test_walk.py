"""One walk for videos, images and checkpoints: nothing hidden is taken, nothing else is left out without a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.pipeline.requests import weights_identity
from stg_eval.storage.video import VIDEO_SUFFIXES, find_videos
from stg_eval.storage.walk import find, visible_files
from stg_eval.types import StgEvalError

HIDDEN = (
    ".ipynb_checkpoints/a-checkpoint.mp4",
    ".Trash-1000/files/b.mp4",
    ".AppleDouble/c.mp4",
    "__MACOSX/d.mp4",
    "$RECYCLE.BIN/e.mp4",
    "sub/.git/f.mp4",
    "._g.mp4",
    ".DS_Store",
    "Thumbs.db",
)


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(name))
    return folder


def test_hidden_files_and_folders_are_skipped(tmp_path):
    found = find_videos(make(tmp_path, "a.mp4", "sub/b.MOV", *HIDDEN))
    assert [p.relative_to(tmp_path).as_posix() for p in found.files] == ["a.mp4", "sub/b.MOV"]
    assert found.left_out == ""


def test_a_folder_is_searched_although_its_own_name_is_hidden(tmp_path):
    assert len(find_videos(make(tmp_path / ".cache" / "clips", "a.mp4")).files) == 1


def test_what_is_left_out_is_named_by_kind(tmp_path):
    make(tmp_path, "a.mp4", "a.txt", "b.txt", "c.heic", "README", "sub/d.tiff")
    assert find_videos(tmp_path).left_out == "2 .txt, 1 without suffix, 1 .heic, 1 .tiff"
    images = find(make(tmp_path / "images", "x.png", "y.heic", "more/z.png"), (".png",), "an image", deep=False)
    assert ([p.name for p in images.files], images.left_out) == (["x.png"], "1 folder, 1 .heic")


def test_many_kinds_are_named_in_a_line_of_bounded_length(tmp_path):
    left_out = find_videos(make(tmp_path, "a.mp4", *(f"b.{i:03}" for i in range(500)))).left_out
    assert left_out.endswith("494 of other kinds")
    assert len(left_out) < 100


@pytest.mark.parametrize("suffix", [".gif", ".wmv", ".flv", ".mpg", ".ts", ".3gp", ".m2ts", ".mts", ".ogv"])
def test_every_kind_that_the_reader_reads_is_found(tmp_path, suffix):
    assert suffix in VIDEO_SUFFIXES
    assert len(find_videos(make(tmp_path, f"a{suffix}", f"b{suffix.upper()}")).files) == 2


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    outside = make(tmp_path / "outside", "b.mp4", "deep/c.mp4")
    folder = make(tmp_path / "clips", "a.mp4", "sub/d.mp4")
    (folder / "link").symlink_to(outside)
    (outside / "back").symlink_to(folder)
    (folder / "again").symlink_to(outside / "deep")
    (folder / "self").symlink_to(folder / "self")
    found = find_videos(folder)
    assert sorted(p.name for p in found.files) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert "linked folder that is counted already" in found.left_out


@given(edges=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_any_web_of_links_gives_each_file_once(tmp_path_factory, edges):
    root = tmp_path_factory.mktemp("web")
    for i in range(5):
        make(root, f"{i}/{i}.mp4")
    for n, (a, b) in enumerate(edges):
        (root / str(a) / f"to{n}").symlink_to(root / str(b))
    assert sorted(p.name for p in find_videos(root).files) == [f"{i}.mp4" for i in range(5)]


def test_one_file_is_a_folder_of_one(tmp_path):
    make(tmp_path, "clip.dat")
    assert find_videos(tmp_path / "clip.dat").files == [tmp_path / "clip.dat"]


def test_folder_listing_is_sorted_and_empty_folders_are_named(tmp_path):
    with pytest.raises(StgEvalError, match="no videos in"):
        find_videos(tmp_path)
    with pytest.raises(StgEvalError, match=r"no videos in .*; there is 1 \.txt"):
        find_videos(make(tmp_path, "a.txt"))
    make(tmp_path, "b.mp4", "a/c.MOV")
    assert [p.name for p in find_videos(tmp_path).files] == ["c.MOV", "b.mp4"]


@pytest.mark.parametrize("what", ["a broken link", "a folder", "no file you may read"])
def test_what_is_only_named_like_a_video_is_refused_by_name(tmp_path, what):
    path = tmp_path / "x.mp4"
    make = {"a folder": path.mkdir, "a broken link": lambda: path.symlink_to("gone.mp4")}
    make.get(what, lambda: os.mkfifo(path))()
    with pytest.raises(StgEvalError, match=rf"x\.mp4 is named like a video and is {what}"):
        find_videos(tmp_path)


def test_hidden_files_do_not_change_a_checkpoints_identity(tmp_path):
    folder = make(tmp_path / "weights", "config.json", "vae/model.safetensors")
    before = weights_identity(str(folder))
    make(folder, ".DS_Store", "vae/._model.safetensors", ".cache/huggingface/lock", "vae/.ipynb_checkpoints/a.json")
    assert weights_identity(str(folder)) == before
    make(folder, "vae/config.json")
    assert weights_identity(str(folder)) != before


def test_a_checkpoint_without_hidden_files_is_listed_as_before(tmp_path):
    folder = make(tmp_path / "weights", "b.json", "a/c.json", "a.json")
    (folder / "link.json").symlink_to(folder / "b.json")
    (folder / "linked").symlink_to(folder / "a")
    assert visible_files(folder) == sorted(p for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"caf\xe9/clip.mp4"])
def test_a_name_that_is_no_text_is_refused_before_any_work(tmp_path, name):
    make(tmp_path, os.fsdecode(name))
    with pytest.raises(StgEvalError, match=r"caf\\udce9.* is no UTF-8 text .*rename it") as error:
        find_videos(tmp_path)
    assert str(error.value).isascii()
