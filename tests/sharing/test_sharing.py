"""A run goes up and comes back equal, through the hub's own client against a fake of its HTTP interface; what the hub
says against it is one line and exit code 2."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from stg_eval import gate
from stg_eval.gate import snapshot
from stg_eval.sharing import bundle, model_index
from stg_eval.storage import results
from stg_eval.types import StgEvalError


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_pushed_and_pulled_run_is_equal(
    client: Callable[..., list[Any]], hub: Any, finished: Path, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    first, sent = tmp_path / "first", len(hub.bodies)
    dry, push, again, pull, pushed_back, other = client(
        ("push", finished, "me/run"),
        ("push", finished, "me/run", "--yes"),
        ("push", finished, "me/run", "--yes"),
        ("pull", "me/run", first),
        ("push", first, "me/again", "--yes"),
        ("pull", "me/again", tmp_path / "second"),
    )
    assert [one.code for one in (dry, push, again, pull, pushed_back, other)] == [0] * 6, (dry, push, again, pull)
    listed = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in dry.out.splitlines()[:-1]}
    up = hub.repos["me/run"]
    assert {name: len(data) for name, data in up.items() if name != ".gitattributes"} == listed
    assert "nothing was sent" in dry.err
    assert "stays here: ratings.csv" in dry.err
    assert push.out.endswith(f"{hub.url}/datasets/me/run\n")
    assert "me/run" in hub.private

    assert _files(first) == {name: data for name, data in up.items() if name != ".gitattributes"}
    assert _files(tmp_path / "second") == _files(first), "what came from the hub goes there as it is"
    for name in ("scores.csv", "table.json"):
        assert (first / name).read_bytes() == (finished / name).read_bytes()
    before, after = results.load(finished), results.load(first)
    assert after.run.model_copy(update={"store": before.run.store}) == before.run
    assert after.store == first / "store"
    for key, file in zip(before.scores["key"], before.scores["file"], strict=True):
        assert (after.store / file).read_bytes() == (before.store / file).read_bytes(), key
    assert run_cli("show", first).out.split("{")[0] == run_cli("show", finished).out.split("{")[0]
    assert gate.gate(finished, first).exit_code == 0
    one, two = snapshot.load(finished), snapshot.load(first)
    assert {name: array.tobytes() for name, array in one.features.items()} == {
        name: array.tobytes() for name, array in two.features.items()
    }
    metric = "frame_difference_sprites"
    assert (snapshot.reference(one, metric) == snapshot.reference(two, metric)).all()

    everything = b"".join(hub.bodies[sent:] + list(up.values()))
    assert str(finished.parent).encode() not in everything
    assert b"someone" not in everything, "who rated stays here"
    assert b"tttttttt" not in everything


def test_baseline_goes_up_and_comes_back(client: Callable[..., list[Any]], finished: Path, tmp_path: Path) -> None:
    assert gate.gate(tmp_path / "baseline.zip", finished, update_baseline=True).exit_code == 0
    push, pull = client(
        ("push", tmp_path / "baseline.zip", "me/baseline", "--yes"), ("pull", "me/baseline", tmp_path / "pulled")
    )
    assert (push.code, pull.code) == (0, 0), (push, pull)
    assert pull.out == f"{tmp_path / 'pulled' / 'baseline.zip'}\n"
    assert (tmp_path / "pulled/baseline.zip").read_bytes() == (tmp_path / "baseline.zip").read_bytes()
    assert gate.gate(tmp_path / "pulled/baseline.zip", finished).exit_code == 0


def test_every_refusal_is_one_line_and_exit_code_2(
    client: Callable[..., list[Any]], hub: Any, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    hub.repos |= {
        "me/other": {"run.json": b"{}"},
        "me/nothing": {"README.md": b"hello"},
        "me/broken": {"run.json": b"{}", "table.json": b"{}", "scores.csv": b""},
        "me/public": {"README.md": b"hello"},
    }
    cases = {
        "hf auth login": ("-", "push", finished, "me/new", "--yes"),
        "take one with write access": ("push", finished, "readonly/new", "--yes"),
        "holds another run": ("push", finished, "me/other", "--yes"),
        "could not be reached": ("push", finished, "cut/new", "--yes"),
        "is no name of a repository": ("push", finished, "a/b/c", "--yes"),
        "holds no finished run": ("push", tmp_path, "me/new", "--yes"),
        "there is no data set me/absent": ("pull", "me/absent", tmp_path / "new"),
        "no data set me/hidden, or no valid token": ("-", "pull", "me/hidden", tmp_path / "new"),
        "has no such revision": ("pull", "me/public", tmp_path / "new", "--revision", "0123abc"),
        "could not be reached (": ("pull", "cut/run", tmp_path / "new"),
        "holds no run and no baseline": ("pull", "me/nothing", tmp_path / "new"),
        "me/broken is damaged": ("pull", "me/broken", tmp_path / "new"),
        "not empty": ("pull", "me/public", tmp_path / "full"),
        "Internal error, sorry": ("push", finished, "flaky/run", "--yes"),
    }
    hub.repos["me/hidden"] = {}
    hub.private.add("me/hidden")
    answers = client(*cases.values(), ("push", finished, "flaky/run", "--yes"))
    for told, answer in zip(cases, answers, strict=False):
        assert answer.code == 2, (told, answer)
        (line,) = re.findall(r"^error: .*$", answer.err, re.MULTILINE)
        assert told in line
    assert answers[-1].code == 0, "the same command completes what was cut off"
    assert not (tmp_path / "new").exists()
    assert hub.repos["me/other"] == {"run.json": b"{}"}


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("notes", ("taken from {home}/clips/a.mp4",), "a path of this machine"),
        ("notes", ("hf_" + "a" * 34,), "looks like a token"),
        ("notes", ("my-own-secret-1234",), "looks like a token"),
        ("settings", {"weights": "{home}/model.safetensors", "image_folder": "{home}/images"}, None),
        ("notes", ("5 km/h and/or 6 km / h, /imagine a cat",), None),
    ],
)
def test_no_path_and_no_secret_goes_up(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, told: str | None
) -> None:
    monkeypatch.setenv("MY_API_KEY", "my-own-secret-1234")
    found = results.load(finished)
    given = json.loads(json.dumps(value).replace("{home}", str(finished.parent)))
    record = found.run.model_copy(update={field: tuple(given) if field == "notes" else given})
    results.save(replace(found, path=tmp_path / "run", run=record))
    (tmp_path / "up").mkdir()
    if told:
        with pytest.raises(StgEvalError, match=told):
            bundle(tmp_path / "run", tmp_path / "up")
        return
    up = bundle(tmp_path / "run", tmp_path / "up")
    sent = b"".join(path.read_bytes() for path in up.files.values())
    assert str(finished.parent).encode() not in sent
    if field == "settings":
        assert results.load(tmp_path / "up").run.settings == {
            "weights": found.run.request.weights,  # type: ignore[union-attr]
            "image_folder": "images",
        }


def test_changed_clip_does_not_go_up(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path / "all")
    found = results.load(finished)
    record = found.run.model_copy(update={"store": str(tmp_path / "all/store")})
    results.save(replace(found, path=tmp_path / "run", run=record))
    (tmp_path / "all/store" / found.scores["file"][0]).write_bytes(b"something else")
    (tmp_path / "up").mkdir()
    with pytest.raises(StgEvalError, match="SHA-256 differs"):
        bundle(tmp_path / "run", tmp_path / "up")


def test_model_index_reads_back_as_the_scores(finished: Path) -> None:
    from huggingface_hub.repocard_data import ModelCardData

    found = results.load(finished)
    head = yaml.safe_load(model_index(found, "my-model"))
    back = ModelCardData(**head)
    assert back.model_name == "my-model"
    assert {(r.dataset_config, r.metric_type): r.metric_value for r in back.eval_results} == {
        (found.run.variant(e.variant).signature, e.metric): e.value for e in found.estimates if e.value == e.value
    }
    assert all(r.metric_args["n"] == 4 for r in back.eval_results)
