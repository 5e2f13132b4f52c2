"""Damaged, foreign and hostile baselines and run folders: every one is a verdict or one line, never a traceback."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import random
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from stg_eval.gate import gate, snapshot
from stg_eval.pipeline.export import export_vbench
from stg_eval.reports import markdown
from stg_eval.reports.gallery import page_of
from stg_eval.storage import results
from stg_eval.types import StgEvalError

BASELINES, FOLDERS = 600, 200
VALUES: list[Any] = [
    None, True, -1, 0, 7, 1.5, 2**31, 10**30, 1e308, math.nan, -math.inf, "", "x", "NA", "\0", "\ud800",
    "../../etc/passwd", "/etc/passwd", "x" * 5000, [], {}, [[]], {"a": 1}, [None], "cfg", "sharpness", "clip", "set",
]  # fmt: skip


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value of a JSON document but the whole."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def changed_json(rng: random.Random, text: bytes) -> bytes:
    """The document with one value replaced, removed, repeated or renamed."""
    data = json.loads(text)
    *at, last = rng.choice(list(places(data)))
    node = data
    for key in at:
        node = node[key]
    how = rng.random()
    if how < 0.7:
        node[last] = copy.deepcopy(rng.choice(VALUES))
    elif how < 0.85:
        del node[last]
    elif isinstance(node, list):
        node.append(copy.deepcopy(node[last]))
    else:
        node[rng.choice(["x", str(last).upper()])] = node.pop(last)
    return json.dumps(data).encode()


def changed_csv(rng: random.Random, text: bytes) -> bytes:
    """The table with a cell, a row or a column changed."""
    rows = [line.split(",") for line in text.decode().splitlines()]
    row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    how = rng.randrange(6)
    if how < 3:
        rows[row][min(column, len(rows[row]) - 1)] = rng.choice(
            ["", "x", "nan", "inf", "1e999", '"', "True", "-1", "9" * 40]
        )
    elif how == 3:
        del rows[row]
    elif how == 4:
        rows.insert(row, rows[row])
    else:
        rows = [line[:column] + line[column + 1 :] for line in rows]
    return "\n".join(",".join(line) for line in rows).encode() + b"\n"


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """The file cut short, or with a few bytes flipped, lost, repeated or zeroed."""
    at = rng.randrange(len(data))
    few = rng.randrange(1, 64)
    how = rng.randrange(5)
    if how == 0:
        return data[:at]
    middle = {
        1: bytes(byte ^ (1 << rng.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 : at + few],
        2: b"",
        3: 2 * data[at : at + few],
        4: bytes(few),
    }[how]
    return data[:at] + middle + data[at + few :]


def changed_array(rng: random.Random, data: bytes) -> bytes:
    """Features of another shape or type, or with another header than they have."""
    array = np.load(io.BytesIO(data))
    buffer = io.BytesIO()
    other = rng.choice([array.astype(float), array[:-1], array[0], array.T, np.asfortranarray(array), array[None]])
    np.save(buffer, other)
    written = buffer.getvalue()
    if rng.random() < 0.5:
        written = data.replace(
            b"(12, 4)", rng.choice([b"(12, 9)", b"(99, 4)", b"(-1, 4)", b"(12**9,)", b"(12, 4, 1)"]), 1
        )
    return written


CHANGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "header.json": changed_json,
    "scores.csv": changed_csv,
    "features-0.npy": changed_array,
}


def rewritten(rng: random.Random, whole: bytes) -> bytes:
    """A sound zip file with one part changed, missing or given another name."""
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    name = rng.choices(list(CHANGES), [5, 3, 1])[0]
    data = parts.pop(name)
    if rng.random() < 0.95:
        parts[name] = CHANGES[name](rng, data) if rng.random() < 0.85 else changed_bytes(rng, data)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for part, content in parts.items():
            file.writestr(part, content)
    return out.getvalue()


def test_every_damaged_baseline_is_a_verdict_or_one_line_with_its_junit_and_json(
    make_run: Callable[..., Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    before, after = make_run("before", cases=6), make_run("after", cases=6)
    file, report, junit = (tmp_path / name for name in ("baseline.zip", "out.json", "out.xml"))
    snapshot.write(snapshot.load(before), file)
    whole, counts = file.read_bytes(), dict.fromkeys(range(4), 0)
    for seed in range(BASELINES):
        rng = random.Random(seed)
        file.write_bytes((changed_bytes if seed % 3 == 0 else rewritten)(rng, whole))
        report.unlink(missing_ok=True)
        junit.unlink(missing_ok=True)
        outcome = gate(file, after, json_file=report, junit_file=junit)
        counts[outcome.exit_code] += 1
        assert json.loads(report.read_text())["exit_code"] == outcome.exit_code
        assert ET.fromstring(junit.read_text()).tag == "testsuites"
        assert outcome.exit_code != 2 or "\n" not in outcome.headline, seed
        assert outcome.exit_code != 1 or any(check.state == "fail" for check in outcome.checks), seed
        if seed % 3 == 0 and outcome.exit_code == 1:  # bytes that rotted give no verdict of their own
            raise AssertionError(f"{seed}: {outcome.headline}")
    record_property("exit codes", counts)
    assert counts[2] > BASELINES / 2


def test_every_damaged_run_folder_is_read_or_one_line(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ATTEMPTS", 1)  # nobody is writing
    intact, folder = make_run("intact", cases=6), make_run("run", cases=6)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused, told = 0, list[str]()
    for seed in range(FOLDERS):
        rng = random.Random(seed)
        name = rng.choice(list(whole))
        change = changed_bytes if seed % 3 == 0 else changed_csv if name == "scores.csv" else changed_json
        data = whole | {name: change(rng, whole[name])}
        if seed % 3 == 2 and name != "run.json":  # by someone who minds the digest
            record = json.loads(data["run.json"])
            record["files"][name]["sha256"] = hashlib.sha256(data[name]).hexdigest()
            data["run.json"] = json.dumps(record).encode()
        for file, content in data.items():
            (folder / file).write_bytes(content)
        outcome = gate(intact, folder)
        assert outcome.exit_code != 2 or "\n" not in outcome.headline
        try:
            found = results.load(folder)
        except StgEvalError as error:
            refused += outcome.exit_code == 2
            told.append(str(error))
            continue
        assert name == "run.json" or seed % 3 == 2 or data[name] == whole[name], "a digest would have told"
        try:
            assert markdown(found)
            assert page_of([found], tmp_path, tmp_path / "page")
            export_vbench(found, tmp_path / "export")
        except StgEvalError as error:
            told.append(str(error))
    assert not [line for line in told if "\n" in line]
    assert refused > FOLDERS / 2


@pytest.mark.parametrize("part", ["header.json", "scores.csv", "features-0.npy"])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_unread(
    make_run: Callable[..., Path], tmp_path: Path, part: str
) -> None:
    run, file = make_run("run", cases=6), tmp_path / "baseline.zip"
    snapshot.write(snapshot.load(run), file)
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, data in parts.items():
            with bomb.open(name, "w", force_zip64=True) as out:
                out.write(data)
                for _ in range(100 if name == part else 0):
                    out.write(b" " * 2**20)
    assert file.stat().st_size < 2**20
    tracemalloc.start()
    outcome = gate(file, run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.exit_code == 2
    assert "is not a whole baseline" in outcome.headline
    assert peak < 64 * 2**20


def test_a_crash_of_the_gate_is_written_to_its_files_and_raised(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr("stg_eval.gate._gate", crash)
    with pytest.raises(ZeroDivisionError):
        gate(tmp_path, tmp_path, json_file=tmp_path / "out.json", junit_file=tmp_path / "out.xml")
    assert json.loads((tmp_path / "out.json").read_text())["exit_code"] == 70
    assert "nobody foresaw this" in (tmp_path / "out.xml").read_text()


@pytest.mark.parametrize("key", ["k", f"file/{'0' * 64}"])
@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.mp4", "clips/../../secret.mp4", "clips/link.mp4", "SECRET"])
def test_a_run_that_names_files_of_others_shows_and_copies_none(
    make_run: Callable[..., Path], make_video: Callable[..., Path], tmp_path: Path, name: str, key: str
) -> None:
    secret = make_video("secret.mp4", folder=tmp_path)

    def edit(run: results.Results) -> None:
        run.scores["file"], run.scores["key"] = name.replace("SECRET", str(secret)), key

    run = make_run("run", cases=2, edit=edit)
    clips = tmp_path / "run-store" / "clips"
    clips.mkdir()
    (clips / "link.mp4").symlink_to(secret)
    found = results.load(run)
    with pytest.raises(StgEvalError, match=r"leads out of|is not the file that was scored|is gone"):
        export_vbench(found, tmp_path / "out")
    page = page_of([found], tmp_path / "run-store", tmp_path / "page")
    assert '"clips":[]' in page
    assert not [path for place in ("out", "page") for path in (tmp_path / place).rglob("*") if path.is_file()]
