"""What each tracker's own client wrote is what its own reader finds, in a process that called nobody."""

from __future__ import annotations

import io
import json
import math
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stg_eval.storage.results import Results
from stg_eval.storage.video import read_video
from stg_eval.trackers import TRACKERS, track
from stg_eval.trackers.entry import Entry, entry_of, plain_names
from stg_eval.types import StgEvalError

WRITE = """
import sys, stg_eval
run, *outputs = sys.argv[1:]
for output in outputs:
    print(stg_eval.track(run=run, to=output.rpartition("/")[2], output=output, samples=2))
"""
VARIANTS = ["cfg", "stg-a_6"]


@pytest.fixture(scope="module")
def entry(made_up: Results) -> Entry:
    return entry_of(made_up, 2)


@pytest.fixture(scope="module")
def written(made_up: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All trackers' folders, written by a process whose every way out leads to a door that is watched."""
    out = tmp_path_factory.mktemp("trackers")
    # of MLflow its store of files: a new database takes it ten seconds
    outputs = [f"file://{out}/mlflow" if to == "mlflow" else f"{out}/{to}" for to in TRACKERS]
    with socket.create_server(("127.0.0.1", 0)) as door:
        proxy = f"http://127.0.0.1:{door.getsockname()[1]}"
        ways = dict.fromkeys(
            ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy
        )
        near = dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1")
        configured = {name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))}
        env = {name: value for name, value in os.environ.items() if name not in configured}
        env |= ways | near | {"MLFLOW_ALLOW_FILE_STORE": "true"}
        done = subprocess.run(
            [sys.executable, "-c", WRITE, made_up.path, *outputs], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(TRACKERS), "clients print to standard error, not among the results"
        door.settimeout(0)
        with pytest.raises(BlockingIOError):
            door.accept()
    return out


def test_tensorboard_reads_back_what_was_written(written: Path, entry: Entry) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    def read(folder: Path) -> EventAccumulator:
        return EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0}).Reload()

    folder = written / "tensorboard" / "demo-tiny" / "made-up"
    found = {}
    for variant in VARIANTS:
        one = read(folder / variant)
        for tag in one.Tags()["tensors"]:
            if "custom_scalars" not in tag:
                (event,) = one.Tensors(tag)
                found[f"{variant}/{tag}"] = make_ndarray(event.tensor_proto).item()
    assert found == entry.scalars
    run = read(folder)
    for name, table in entry.tables.items():
        (text,) = make_ndarray(run.Tensors(f"{name}/text_summary")[0].tensor_proto)
        csv = text.decode().removeprefix("```csv\n").removesuffix("```")
        assert csv == table.to_csv(index=False)
    for sample in entry.samples:
        from PIL import Image

        (image,) = run.Images(f"samples/{sample.name}")
        pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
        rows = [np.concatenate(list(read_video(clip)), axis=1) for clip in sample.clips.values()]
        assert np.array_equal(pixels, np.concatenate(rows))


def test_mlflow_reads_back_what_was_written(
    written: Path, entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient(f"file://{written}/mlflow")
    experiment = client.get_experiment_by_name("demo-tiny").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.run_name == "made-up"
    assert run.info.status == "FINISHED"
    assert run.data.metrics == entry.scalars
    assert run.data.params == {key: str(value) for key, value in entry.config.items() if value is not None}
    for name, table in entry.tables.items():
        found = Path(client.download_artifacts(run.info.run_id, f"{name}.csv", str(tmp_path))).read_text()
        assert found == table.to_csv(index=False)
    for sample in entry.samples:
        for variant, clip in sample.clips.items():
            folder = client.download_artifacts(run.info.run_id, f"samples/{sample.name}/{variant}", str(tmp_path))
            assert (Path(folder) / clip.name).read_bytes() == clip.read_bytes()


def test_wandb_reads_back_what_was_written(written: Path, entry: Entry) -> None:
    (file,) = (written / "wandb").glob("wandb/offline-run-*/run-*.wandb")
    records = list(_wandb_records(file.read_bytes()))
    run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name) == ("demo-tiny", "made-up")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert {key: config[key] for key in entry.config} == entry.config
    history = next(r.history for r in records if r.WhichOneof("record_type") == "history")
    logged: dict[str, Any] = {}
    for item in history.item:
        *parts, last = item.nested_key
        place = logged
        for one in parts:
            place = place.setdefault(one, {})
        place[last] = json.loads(item.value_json)
    assert {key: logged[key] for key in entry.scalars} == entry.scalars
    files = file.parent / "files"
    for name, table in entry.tables.items():
        found = json.loads((files / logged[name]["path"]).read_text())
        assert found == {"columns": list(table.columns), "data": table.to_numpy().tolist()}
    for sample in entry.samples:
        for variant, clip in sample.clips.items():
            media = logged[f"samples/{sample.name}/{variant}"]
            assert (files / media["path"]).read_bytes() == clip.read_bytes()


def test_trackio_reads_back_what_was_written(written: Path, entry: Entry) -> None:
    read = (
        "import json, trackio; from trackio.sqlite_storage import SQLiteStorage;"
        "run, = trackio.Api().runs('demo-tiny');"
        "print(json.dumps([run.name, run.config, SQLiteStorage.get_logs('demo-tiny', run.name)]))"
    )
    env = os.environ | {"TRACKIO_DIR": str(written / "trackio")}
    done = subprocess.run([sys.executable, "-c", read], env=env, capture_output=True, text=True, check=True)
    name, config, (log,) = json.loads(done.stdout)
    assert name == "made-up"
    assert {key: config[key] for key in entry.config} == entry.config
    assert {key: log[key] for key in entry.scalars} == entry.scalars
    for name, table in entry.tables.items():
        assert log[name]["_value"] == table.to_dict(orient="records")
    for sample in entry.samples:
        for variant, clip in sample.clips.items():
            media = log[f"samples/{sample.name}/{variant}"]
            assert (written / "trackio" / "media" / media["file_path"]).read_bytes() == clip.read_bytes()


def test_entry_tells_every_finite_number_and_no_path(made_up: Results, entry: Entry) -> None:
    cells = {e.variant: e for e in made_up.estimates}
    names = plain_names(list(cells))
    assert list(names.values()) == VARIANTS
    for variant, cell in cells.items():
        assert entry.scalars[f"{names[variant]}/motion"] == cell.value
        assert entry.scalars[f"{names[variant]}/motion.low"] == cell.low
        assert f"{names[variant]}/motion.high" not in entry.scalars  # nan: the table has the cell, and nothing in it
    assert list(entry.tables["scores"]["high"]) == [None, None]
    assert not any(math.isnan(value) for value in entry.scalars.values())
    told = f"{entry.config}{entry.tables['scores'].to_csv()}{entry.tables['clips'].to_csv()}"
    assert str(made_up.path.parent) not in told
    assert [(s.case, s.seed) for s in entry.samples] == [("circle-left", 1), ("square/right", 0)]  # whole pairs alone


def test_variants_that_look_alike_stay_apart() -> None:
    assert len(set(plain_names(["a b", "a_b", "a[b]", "é", "猫"]).values())) == 5


@pytest.mark.parametrize("to", TRACKERS)
def test_absent_client_is_one_line_with_the_extra(
    to: str, made_up: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, to, None)
    monkeypatch.delitem(sys.modules, TRACKERS[to], raising=False)
    with pytest.raises(StgEvalError, match=rf"pip install 'stg-eval\[{to}\]'"):
        track(made_up, to, output=str(tmp_path / "out"))


def test_clips_that_are_gone_cost_their_pair_only(
    made_up: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil
    from dataclasses import replace

    shutil.copytree(made_up.store, tmp_path / "store")
    moved = replace(made_up, run=made_up.run.model_copy(update={"store": str(tmp_path / "store")}))
    next((tmp_path / "store").rglob(f"*{moved.scores['key'][1]}*")).unlink()
    assert [s.name for s in entry_of(moved, 9).samples] == ["square_right-seed0", "square_right-seed1"]
    assert "no sample of circle-left, seed 1" in capsys.readouterr().err


def test_unknown_tracker_and_mixed_events_are_refused(
    made_up: Results, written: Path, run_cli: Callable[..., Any]
) -> None:
    answer = run_cli("track", made_up.path, "--to", "neptune")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    answer = run_cli("track", made_up.path, "--to", "tensorboard", "--output", written / "tensorboard")
    assert answer.code == 2
    assert "holds events already" in answer.err


def _wandb_records(data: bytes) -> Iterator[Any]:
    """Records of an offline run. The client's reader of this file is a program without an interface: its messages are
    parsed by the client's own classes, and their framing, that of LevelDB's log, here."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, parts = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
