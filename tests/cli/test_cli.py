"""The command line: bad input gives one clear line and exit code 2, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DEMO = ("run", "--suite", "demo", "--model", "tiny", "--set", "num_inference_steps=2", "--device", "cpu")
CHEAP = (*DEMO, "--limit", "6", "--metrics", "temporal_flickering,accuracy_sprites")


def places(tmp_path: Path) -> tuple[str, ...]:
    return ("--store", str(tmp_path / "store"), "--output", str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--suite", "demmo", "--model", "tiny"), "did you mean 'demo'"),
        (("run", "--suite", "demo", "--model", "tinny"), "did you mean 'tiny'"),
        (("run", "--suite", "demo", "--model", "tiny", "--metrics", "fvd_sprite"), "did you mean 'fvd_sprites'"),
        (("run", "--suite", "demo", "--model", "tiny", "--guidance", "sgt"), "did you mean 'stg'"),
        (("run", "--suite", "demo", "--model", "tiny", "--guidance", "cfg2+stg-z[1]s1"), "cannot read 'stg-z[1]s1'"),
        (("run", "--suite", "demo", "--model", "tiny", "--guidance", "cfg2+stg-a[99]s1"), "99"),
        (("run", "--suite", "demo", "--model", "tiny", "--set", "num_frame=9"), "did you mean 'num_frames'"),
        (("run", "--suite", "demo", "--model", "tiny", "--set", "num_frames"), "has no value"),
        (("run", "--suite", "demo", "--model", "tiny", "--set", "num_inference_steps=many"), "does not fit"),
        (("run", "--suite", "demo", "--model", "tiny", "--limit", "5"), "needs at least 64 clips"),
        (("run", "--suite", "demo", "--model", "tiny", "--executor", "slurm"), "unknown executor"),
        (("run", "--suite", "demo", "--model", "tiny", "--reader", "opencv"), "unknown reader"),
        (("run", "--suite", "demo", "--model", "tiny", "--device", "foo"), "--device foo cannot be used"),
        (("run", "--suite", "demo", "--model", "svd"), "needs a first frame"),
        (("run", "--suite", "no/such.yaml", "--model", "tiny"), "no suite at"),
        (("score", "no/such/folder"), "not a folder"),
        (("report", "no/such/run"), "no finished run"),
        (("show", "no/such/run"), "no finished run"),
        (("list", "modles"), "did you mean 'models'"),
        (("views", "--suite", "demo", "--model", "tiny", "--step", "0", "--output", "/dev/null"), "cannot write to"),
        (("first-frames", "/dev/null", "/dev/null"), "no suite at"),
    ],
)
def test_bad_input_gives_one_clear_line_and_code_2(
    run_cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_cli(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("encoding=foo",), "unknown encoding 'foo'"),
        (("fps=nan",), "fps=nan does not fit"),
        (("fps=2000",), "fps must lie between 0 and 1000"),
        (("num_frames=nan",), "num_frames=nan does not fit"),
        (("num_frames=inf",), "num_frames=inf does not fit"),
        (("num_frames=1e18",), "has 768,000,000,000 GB, more than 64"),
        (("height=100000", "width=100000"), "GB, more than 64"),
        (("num_inference_steps=1e9",), "at most 100,000"),
        (("dtype=foo",), "dtype is one of float32"),
        (("height=15", "encoding=h264-crf17"), "odd sides"),
    ],
)
def test_settings_that_could_never_be_made_are_refused_even_by_a_dry_run(
    run_cli: Callable, tmp_path: Path, settings: tuple[str, ...], says: str
) -> None:
    given = [argument for setting in settings for argument in ("--set", setting)]
    for more in ((), ("--dry-run",)):
        answer = run_cli(*DEMO, *places(tmp_path), *given, *more)
        assert (answer.code, answer.out) == (2, "")
        (line,) = answer.err.strip().splitlines()
        assert says in line


@pytest.mark.parametrize(("clips", "says"), [(None, "has none; drop it"), (3, "needs at least 64 real clips")])
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_real_clips_that_are_not_enough_are_missed_before_any_clip_is_made(
    run_cli: Callable, tmp_path: Path, clips: int | None, says: str, more: tuple[str, ...]
) -> None:
    suite = tmp_path / "own.yaml"
    text = "name: own\ntitle: Own\ndataset: sprites\nsamples: {default: 16}\nclips: 192\nmetrics: [fvd_sprites]\n"
    suite.write_text(text + (f"reference_clips: {clips}\n" if clips else ""))
    answer = run_cli("run", "--suite", suite, "--model", "tiny", *places(tmp_path), *more)
    assert answer.code == 2
    assert says in answer.err
    assert not (tmp_path / "store").exists()


def test_a_crash_exits_70_in_every_verb_with_one_line_that_says_where_the_traceback_is(
    run_cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.main

    from stg_eval.cli.verbs import app

    def crash() -> None:
        raise KeyError("two\nlines")

    command: Any = typer.main.get_command(app)
    leaves = {}
    for name, verb in command.commands.items():
        inner = getattr(verb, "commands", None)
        leaves |= {f"{name} {below}": leaf for below, leaf in inner.items()} if inner else {name: verb}
    assert {"run", "compare", "weights fetch"} < leaves.keys()
    for leaf in leaves.values():
        leaf.params, leaf.callback = [], crash
    monkeypatch.setattr(typer.main, "get_command", lambda app: command)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for verb in leaves:
        answer = run_cli(*verb.split())
        assert (answer.code, answer.out) == (70, "")
        (line,) = answer.err.strip().splitlines()
        assert "KeyError" in line
        traceback = Path(line.rsplit(" ", 1)[1]).read_text()
        assert traceback.startswith("Traceback (most recent call last)")
        assert 'raise KeyError("two' in traceback


HELP = """
import sys
from stg_eval.cli import main
sys.argv = ["stg-eval", "--help"]
try:
    main()
except SystemExit:
    pass
heavy = {"torch", "numpy", "pandas", "scipy", "av", "diffusers", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""

CARDS = """
import sys
from stg_eval import generators
for name in generators.MODELS:
    generators.card(name)
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("code", [HELP, CARDS], ids=["help", "models"])
def test_help_and_model_cards_load_nothing_heavy(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["models", "suites", "metrics", "guidance"])
def test_lists_name_what_there_is(run_cli: Callable, what: str) -> None:
    answer = run_cli("list", what)
    assert answer.code == 0
    expected = {"models": "tiny", "suites": "demo", "metrics": "temporal_flickering", "guidance": "cfg"}[what]
    assert expected in answer.out


def test_list_of_guidance_says_where_a_preset_without_published_values_comes_from(run_cli: Callable) -> None:
    assert "layer 19 as in the public LTX pipelines" in run_cli("list", "guidance", "--model", "ltx").out


def test_doctor_names_the_command_that_fetches_weights(run_cli: Callable, tmp_path: Path) -> None:
    answer = run_cli("doctor", "--store", tmp_path)
    assert "torch" in answer.out
    assert "stg-eval weights fetch" in answer.out


def test_a_folder_is_scored_while_a_run_holds_the_store(
    run_cli: Callable, tmp_path: Path, make_video: Callable
) -> None:
    from stg_eval.storage.store import Store

    folder = make_video("a.mp4", folder=tmp_path / "videos").parent
    store = ("--store", tmp_path / "store")
    with Store(tmp_path / "store") as held:
        assert run_cli(*CHEAP, *store, "--output", tmp_path / "run").code == 2, "two runs take turns"
        answer = run_cli("score", folder, "--metrics", "temporal_flickering", *store)
        assert answer.code == 0, answer.err
        held.add_results([], {})
    assert run_cli(*CHEAP, *store, "--output", tmp_path / "run").code == 0, "nobody holds it for a folder"


def test_dry_run_makes_nothing(run_cli: Callable, tmp_path: Path) -> None:
    answer = run_cli(*DEMO, *places(tmp_path), "--dry-run")
    assert answer.code == 0
    assert "to make" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_it_does_not_count(run_cli: Callable, tmp_path: Path) -> None:
    answer = run_cli(*DEMO, *places(tmp_path), "--dry-run", "--guidance", "cfg3+restart[1,10]x3")
    assert "extra steps are not counted" in answer.out
    assert "extra steps" not in run_cli(*DEMO, *places(tmp_path), "--dry-run").out


@pytest.mark.parametrize("chosen", ["no/such/folder", "somebody/model@abc"])
def test_a_dry_run_does_not_say_that_weights_are_there_which_it_cannot_know(run_cli: Callable, chosen: str) -> None:
    wan = ("run", "--suite", "demo-100", "--model", "wan", "--metrics", "temporal_flickering", "--dry-run")
    assert "Missing: weights wan (" in run_cli(*wan).out
    assert f"Missing: weights {chosen}, perhaps" in run_cli(*wan, "--set", f"weights={chosen}").out
    assert "Missing: nothing" in run_cli(*wan, "--set", "weights=random-weights(seed=0)").out


def test_a_dry_sweep_counts_data_that_is_not_there(
    run_cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STG_EVAL_DATA", str(tmp_path))
    answer = run_cli(
        "sweep", "--suite", "evalcrafter", "--model", "mochi", "--layers", "35", "--modes", "stg-a:joint", "--dry-run"
    )
    assert answer.code == 0, answer.err
    assert "- Missing: " in answer.out


def test_a_metric_named_twice_is_listed_once(run_cli: Callable, tmp_path: Path) -> None:
    answer = run_cli(*DEMO, *places(tmp_path), "--dry-run", "--metrics", "is_sprites,is_sprites")
    assert "Scored with: is_sprites; " in answer.out


def test_a_run_prints_its_table_and_page_and_a_second_run_reuses_its_clips(run_cli: Callable, tmp_path: Path) -> None:
    first = run_cli(*CHEAP, *places(tmp_path))
    assert first.code == 0, first.err
    page = Path(first.out.strip().splitlines()[-1].removeprefix("Page: "))
    assert page.is_file()
    assert "Generating: 12/12" in first.err
    other = run_cli(
        *CHEAP, "--guidance", "cfg", "--guidance", "cfg3", "--store", tmp_path / "store", "--output", tmp_path / "b"
    )
    assert "Generating: 6/6" in other.err, "CFG's clips come from the store"


def test_frames_that_are_not_finite_are_named_and_the_rest_counts(
    run_cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stg_eval.generators import to_uint8
    from stg_eval.generators.tiny.generator import TinyGenerator

    original = TinyGenerator.generate

    def broken(self: TinyGenerator, requests: list) -> list:
        frames = list(original(self, requests))
        if not requests[0].guidance.method:
            frames[1] = to_uint8(np.full((8, 16, 16, 3), np.nan))
        return frames

    monkeypatch.setattr(TinyGenerator, "generate", broken)
    answer = run_cli(*CHEAP, *places(tmp_path))
    assert answer.code == 1
    assert "not finite" in answer.err
    assert "temporal" in answer.out.lower() or "TF" in answer.out
    monkeypatch.undo()


def test_a_full_disk_loses_nothing_and_the_same_command_resumes(
    run_cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = 0, os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        answer = run_cli(*CHEAP, "--set", "batch_size=3", *places(tmp_path))
    assert answer.code == 2
    assert "No space left" in answer.err
    again = run_cli(*CHEAP, "--set", "batch_size=3", *places(tmp_path))
    assert again.code == 0
    assert "Generating: 6/6" in again.err, "two batches of three were kept"


def test_output_that_cannot_be_written_is_refused_before_any_work(run_cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = run_cli(*CHEAP, "--store", tmp_path / "store", "--output", tmp_path / "file" / "run")
    assert answer.code == 2
    assert "--output" in answer.err
    assert not (tmp_path / "store").exists()


def test_a_damaged_earlier_run_is_written_anew(run_cli: Callable, tmp_path: Path) -> None:
    assert run_cli(*CHEAP, *places(tmp_path)).code == 0
    (tmp_path / "run" / "run.json").write_text("{")
    assert "is damaged" in run_cli("show", tmp_path / "run").err
    assert run_cli(*CHEAP, *places(tmp_path)).code == 0
    assert run_cli("show", tmp_path / "run").code == 0


def test_a_store_of_a_newer_version_is_refused(run_cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with sqlite3.connect(tmp_path / "store" / "store.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    answer = run_cli(*CHEAP, *places(tmp_path))
    assert answer.code == 2
    assert "newer stg-eval" in answer.err


def test_a_clip_without_a_score_is_named_by_every_run(run_cli: Callable, tmp_path: Path, make_video: Callable) -> None:
    folder = make_video("good.mp4").parent
    make_video("single.mp4", num_frames=1)
    arguments = ("score", folder, "--metrics", "temporal_flickering", *places(tmp_path))
    first, again = run_cli(*arguments), run_cli(*arguments)
    assert first.code == again.code == 1
    for answer in (first, again):
        assert "single.mp4, seed 0, temporal_flickering: not defined" in answer.err
        assert "good.mp4" not in answer.err


def test_clips_read_by_decord_get_the_same_scores_and_the_run_says_so(
    run_cli: Callable, tmp_path: Path, make_video: Callable
) -> None:
    pytest.importorskip("decord")
    folder = make_video().parent
    found = {}
    for reader in ("pyav", "decord"):
        places = ("--store", tmp_path / reader / "store", "--output", tmp_path / reader)
        answer = run_cli("score", folder, "--metrics", "temporal_flickering", "--reader", reader, *places)
        assert answer.code == 0, answer.err
        assert json.loads((tmp_path / reader / "run.json").read_text())["reader_of_new_scores"] == reader
        found[reader] = (tmp_path / reader / "scores.csv").read_bytes()
    assert found["decord"] == found["pyav"]


def test_one_step_views_are_saved_as_clips_with_a_strip(run_cli: Callable, tmp_path: Path) -> None:
    from stg_eval.storage.video import read_video

    arguments = ("views", "--suite", "demo", "--model", "tiny", "--step", "1", "--output", tmp_path, "--device", "cpu")
    answer = run_cli(*arguments, "--guidance", "stg", "--set", "num_inference_steps=3")
    assert answer.code == 0, answer.err
    written = {Path(line).name for line in answer.out.splitlines()}
    assert {"c.mp4", "u.mp4", "cfg.mp4", "stg.mp4", "strip.png"} <= written
    clips = {name: read_video(tmp_path / "stg" / name) for name in ("u.mp4", "cfg.mp4", "stg.mp4")}
    assert all(clip.shape == (8, 16, 16, 3) for clip in clips.values())
    assert not np.array_equal(clips["u.mp4"], clips["cfg.mp4"])


def test_a_sweep_ends_in_one_tidy_table(run_cli: Callable, tmp_path: Path) -> None:
    import pandas as pd

    arguments = ("sweep", *CHEAP[1:], "--layers", "3,6", "--scales", "0.5", "--modes", "stg-a:temporal,stg-r:both")
    answer = run_cli(*arguments, *places(tmp_path))
    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "run" / "sweep.csv")
    assert set(zip(table["method"], table["mode"], table["layer"].fillna(-1), strict=True)) == {
        ("none", "none", -1),
        *((method, mode, layer) for method, mode in (("stg-a", "temporal"), ("stg-r", "both")) for layer in (3, 6)),
    }
    assert set(table["metric"]) == {"temporal_flickering", "accuracy_sprites"}


def test_the_official_engine_gives_the_same_flickering_and_says_so(
    run_cli: Callable, tmp_path: Path, make_video: Callable
) -> None:
    pytest.importorskip("vbench", reason="vbench is not installed (pip install --no-deps vbench)")
    folder = make_video("a.mp4").parent
    make_video("b.mp4", seed=1)
    arguments = ("score", folder, "--metrics", "temporal_flickering", "--device", "cpu", "--store", tmp_path / "store")
    answers = [
        run_cli(*arguments, "--engine", engine, "--output", tmp_path / engine) for engine in ("ours", "official")
    ]
    assert [answer.code for answer in answers] == [0, 0], answers[1].err
    ours, official = ((tmp_path / engine / "scores.csv").read_text() for engine in ("ours", "official"))
    assert ours == official
    assert "|official" in answers[1].out
    assert "|official" not in answers[0].out
