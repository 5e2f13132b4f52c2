"""Ray gives what one process gives, byte for byte, and loses nothing whoever dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stg_eval import suites
from stg_eval.executors import ray as ray_executor
from stg_eval.executors.worker import Generate, Worker
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.pipeline.run import run
from stg_eval.storage.results import Results
from stg_eval.types import StgEvalError

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'stg-eval[ray]')")
FLAGS = Path()
"""Files in this folder say when workers die."""


class Mortal(ray_executor.Remote):
    """A worker that dies before or after it writes a clip, once for each flag, and always with poison in its batch."""

    def do(self, task):
        def die() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def told(flag: str) -> bool:
            try:
                (FLAGS / flag).unlink()
            except FileNotFoundError:
                return False
            return True

        def keep(request, frames, seconds):
            if told("before"):
                die()
            clip = Worker._keep(self._worker, request, frames, seconds)
            if told("after"):
                die()
            return clip

        if isinstance(task, Generate) and any((FLAGS / request.key).exists() for request in task.requests):
            die()
        self._worker._keep = keep
        return super().do(task)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ray on this machine for all tests of this file, with workers that die when they are told."""
    global FLAGS
    FLAGS = tmp_path_factory.mktemp("flags")
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray_executor._init(ray, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_executor, "Remote", Mortal)
        yield FLAGS
    ray.shutdown()
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def make(batch_size: int = 4) -> Plan:
    names = ["accuracy_sprites", "temporal_flickering", "frame_difference_sprites"]
    settings = {"num_inference_steps": 2, "batch_size": batch_size}
    return make_plan(suites.load("demo"), "tiny", metric_names=names, limit=12, settings=settings, allow_few=True)


def results(folder: Path, batch_size: int = 4, **how) -> Results:
    return run(make(batch_size), store_path=folder / "store", output=folder / "run", device="cpu", **how)


def bytes_of(folder: Path) -> dict[str, bytes]:
    found = {name: (folder / "run" / name).read_bytes() for name in ("scores.csv", "table.json")}
    return found | {file.name: file.read_bytes() for file in (folder / "store").rglob("*.mp4")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes, with the threads that the workers have."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    results(folder)
    torch.set_num_threads(threads)
    return bytes_of(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_makes_the_same_bytes_as_one_process(
    tmp_path: Path, cluster: Path, whole: dict[str, bytes], workers: int
) -> None:
    assert results(tmp_path, executor="ray", workers=workers).run.missing == ()
    assert bytes_of(tmp_path) == whole


def test_workers_that_die_before_and_after_they_write_change_nothing(
    tmp_path: Path, cluster: Path, whole: dict[str, bytes]
) -> None:
    for flag in ("before", "after"):
        (cluster / flag).touch()
    assert results(tmp_path, executor="ray", workers=2).run.missing == ()
    assert list(cluster.iterdir()) == [], "both died"
    assert bytes_of(tmp_path) == whole


def test_one_request_that_kills_every_worker_is_set_aside_and_the_rest_is_made(
    tmp_path: Path, cluster: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "TRIES", 2)  # each costs the start of a worker
    poison = make().requests["stg"][5]
    (cluster / poison.key).touch()
    (missing,) = results(tmp_path, batch_size=2, executor="ray", workers=2).run.missing
    (cluster / poison.key).unlink()
    assert (missing.variant, missing.case, missing.seed) == ("stg", poison.case.id, poison.seed)
    assert missing.problem == "set aside: 2 workers ended in the middle of it"
    assert results(tmp_path).run.missing == ()
    assert {name for name in bytes_of(tmp_path) if name.endswith(".mp4")} == {n for n in whole if n.endswith(".mp4")}


def test_more_workers_than_there_is_room_for_are_refused(tmp_path: Path, cluster: Path) -> None:
    with pytest.raises(StgEvalError, match=r"room for 3 workers of 1 processors .* and 64 are asked for"):
        results(tmp_path, executor="ray", workers=64)


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StgEvalError, match=r"pip install 'stg-eval\[ray\]'"):
        results(tmp_path, executor="ray")


def of_ray(folder: str) -> dict[int, str]:
    """Pid -> command of the Ray processes whose session lies in a folder. Workers say so in their environment alone."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = command + (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if entry.name.isdigit() and folder in place and "ray" in command and "stg_eval.cli" not in command:
            found[int(entry.name)] = command
    return found


def wait_until(done: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


COMMAND = [sys.executable, "-m", "stg_eval.cli", "run", "--suite", "demo", "--model", "tiny", "--limit", "24"]
COMMAND += ["--set", "batch_size=4", "--device", "cpu", "--metrics", "accuracy_sprites"]


def local(folder: Path, env: dict[str, str]) -> list[bytes]:
    """The results of the run in one process, which resumes what is in the store."""
    folders = ["--store", str(folder / "store"), "--output", str(folder / "run")]
    subprocess.run([*COMMAND, *folders], env=env, check=True, capture_output=True, timeout=240)
    return [(folder / "run" / name).read_bytes() for name in ("scores.csv", "table.json")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return local(tmp_path_factory.mktemp("uninterrupted"), os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["driver", "raylet"])
def test_a_run_whose_driver_or_raylet_is_killed_is_resumed_as_if_nothing_had_been_and_leaves_no_process(
    tmp_path: Path, uninterrupted: list[bytes], victim: str
) -> None:
    home = tempfile.mkdtemp(prefix="r", dir="/tmp")  # a socket's path is short
    env = os.environ | {"RAY_TMPDIR": home, "OMP_NUM_THREADS": "1"}
    env.pop("RAY_ADDRESS", None)
    folders = ["--store", str(tmp_path / "store"), "--output", str(tmp_path / "run")]
    workers: list[psutil.Process] = []
    log = tmp_path / "stderr"  # a file: Ray says so much that a pipe would fill
    with open(log, "wb") as err:
        driver = subprocess.Popen([*COMMAND, *folders, "--gpus", "2"], env=env, stderr=err)
    try:
        wait_until(lambda: driver.poll() is not None or any((tmp_path / "store").rglob("*.mp4")))
        assert driver.poll() is None, log.read_text()
        if victim == "driver":
            driver.kill()
        else:
            raylet = psutil.Process(next(pid for pid, what in of_ray(home).items() if "raylet/raylet" in what))
            workers = raylet.children()
            for worker in workers:  # they would end a run this small before its driver notices
                worker.suspend()
            raylet.kill()
        assert driver.wait(timeout=240) == (2 if victim == "raylet" else -signal.SIGKILL)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.resume()
        assert victim == "driver" or "Ray has no machine left" in log.read_text()
        wait_until(lambda: not of_ray(home))
        assert local(tmp_path, env) == uninterrupted
    finally:
        driver.kill()
        for pid in of_ray(home):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)
