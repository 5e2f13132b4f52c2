"""Baseline files: small, the same thing as the run they were made of, and refused when damaged."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stg_eval.gate import compare, snapshot
from stg_eval.storage.record import FeaturesOf, RealClips
from stg_eval.types import StgEvalError

MakeRun = Callable[..., Path]


def test_a_baseline_file_gives_the_verdicts_of_the_run_it_was_made_of(make_run: MakeRun, tmp_path: Path) -> None:
    before, after = make_run("before"), make_run("after", sharper=-0.3)
    file = tmp_path / "baseline.zip"
    snapshot.write(snapshot.load(before), file)
    assert repr(compare(file, after).verdicts) == repr(compare(before, after).verdicts)
    assert compare(file, after).worst == compare(before, after).worst


def test_the_run_itself_passes_its_baseline_without_a_difference(make_run: MakeRun, tmp_path: Path) -> None:
    run, file = make_run("run"), tmp_path / "baseline.zip"
    snapshot.write(snapshot.load(run), file)
    assert {(v.difference, v.word) for v in compare(file, run).verdicts} == {(0.0, "same")}


def test_the_same_run_gives_the_same_bytes_without_a_path_of_the_machine(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("run")
    files = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for file in files:
        snapshot.write(snapshot.load(run), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    with zipfile.ZipFile(files[0]) as archive:
        assert all(str(tmp_path).encode() not in archive.read(name) for name in archive.namelist())


def test_features_take_little_more_than_float16_would(tmp_path: Path, make_run: MakeRun) -> None:
    features = snapshot._shorten(np.random.default_rng(0).normal(size=(256, 400)).astype(np.float32))
    base = snapshot.load(make_run("run"))
    wide = snapshot.Snapshot(**{**vars(base), "features": {"wide": features}})
    snapshot.write(wide, tmp_path / "wide.zip")
    assert (tmp_path / "wide.zip").stat().st_size < 1.25 * 256 * 400 * 2


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float32, (7,), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_shortened_features_keep_ten_bits(values: np.ndarray) -> None:
    short = snapshot._shorten(values)
    normal = np.abs(values) > 1e-30
    assert np.all(np.abs(short - values)[normal] <= np.abs(values)[normal] * 2.0**-11)
    assert np.array_equal(snapshot._shorten(short), short)


def test_shortening_keeps_nan_and_infinity() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    assert np.array_equal(snapshot._shorten(odd), odd, equal_nan=True)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_baseline_is_refused_in_one_line(keep: float, make_run: MakeRun, tmp_path: Path) -> None:
    run, file = make_run("run"), tmp_path / "baseline.zip"
    snapshot.write(snapshot.load(run), file)
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(StgEvalError, match=r"is not a whole baseline .*--update-baseline") as error:
        compare(file, run)
    assert "\n" not in str(error.value)


def test_flipped_bytes_are_noticed(make_run: MakeRun, tmp_path: Path) -> None:
    run, file = make_run("run"), tmp_path / "baseline.zip"
    snapshot.write(snapshot.load(run), file)
    intact = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        places = [m.header_offset + 30 + len(m.filename) + m.compress_size // 2 for m in archive.infolist()]
    assert len(places) == 3
    for place in places:
        file.write_bytes(intact[:place] + bytes([intact[place] ^ 0xFF]) + intact[place + 1 :])
        with pytest.raises(StgEvalError, match="is not a whole baseline"):
            snapshot.load(file)


def _rewrite(file: Path, **changes: object) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["header.json"] = json.dumps(json.loads(members["header.json"]) | changes).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_newer_baseline_says_upgrade(make_run: MakeRun, tmp_path: Path) -> None:
    run, file = make_run("run"), tmp_path / "baseline.zip"
    snapshot.write(snapshot.load(run), file)
    _rewrite(file, format=snapshot.FORMAT + 1, stg_eval="9.0")
    with pytest.raises(StgEvalError, match=r"written by a newer stg-eval \(format 2\); upgrade"):
        snapshot.load(file)


def test_a_zip_of_something_else_and_a_text_file_are_no_baselines(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    (tmp_path / "text.zip").write_text("hello")
    for name in ("other.zip", "text.zip"):
        with pytest.raises(StgEvalError, match="is not a whole baseline"):
            snapshot.load(tmp_path / name)


def test_features_that_a_clip_lacks_are_nan_on_both_sides_of_a_file(make_run: MakeRun, tmp_path: Path) -> None:
    """Suites may take FVD on the first N clips alone; those rows have no features, and take no part."""
    run = make_run("run", cases=10)
    found = snapshot.load(run)
    features = {name: array.copy() for name, array in found.features.items()}
    next(iter(features.values()))[10:] = np.nan
    partial = snapshot.Snapshot(**{**vars(found), "features": features})
    snapshot.write(partial, tmp_path / "baseline.zip")
    other = snapshot.load(make_run("other", cases=10))
    half = snapshot.Snapshot(
        **{
            **vars(other),
            "features": {k: np.where(np.isnan(features[k]), np.nan, v) for k, v in other.features.items()},
        }
    )
    assert [v.n for v in compare(tmp_path / "baseline.zip", half).verdicts] == [20, 10]


def test_a_folder_is_never_overwritten_by_a_baseline_file(make_run: MakeRun) -> None:
    run = make_run("run")
    with pytest.raises(StgEvalError, match="is a folder; a baseline is a file"):
        snapshot.write(snapshot.load(run), run)
    assert (run / "table.json").is_file()


def test_lost_features_of_the_real_clips_are_named(make_run: MakeRun) -> None:
    more = {"features": {"toy_fvd": FeaturesOf(extractor="toy|4d", reference=RealClips(digest="real", count=21))}}
    with pytest.raises(StgEvalError, match="has features of 20 of 21 real clips"):
        compare(make_run("before", record=more), make_run("after", record=more))
