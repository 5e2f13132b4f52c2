"""The hub's HTTP interface, as far as huggingface_hub uses it for data set repositories, in memory; and its client: a
process of its own.

What an owner's name asks for happens: `cut` hangs up, `readonly` may not write, `flaky` fails its first commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_" + "t" * 34


CLIENT = """
import contextlib, io, json, os, sys
from stg_eval import cli

answers = []
for call in json.load(sys.stdin):
    token, *arguments = call
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    sys.argv, out, err = ["stg-eval", *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            answers.append([stop.code or 0, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, dict[str, bytes]] = {}
        """Name -> its files, as the last commit left them."""
        self.private: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.commits = 0
        self.failed: set[str] = set()
        self.bodies: list[bytes] = []
        """All that clients sent."""

    def sha(self, repo: str) -> str:
        """The commit of a repository: a digest of its files."""
        files = {name: hashlib.sha256(data).hexdigest() for name, data in self.repos[repo].items()}
        return hashlib.sha1(json.dumps(files, sort_keys=True).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def log_message(self, *_: Any) -> None:
        pass

    def _route(self, method: str) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.bodies.append(self.body)
        path = unquote(urlsplit(self.path).path)
        routes: dict[str, Callable[..., None]] = {
            r"POST /api/repos/create": self._create,
            r"POST /api/validate-yaml": lambda: self._json({"errors": [], "warnings": []}),
            r"GET /api/datasets/(\w+/[\w.-]+)/tree/(\w+)": self._tree,
            r"GET /api/datasets/(\w+/[\w.-]+)(?:/revision/([\w.-]+))?": self._info,
            r"POST /api/datasets/(\w+/[\w.-]+)/preupload/main": self._preupload,
            r"POST /datasets/(\w+/[\w.-]+)\.git/info/lfs/objects/batch": self._batch,
            r"PUT /objects/(\w+)": self._object,
            r"POST /api/datasets/(\w+/[\w.-]+)/commit/main": self._commit,
            r"(?:HEAD|GET) /datasets/(\w+/[\w.-]+)/resolve/(\w+)/(.+)": self._resolve,
        }
        if path.split("/")[-2:-1] == ["cut"] or "/cut/" in path or b'"cut"' in self.body:
            self.close_connection = True  # without a word
            return
        for pattern, answer in routes.items():
            if found := re.fullmatch(pattern, f"{method} {path}"):
                return answer(*found.groups())
        self._json({"error": f"the fake hub knows no {method} {path}"}, 501)

    def _json(self, content: Any, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **headers})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _create(self) -> None:
        asked = json.loads(self.body)
        if not self._known():
            return self._json({"error": "Invalid username or password."}, 401)
        if asked["organization"] == "readonly":
            return self._json({"error": "You don't have the rights to create a dataset under readonly"}, 403)
        repo = f"{asked['organization'] or 'me'}/{asked['name']}"
        there = repo in self.server.repos
        self.server.repos.setdefault(repo, {".gitattributes": b""})
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(repo)
        self._json({"url": f"{self.server.url}/datasets/{repo}", "name": repo}, 409 if there else 200)

    def _found(self, repo: str, revision: str | None = None) -> bool:
        """Tell whether a repository is there for this client; answers as the hub does where it is not."""
        if repo not in self.server.repos or (repo in self.server.private and not self._known()):
            status = 404 if self._known() else 401
            self._json({"error": "Repository not found"}, status, **{"X-Error-Code": "RepoNotFound"})
            return False
        if revision not in (None, "main", self.server.sha(repo)):
            self._json({"error": "Invalid rev id"}, 404, **{"X-Error-Code": "RevisionNotFound"})
            return False
        return True

    def _info(self, repo: str, revision: str | None) -> None:
        if self._found(repo, revision):
            files = [{"rfilename": name} for name in self.server.repos[repo]]
            self._json({"id": repo, "sha": self.server.sha(repo), "siblings": files, "tags": [], "private": True})

    def _tree(self, repo: str, revision: str) -> None:
        if self._found(repo, revision):
            files = self.server.repos[repo].items()
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files
                ]
            )

    def _preupload(self, repo: str) -> None:
        files = json.loads(self.body)["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".mp4", ".sqlite", ".zip")) else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
        self._json({"files": modes})

    def _batch(self, repo: str) -> None:
        objects = []
        for one in json.loads(self.body)["objects"]:
            there = one["oid"] in self.server.objects
            upload = {"upload": {"href": f"{self.server.url}/objects/{one['oid']}"}}
            objects.append(one | ({} if there else {"actions": upload}))
        self._json({"transfer": "basic", "objects": objects})

    def _object(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.objects[oid] = self.body
        self._send(b"", 200, {})

    def _commit(self, repo: str) -> None:
        if repo.startswith("flaky/") and repo not in self.server.failed:
            self.server.failed.add(repo)
            return self._json({"error": "Internal error, sorry"}, 500)
        files = self.server.repos[repo]
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        self.server.commits += 1
        sha = self.server.sha(repo)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/datasets/{repo}/commit/{sha}"})

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if not self._found(repo, revision):
            return
        data = self.server.repos[repo].get(name)
        if data is None:
            return self._json({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": self.server.sha(repo), "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        self._send(data, 200, headers)


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def client(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Answer]]:
    """`stg-eval hub ARGUMENTS` for each of the calls, one after the other in one process; a call that begins with "-"
    has no token."""
    home = tmp_path_factory.mktemp("home")

    def run(*calls: tuple[object, ...]) -> list[Answer]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        given = [
            ["", "hub", *map(str, call[1:])] if call[0] == "-" else [TOKEN, "hub", *map(str, call)] for call in calls
        ]
        done = subprocess.run(
            [sys.executable, "-c", CLIENT], input=json.dumps(given), env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [Answer(*answer) for answer in json.loads(done.stdout)]

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the embedded model with a metric of clips and one of sets, and what it knows of its real clips."""
    from stg_eval import suites
    from stg_eval.pipeline import run as running
    from stg_eval.pipeline.plan import make_plan

    folder = tmp_path_factory.mktemp("finished")
    text = (Path(suites.__file__).parent / "demo.yaml").read_text(encoding="utf-8")
    (folder / "small.yaml").write_text(text.replace("reference_clips: 2048", "reference_clips: 24"), encoding="utf-8")
    plan = make_plan(
        suites.load(folder / "small.yaml"),
        "tiny",
        metric_names=["accuracy_sprites", "frame_difference_sprites", "psnr"],
        limit=4,
        settings={"num_inference_steps": 2},
        allow_few=True,
    )
    running.run(plan, store_path=folder / "store", output=folder / "run", device="cpu")
    (folder / "run" / "ratings.csv").write_text("rater,case\n1,someone\n")
    return folder / "run"
