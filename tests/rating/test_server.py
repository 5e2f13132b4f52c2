"""The page's interface: blind, safe, exactly once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

fastapi = pytest.importorskip("fastapi", reason="needs the extra rate")
from fastapi.testclient import TestClient  # noqa: E402

from stg_eval.rating import server  # noqa: E402
from stg_eval.rating.aspects import NAMES  # noqa: E402
from stg_eval.rating.study import AlreadyAnswered, Study  # noqa: E402


@pytest.fixture
def client_of(monkeypatch):
    """client_of(study, store, number of the rater) -> a client with that rater's token; clips need no watching."""

    def make(study, store, number=0, watched=True):
        if watched:
            monkeypatch.setattr(server, "PATIENCE", 0.0)
        app = server.application(study, store)
        token = study.raters()[number].token
        return TestClient(
            app, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {token}"}, client=("10.0.0.1", number)
        )

    return make


def test_nothing_that_a_browser_gets_tells_one_guidance_from_the_other(made_study, client_of) -> None:
    study, store = made_study(raters=1)
    client, clips = client_of(study, store), study.clips()
    seen = defaultdict(list)
    for _ in range(8):
        state = client.get("/api/next").json()
        trial = state["trial"]
        variant = clips[study.trial(trial["id"], study.raters()[0]).clips[0]].variant
        sent = client.get(f"/api/clips/{trial['id']}/0")
        headers = {name: value for name, value in sent.headers.items() if name != "date"}
        told = {name: value for name, value in trial.items() if name not in ("id", "prompt")}
        seen[variant].append((headers, len(sent.content), told, len(trial["id"])))
        everything = json.dumps(state) + str(sent.headers)
        assert not any(word in everything for word in ("cfg", "stg", ".mp4", clips[0].file[-20:]))
        client.post("/api/answers", json={"trial": trial["id"], "answer": dict.fromkeys(NAMES, 3)})
    assert set(seen) == {"cfg", "stg"}
    assert len({repr(one) for ones in seen.values() for one in ones}) == 1
    page = "".join(client.get(f"/{name}").text for name in ("", "rate.js", "rate.css"))
    assert not re.search(r"\b(cfg|stg-[ar])\b", page)


def test_trial_names_are_random_and_differ_between_raters(made_study) -> None:
    study, _ = made_study(raters=2)
    names = [row[0] for row in study._read("SELECT id FROM trials")]
    assert len(set(names)) == 16
    assert all(len(name) >= 20 for name in names)


def test_clips_still_play_with_their_padding(made_study, client_of, tmp_path) -> None:
    from stg_eval.storage.video import read_video

    study, store = made_study(raters=1)
    client = client_of(study, store)
    trial = client.get("/api/next").json()["trial"]["id"]
    (tmp_path / "sent.mp4").write_bytes(client.get(f"/api/clips/{trial}/0").content)
    clip = study.clips()[study.trial(trial, study.raters()[0]).clips[0]]
    assert (read_video(tmp_path / "sent.mp4") == read_video(store / clip.file)).all()


def test_a_rating_is_refused_before_the_clip_has_ended(made_study, client_of, good) -> None:
    study, store = made_study(raters=1)
    client = client_of(study, store, watched=False)
    trial = client.get("/api/next").json()["trial"]["id"]
    given_ = {"trial": trial, "answer": good}
    assert client.post("/api/answers", json=given_).status_code == 425  # not even loaded
    client.get(f"/api/clips/{trial}/0")
    assert client.post("/api/answers", json=given_).status_code == 425
    time.sleep(1.0)  # the clip's length
    assert client.post("/api/answers", json=given_).status_code == 200


def test_an_answer_sent_twice_counts_once_and_another_one_is_refused(made_study, client_of, good) -> None:
    study, store = made_study(raters=1)
    client = client_of(study, store)
    trial = client.get("/api/next").json()["trial"]["id"]
    client.get(f"/api/clips/{trial}/0")
    for _ in range(3):
        assert client.post("/api/answers", json={"trial": trial, "answer": good}).json()["done"] == 1
    refused = client.post("/api/answers", json={"trial": trial, "answer": good | {"likeness": 1}})
    assert refused.status_code == 409
    assert [answer for _, _, _, answer, _ in study.answers()] == [good]


def test_forged_and_foreign_tokens_are_refused(made_study, client_of, good) -> None:
    study, store = made_study(raters=2)
    client = client_of(study, store)
    own = client.get("/api/next").json()["trial"]["id"]
    other = study.raters()[1].token
    for path in ("/api/next", "/api/instructions", f"/api/clips/{own}/0", "/api/examples/frozen"):
        for header in ("", "Bearer", "Bearer ", "Bearer wrong", f"Basic {other}", "Bearer \u00e9".encode()):
            assert client.get(path, headers={"Authorization": header}).status_code == 401
    foreign = {"Authorization": f"Bearer {other}"}
    assert client.get(f"/api/clips/{own}/0", headers=foreign).status_code == 404
    assert client.post("/api/answers", json={"trial": own, "answer": good}, headers=foreign).status_code == 404
    assert study.progress(study.raters()[0])[0] == 0


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/%2e%2e/study.sqlite", "/study.sqlite", "/api/clips/..%2f..%2fstudy.sqlite/0",
     "/api/examples/..%2f..%2fstudy.sqlite", "/api/examples/frozen.mp4", "/page/rate.js", "//etc/passwd"],
)  # fmt: skip
def test_no_path_reaches_a_file_outside_the_page(made_study, client_of, path) -> None:
    study, store = made_study(raters=1)
    answer = client_of(study, store).get(path)
    assert answer.status_code == 404
    assert "SQLite" not in answer.text


def test_a_study_that_points_outside_its_store_is_not_served(made_study) -> None:
    study, store = made_study(raters=1)
    study._db.execute("UPDATE clips SET file = '../../../../etc/passwd' WHERE id = 0")
    with pytest.raises(server.StgEvalError, match="leads out of"):
        server.application(study, store)


def test_large_floods_and_foreign_hosts_are_refused(made_study, client_of, monkeypatch) -> None:
    study, store = made_study(raters=1)
    client = client_of(study, store)
    assert client.post("/api/answers", content=b"x" * 5000).status_code == 413
    assert client.post("/api/answers", content=iter([b"x"] * 9)).status_code == 411
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    monkeypatch.setattr(server, "REQUESTS", 20)
    codes = [client.get("/").status_code for _ in range(40)]
    assert 200 in codes
    assert codes[-1] == 429


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_malformed_answers_are_refused_and_nothing_is_kept(made_study, client_of, fixed_client, data) -> None:
    client, study, trial = fixed_client
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), inner, max_size=6)
        ),
        max_leaves=8,
    )
    body = data.draw(
        json_values | st.fixed_dictionaries({"trial": st.just(trial) | st.text(max_size=9), "answer": json_values})
    )
    raw = json.dumps(body).encode() if data.draw(st.booleans()) else data.draw(st.binary(max_size=200))
    answer = client.post("/api/answers", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code in (404, 422, 400)
    assert study.progress(study.raters()[0])[0] == 0


@pytest.fixture
def fixed_client(made_study, client_of, monkeypatch):
    monkeypatch.setattr(server, "REQUESTS", 10**9)
    study, store = made_study(raters=1)
    client = client_of(study, store)
    return client, study, client.get("/api/next").json()["trial"]["id"]


def test_the_interface_holds_against_its_own_schema(made_study, monkeypatch) -> None:
    """schemathesis: whatever fits the schema, or just does not, is answered by a status the interface has."""
    schemathesis = pytest.importorskip("schemathesis")
    monkeypatch.setattr(server, "REQUESTS", 10**9)
    study, store = made_study(raters=1)
    app = server.application(study, store)
    schema = schemathesis.openapi.from_dict(app.openapi())
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)
    headers = {"Authorization": f"Bearer {study.raters()[0].token}"}
    codes = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case) -> None:
            sent = case.as_transport_kwargs(base_url="http://127.0.0.1", headers=headers)
            sent.pop("cookies", None)
            codes.add(code := client.request(**sent).status_code)
            assert code < 500

        check()
    assert {200, 404} <= codes
    assert study.progress(study.raters()[0])[0] == 0


KILLED = """
import os, sys
from pathlib import Path
from stg_eval.rating.aspects import NAMES
from stg_eval.rating.study import Study
study = Study(Path(sys.argv[1]))
rater = study.raters()[0]
while trial := study.next_trial(rater):
    study.answer(trial, dict.fromkeys(NAMES, 2), 1.0)
    os.write(1, (trial.id + "\\n").encode())  # the acknowledgement
"""


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(made_study) -> None:
    study, _ = made_study(clips=12, raters=1)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(study.path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [process.stdout.readline().strip() for _ in range(7)]
    process.kill()
    acknowledged += process.stdout.read().split()
    process.wait()
    kept = {trial.id for _, trial, _, _, _ in Study(study.path).answers()}
    assert len(acknowledged) >= 7
    assert set(acknowledged) <= kept


def test_a_second_answer_from_another_process_is_refused(made_study, good) -> None:
    study, _ = made_study(raters=1)
    trial = study.next_trial(study.raters()[0])
    Study(study.path).answer(trial, good, 1.0)
    study.answer(trial, good, 2.0)
    with pytest.raises(AlreadyAnswered):
        study.answer(trial, good | {"likeness": 1}, 2.0)


def test_tokens_are_for_the_owner_alone(made_study) -> None:
    study, _ = made_study(raters=1)
    assert Path(study.path).stat().st_mode & 0o077 == 0
