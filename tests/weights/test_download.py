"""Whatever a server does, a download ends in the whole file or in one line, and no wrong file stays."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stg_eval.types import StgEvalError
from stg_eval.weights import transfer
from stg_eval.weights.download import download
from stg_eval.weights.kinds import check_kind


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("data.pkl", data)
    return buffer.getvalue()


CONTENT = zipped(np.random.default_rng(0).bytes(300_000))
"""Opens as a .pth of today does: a zip with sums of its members."""
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Too many users have viewed this file</body></html>"


class Handler(BaseHTTPRequestHandler):
    """Plays what the path says, as often as the number in it says, then behaves."""

    counts: dict[str, int]

    def do_GET(self) -> None:
        kind, times = self.path.strip("/").split("/")[:2]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        play = getattr(self, f"play_{kind}") if self.counts[kind] <= int(times) else self.whole
        try:
            play()
        except OSError:  # the reader went away
            self.close_connection = True

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def whole(self) -> None:
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.answer(206 if start else 200, CONTENT[start:], Content_Range=span if start else "")

    def play_cut(self) -> None:
        self.answer(200, CONTENT[:100_000], Content_Length=str(len(CONTENT)))

    def play_cutwithoutlength(self) -> None:
        self.answer(200, CONTENT[:-1], Content_Length="")

    def play_short(self) -> None:
        self.answer(200, CONTENT[:-1])

    def play_half(self) -> None:
        self.answer(200, CONTENT[: len(CONTENT) // 2])

    def play_flipped(self) -> None:
        self.answer(200, CONTENT[:1000] + bytes([CONTENT[1000] ^ 1]) + CONTENT[1001:])

    def play_long(self) -> None:
        self.answer(200, CONTENT + b"x" * len(CONTENT))

    def play_badlength(self) -> None:
        self.answer(200, CONTENT, Content_Length="many")

    def play_wrongrange(self) -> None:
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        self.answer(206, CONTENT[start + 7 :], Content_Range=f"bytes {start + 7}-{len(CONTENT) - 1}/{len(CONTENT)}")

    def play_badrange(self) -> None:
        self.answer(206, CONTENT, Content_Range="everything")

    def play_page(self) -> None:
        self.answer(200, PAGE, Content_Type="text/html; charset=utf-8")

    def play_disguised(self) -> None:
        self.answer(200, PAGE + b" " * len(CONTENT), Content_Type="application/octet-stream")

    def play_loop(self) -> None:
        self.answer(302, b"", Location=self.path)

    def play_nowhere(self) -> None:
        self.answer(302, b"", Location="file:///etc/passwd")

    def play_busy(self) -> None:
        self.answer(429, b"", Retry_After="3")

    def play_busyforlong(self) -> None:
        self.answer(429, b"", Retry_After="7200")

    def play_busydate(self) -> None:
        self.answer(503, b"", Retry_After="Fri, 31 Dec 1999 23:59:59 GMT")

    def play_busynonsense(self) -> None:
        self.answer(503, b"", Retry_After="soon")

    def play_broken(self) -> None:
        self.answer(500, PAGE)

    def play_gone(self) -> None:
        self.answer(404, PAGE)

    def play_silent(self) -> None:
        time.sleep(2)

    def play_drip(self) -> None:
        self.answer(200, b"", Content_Length=str(len(CONTENT)))
        for at in range(60):
            self.wfile.write(CONTENT[at : at + 1])
            time.sleep(0.05)

    def play_endless(self) -> None:
        self.answer(200, b"", Content_Length="")
        while True:
            self.wfile.write(CONTENT)

    def play_garbage(self) -> None:
        self.wfile.write(b"\x00\xff no HTTP at all\r\n\r\n")

    def play_manyheaders(self) -> None:
        self.answer(200, CONTENT, **{f"X{i}": "y" for i in range(200)})

    def play_reset(self) -> None:
        self.connection.close()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[str]:
    """The server's address."""
    handler = type("Fresh", (Handler,), {"counts": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the download would have slept."""
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic, time=time.time)
    monkeypatch.setattr(transfer, "time", clock)
    return slept


@pytest.fixture
def little_patience(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in SLOW:
        monkeypatch.setattr(transfer, "TIMEOUT", 0.3)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


KINDS = [name.removeprefix("play_") for name in vars(Handler) if name.startswith("play_")]
SLOW = {"silent", "drip"}
FINAL = {"page", "loop", "nowhere", "busyforlong", "gone", "long", "endless"}
"""What another attempt would not mend."""
NOT_THE_FILE = {"short", "half", "flipped", "cutwithoutlength", "disguised"}
"""What looks like a whole answer: only the digest, or opening the file, tells."""


@pytest.mark.usefixtures("little_patience")
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_always_misbehaves_ends_in_one_line_and_leaves_no_file(
    serve: str, waits: list[float], tmp_path: Path, kind: str, published: bool
) -> None:
    if kind == "badlength":  # the right bytes all the same
        download(f"{serve}/{kind}/99", tmp_path / "net.pth", SHA256 if published else None, size=len(CONTENT))
        assert (tmp_path / "net.pth").read_bytes() == CONTENT
        return
    with pytest.raises(StgEvalError) as error:
        download(f"{serve}/{kind}/99", tmp_path / "net.pth", SHA256 if published else None, size=len(CONTENT))
    assert "\n" not in str(error.value)
    assert ("not the published file" in str(error.value)) == (kind in NOT_THE_FILE)
    assert not (tmp_path / "net.pth").exists()
    left = files(tmp_path)
    assert left == [] or (published and len(left) == 1 and "what has arrived is kept" in str(error.value))
    if kind in FINAL:
        assert waits == []
    elif kind not in NOT_THE_FILE:
        assert len(waits) == transfer.ATTEMPTS - 1


@pytest.mark.usefixtures("little_patience")
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FINAL | NOT_THE_FILE])
def test_a_server_that_misbehaves_twice_ends_in_the_whole_file(
    serve: str, waits: list[float], tmp_path: Path, kind: str, published: bool
) -> None:
    download(f"{serve}/{kind}/2", tmp_path / "net.pth", SHA256 if published else None, size=len(CONTENT))
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    assert files(tmp_path) == ["net.pth"]
    expected = {"busy": [3, 3], "busydate": [0, 0], "badlength": []}.get(kind, [1, 2])
    assert waits[:2] == expected if kind in SLOW else waits == expected


@pytest.mark.parametrize("left", [b"junk" * 1000, CONTENT + b"junk", PAGE, CONTENT[:1000]])
@pytest.mark.parametrize("published", [True, False])
def test_what_an_earlier_call_left_never_gets_into_the_file(
    serve: str, waits: list[float], tmp_path: Path, left: bytes, published: bool
) -> None:
    from stg_eval.weights.download import _beside

    _beside(tmp_path / "net.pth", "partial").write_bytes(left)
    download(f"{serve}/whole/0", tmp_path / "net.pth", SHA256 if published else None, size=len(CONTENT))
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_a_full_disk_is_no_lost_connection(serve: str, waits: list[float], tmp_path: Path) -> None:
    from stg_eval.weights.download import _beside

    _beside(tmp_path / "net.pth", "partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        download(f"{serve}/whole/0", tmp_path / "net.pth", SHA256, size=len(CONTENT))
    assert waits == []


def test_two_processes_that_fetch_one_file_both_have_it(serve: str, tmp_path: Path) -> None:
    code = (
        "import sys; from stg_eval.weights import Weight, fetch\n"
        "row = Weight(name='net', needed_by='x', licence='x', size=300_000, url=sys.argv[1], file='net.pth')\n"
        "print(fetch(row).sha256)"
    )
    command = [sys.executable, "-c", code, f"{serve}/drip/1"]
    environment = os.environ | {"STG_EVAL_CACHE": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(p.communicate(timeout=60)[0].strip(), p.returncode) for p in both] == [(SHA256, 0)] * 3
    assert files(tmp_path / "weights" / "net") == ["net.pth", "sha256"]
    assert (tmp_path / "weights" / "net" / "sha256").read_text() == SHA256 + "\n"


def saved_tensors(legacy: bool) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"a": torch.ones(50)}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def safetensors() -> bytes:
    from safetensors.numpy import save

    return save({"a": np.ones(50, np.float32)})


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        (".pth", lambda: saved_tensors(legacy=False)),
        (".pth", lambda: saved_tensors(legacy=True)),
        (".safetensors", safetensors),
        (".npz", lambda: zipped(b"x" * 100)),
        (".tar", lambda: saved_tensors(legacy=False)),
        (".json", lambda: json.dumps({"a": [1, 2]}).encode()),
    ],
)
def test_a_file_opens_as_its_suffix_says_and_half_of_it_does_not(
    tmp_path: Path, suffix: str, make: Callable[[], bytes]
) -> None:
    file, data = tmp_path / "file", make()
    file.write_bytes(data)
    check_kind(file, suffix)
    for wrong in (data[: len(data) // 2], PAGE, b"", b"\x80\x04\x8c\x05posix\x8c\x06system\x93."):
        file.write_bytes(wrong)
        with pytest.raises(StgEvalError) as error:
            check_kind(file, suffix)
        assert "\n" not in str(error.value)
