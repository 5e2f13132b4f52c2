"""UCF-101: splits, first frames and real clips, on a small tree of real .avi files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stg_eval.datasets.ucf101 import open_dataset, read_split
from stg_eval.storage.video import read_video
from stg_eval.types import StgEvalError

MakeTree = Callable[..., Path]


def test_all_101_classes_are_labelled_from_0_and_take_turns(ucf101: MakeTree) -> None:
    dataset = open_dataset("ucf101", {"root": str(ucf101())}, None)
    cases = list(dataset.cases(dry=True))
    assert dataset.missing is None
    assert len(cases) == 303
    assert Counter(case.label for case in cases) == dict.fromkeys(range(101), 3)
    for start in range(0, 303, 101):
        assert len({case.label for case in cases[start : start + 101]}) == 101


def test_splits_are_parsed_as_published(ucf101: MakeTree) -> None:
    lists = ucf101(classes=3) / "ucfTrainTestlist"
    train, test, everything = (read_split(lists, split, 1) for split in ("train", "test", "all"))
    assert [v.name for v in test] == ["v_ApplyEyeMakeup_g01_c01", "v_YoYo_g01_c01", "v_HandstandPushups_g01_c01"]
    assert [v.label for v in train] == [0, 0, 1, 1, 2, 2]
    assert {v.file for v in everything} == {v.file for v in train} | {v.file for v in test}
    assert not {v.file for v in train} & {v.file for v in test}


def test_the_first_frame_of_each_video_is_its_condition(ucf101: MakeTree) -> None:
    root = ucf101(classes=2)
    for case in open_dataset("ucf101", {"root": str(root)}, None).cases():
        frame = read_video(root / "UCF-101" / case.tags[0] / f"{case.id}.avi")[0]
        np.testing.assert_array_equal(np.asarray(Image.open(str(case.image))), frame)
    assert case.prompt in ("Apply Eye Makeup", "Yo Yo")


def test_a_frame_s_digest_follows_its_pixels_and_stays(ucf101: MakeTree) -> None:
    root = str(ucf101(classes=2))
    first, again = ([c.image_sha256 for c in open_dataset("ucf101", {"root": root}, None).cases()] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(first)


def test_cases_are_lazy_and_a_dry_plan_extracts_nothing(ucf101: MakeTree, cache: Path) -> None:
    dataset = open_dataset("ucf101", {"root": str(ucf101(classes=3))}, None)
    dry = list(dataset.cases(dry=True))
    assert not list(cache.rglob("*.png"))
    cases = dataset.cases()
    real = [next(cases), next(cases)]
    assert len(list(cache.rglob("*.png"))) == 2
    assert [c.id for c in real] == [c.id for c in dry[:2]]
    known = [c.image_sha256 for c in dataset.cases(dry=True)][:3]
    assert known[:2] == [c.image_sha256 for c in real]
    assert known[2] == dry[2].image_sha256


def test_real_clips_are_the_first_videos_shown_and_are_recorded_by_content(
    ucf101: MakeTree, avi: Callable[[int], bytes]
) -> None:
    root = ucf101(classes=2)
    reference = open_dataset("ucf101", {"root": str(root)}, 4).reference()
    assert reference is not None
    shown = [case.id for case in open_dataset("ucf101", {"root": str(root)}, None).cases(dry=True)]
    assert isinstance(reference.clips, list)
    assert [path.stem for path in reference.clips] == shown[:4]
    assert (reference.name, reference.count) == ("ucf101|all|4", 4)
    again = open_dataset("ucf101", {"root": str(root)}, 4).reference()
    assert again is not None
    assert again.digest == reference.digest
    reference.clips[0].write_bytes(avi(99))
    changed = open_dataset("ucf101", {"root": str(root)}, 4).reference()
    assert changed is not None
    assert changed.digest != reference.digest


def test_the_order_does_not_depend_on_the_order_of_the_lists(ucf101: MakeTree) -> None:
    root = ucf101(classes=3)
    before = [case.id for case in open_dataset("ucf101", {"root": str(root)}, None).cases(dry=True)]
    path = root / "ucfTrainTestlist" / "trainlist01.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(sorted(lines, key=lambda line: (line.split()[1], line[::-1]))))
    assert [case.id for case in open_dataset("ucf101", {"root": str(root)}, None).cases(dry=True)] == before


def test_missing_or_half_extracted_data_is_one_clear_line(ucf101: MakeTree, tmp_path: Path) -> None:
    def missing(root: Path) -> str:
        dataset = open_dataset("ucf101", {"root": str(root)}, 2)
        for read in (lambda: next(dataset.cases()), dataset.reference):
            with pytest.raises(StgEvalError) as error:
                read()
            assert str(error.value) == dataset.missing
        assert dataset.missing is not None
        assert "\n" not in dataset.missing
        return dataset.missing

    assert "split list is not at" in missing(tmp_path / "nothing")
    root = ucf101(classes=2)
    (root / "UCF-101" / "YoYo" / "v_YoYo_g02_c01.avi").unlink()
    assert "lacks 1 of 6 videos, such as YoYo/v_YoYo_g02_c01.avi" in missing(root)
    (root / "UCF-101" / "YoYo" / "v_YoYo_g01_c01.avi").write_bytes(b"")
    assert "lacks 2 of 6" in missing(root)
    (root / "UCF-101" / "YoYo" / "v_YoYo_g02_c01.avi").symlink_to("gone.avi")
    assert "lacks 2 of 6" in missing(root)
    (root / "UCF-101").rename(root / "somewhere else")
    assert "none of UCF-101's videos" in missing(root)
    (root / "ucfTrainTestlist" / "testlist01.txt").write_text("NoSuchClass/v_x.avi\n")
    assert "testlist01.txt, line 1" in missing(root)


def test_a_damaged_video_is_named(ucf101: MakeTree) -> None:
    root = ucf101(classes=1, videos=1)
    (root / "UCF-101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g01_c01.avi").write_bytes(b"RIFF no video at all")
    with pytest.raises(StgEvalError, match=r"v_ApplyEyeMakeup_g01_c01\.avi"):
        next(open_dataset("ucf101", {"root": str(root)}, None).cases())


def test_more_real_clips_than_there_are_and_unknown_options_are_refused(ucf101: MakeTree) -> None:
    root = str(ucf101(classes=1))
    with pytest.raises(StgEvalError, match="3 videos here, and the suite wants 2,048"):
        open_dataset("ucf101", {"root": root}, 2048).reference()
    for options, problem in (({"split": "val"}, "split: all, train, test"), ({"rot": root}, "root, split, fold")):
        with pytest.raises(StgEvalError, match=problem):
            open_dataset("ucf101", options, None)
