"""Checkpoints arrive whole or not at all, and only the published bytes are ever loaded."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stg_eval import weights
from stg_eval.metrics.registry import METRICS
from stg_eval.pipeline import checkpoints
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight, transfer
from stg_eval.weights.download import _beside as beside

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A file behind http://127.0.0.1, with byte ranges; can cut its first answers short."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.cut_after: list[int] = []
        """Bytes after which the next answers break off, one each."""
        self.starts: list[int] = []
        """First byte that each request asked for."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/file":
                    self.send_error(404)
                    return
                wanted = self.headers["Range"]
                start = int((wanted or "bytes=0-").removeprefix("bytes=").rstrip("-"))
                outer.starts.append(start)
                if start >= len(outer.content):
                    self.send_error(416)
                    return
                body = outer.content[start:]
                self.send_response(206 if wanted else 200)
                if wanted:
                    last = len(outer.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.cut_after.pop(0)] if outer.cut_after else body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def row(server: Server) -> Weight:
    return Weight(
        name="testing",
        needed_by="metric testing",
        licence="none",
        size=len(CONTENT),
        sha256=SHA256,
        url=server.url,
        file="testing.net",
    )


def test_download_arrives_intact_and_second_fetch_opens_no_connection(row: Weight, server: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    assert not weights.is_present(row)
    found = weights.fetch(row, progress=lambda done, total: seen.append((done, total)))
    assert found.path.read_bytes() == CONTENT
    assert found.sha256 == SHA256
    assert found.fingerprint == SHA256[:8]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert weights.fetch(row) == found
    assert len(server.starts) == 1


def test_cut_download_continues_where_it_broke_off(row: Weight, server: Server) -> None:
    server.cut_after = [1_000_000, 500_000]
    assert weights.fetch(row).path.read_bytes() == CONTENT
    assert server.starts == [0, 1_000_000, 1_500_000]


def test_download_that_stays_cut_keeps_its_part_for_the_next_command(
    row: Weight, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    server.cut_after = [100_000, 200_000]
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    with pytest.raises(StgEvalError, match="run the same command to continue"):
        weights.download(row.url or "", path, SHA256)
    assert not path.exists()
    weights.download(row.url or "", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.starts == [0, 100_000, 300_000]


def test_complete_part_is_not_fetched_again(row: Weight, server: Server, tmp_path: Path) -> None:
    beside(tmp_path / "file", "partial").write_bytes(CONTENT)
    weights.download(row.url or "", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.starts == [len(CONTENT)]


def test_wrong_digest_is_refused_and_leaves_nothing(row: Weight, server: Server) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(StgEvalError, match="not the published file"):
        weights.fetch(row)
    assert not weights.is_present(row)
    server.content = CONTENT
    assert weights.fetch(row).sha256 == SHA256


def test_missing_page_fails_at_once(row: Weight, server: Server, tmp_path: Path) -> None:
    with pytest.raises(StgEvalError, match="404"):
        weights.download(server.url + "/other", tmp_path / "file", None)
    assert list(tmp_path.glob("file*")) == []


def test_damage_after_the_download_is_found_at_the_next_load(row: Weight) -> None:
    path = weights.fetch(row).path
    data = bytearray(CONTENT)
    data[1_234_567] ^= 1
    path.write_bytes(data)
    with pytest.raises(StgEvalError, match=r"damaged or another file.*stg-eval weights fetch testing"):
        weights.require(row)


def test_file_without_published_digest_is_held_to_its_first_one(row: Weight) -> None:
    row = replace(row, sha256=None)
    found = weights.fetch(row)
    assert weights.require(row).sha256 == SHA256
    found.path.write_bytes(CONTENT[:-1])
    with pytest.raises(StgEvalError, match="damaged or another file"):
        weights.require(row)


def test_file_without_published_digest_can_be_deleted_and_fetched_anew(row: Weight, server: Server) -> None:
    row = replace(row, sha256=None)
    server.content = other = np.random.default_rng(1).bytes(len(CONTENT))
    path = weights.fetch(row).path
    assert path.read_bytes() == other
    path.unlink()
    server.content = CONTENT
    assert weights.fetch(row).sha256 == weights.require(row).sha256 == SHA256


def test_folder_replaces_a_file_without_published_digest_by_the_same_file_only(row: Weight, tmp_path: Path) -> None:
    row = replace(row, sha256=None)
    own = weights.fetch(row).path
    (tmp_path / "stick").mkdir()
    on_stick = tmp_path / "stick" / "testing.net"
    on_stick.write_bytes(b"another file")
    with pytest.raises(StgEvalError, match=f"not the file that was fetched first.*delete {own}"):
        weights.fetch(row, source=tmp_path / "stick")
    assert weights.require(row).sha256 == SHA256
    own.write_bytes(b"damaged")
    on_stick.write_bytes(CONTENT)
    assert weights.fetch(row, source=tmp_path / "stick").sha256 == SHA256
    own.unlink()
    on_stick.write_bytes(b"another file")
    assert weights.fetch(row, source=tmp_path / "stick").path.read_bytes() == b"another file"


@pytest.mark.parametrize("published", [True, False])
def test_cache_folder_that_cannot_be_written_is_one_line(
    row: Weight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    if not published:
        row = replace(row, sha256=None)
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "testing.net").write_bytes(CONTENT)
    (tmp_path / "file").write_bytes(b"in the way")
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path / "file" / "cache"))
    for source in (None, tmp_path / "stick"):
        with pytest.raises(StgEvalError, match=r"cannot be stored.*STG_EVAL_CACHE") as error:
            weights.fetch(row, source=source)
        assert "\n" not in str(error.value)
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path / "cache"))
    if not published:
        (tmp_path / "cache" / "weights" / "testing" / "sha256").mkdir(parents=True)  # the note cannot be written
        with pytest.raises(StgEvalError, match="cannot be stored"):
            weights.fetch(row)


def test_member_of_a_zip_is_taken_out_and_checked(row: Weight, server: Server) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("models/inner.bin", b"inner")
        bundle.writestr("models/other.bin", b"other")
    server.content = buffer.getvalue()
    row = replace(
        row,
        file="models/inner.bin",
        sha256=hashlib.sha256(b"inner").hexdigest(),
        zip_sha256=hashlib.sha256(server.content).hexdigest(),
    )
    path = weights.fetch(row).path
    assert path.read_bytes() == b"inner"
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == ["inner.bin"]


def test_air_gapped_machine_takes_the_file_from_a_folder(row: Weight, server: Server, tmp_path: Path) -> None:
    stick = tmp_path / "stick" / "deep"
    stick.mkdir(parents=True)
    with pytest.raises(StgEvalError, match=r"holds no testing\.net"):
        weights.fetch(row, source=tmp_path / "stick")
    (stick / "testing.net").write_bytes(b"something else")
    with pytest.raises(StgEvalError, match="not the published file"):
        weights.fetch(row, source=tmp_path / "stick")
    (stick / "testing.net").write_bytes(CONTENT)
    assert weights.fetch(row, source=tmp_path / "stick").path.read_bytes() == CONTENT
    assert server.starts == []


def test_missing_weights_name_the_command_and_the_size() -> None:
    with pytest.raises(
        StgEvalError, match=r"2\.0 GB, for metrics fvd, fvd_unbiased.*stg-eval weights fetch videomae-g-ssv2$"
    ):
        weights.require(checkpoints.named("videomae-g-ssv2"))


def test_models_can_be_fetched_as_they_are_loaded() -> None:
    from stg_eval import generators

    known = checkpoints.catalogue()
    for model in generators.models():
        assert all(known[row.name] is row for row in model.checkpoints)
        if not model.card.weights.startswith("embedded@"):  # those lie in the package
            assert model.card.weights in {row.source for row in model.checkpoints}


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(StgEvalError, match="did you mean 'raft-things'"):
        checkpoints.named("raft-thing")


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    import pickle

    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # type: ignore[return-value]

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(pickle.UnpicklingError):
        weights.load_torch(weights.Checkpoint(tmp_path / "evil.pth", ""))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("modern", [True, False])
def test_both_torch_file_formats_load(tmp_path: Path, modern: bool) -> None:
    import torch

    torch.save({"a": torch.arange(3)}, tmp_path / "net.pth", _use_new_zipfile_serialization=modern)
    loaded = weights.load_torch(weights.Checkpoint(tmp_path / "net.pth", ""))
    assert loaded["a"].tolist() == [0, 1, 2]


def test_every_metric_finds_its_weights_in_the_table() -> None:
    for card in METRICS.values():
        for row in card.weights:
            assert card.name in row.needed_by


def test_every_checkpoint_of_vbench_says_size_licence_and_digest(capsys: pytest.CaptureFixture[str]) -> None:
    from stg_eval.cli import doctor, listing

    rows = {row.name: row for card in METRICS.values() for row in card.weights if "vbench" in card.note.lower()}
    assert len(rows) >= 14
    assert all(row.size and row.licence for row in rows.values())
    listing.show("weights", "")
    listed = capsys.readouterr().out.splitlines()
    doctor.report(Path())
    for lines in (listed, capsys.readouterr().out.splitlines()):
        for name, row in rows.items():
            (line,) = (text for text in lines if f" {name} " in f" {text}")
            assert weights.size(row) in line
            assert row.licence in line
            assert "SHA-256" in line


def test_every_row_says_where_its_bytes_come_from() -> None:
    for row in checkpoints.catalogue().values():
        assert (row.repo is None) != (row.url is None), row.name
        assert row.file or row.files, row.name
        assert row.url is None or row.url.startswith("https://"), row.name
