"""Where the driver of a run saturates, from 1 to 1,000 workers, and how long the paper's tables take on N GPUs.

    .venv/bin/python benchmarks/scale_sim.py [driver] [memory] [workers] [tables]

`driver` and `memory` run the real loop and a real store against workers that do nothing but hand files in: what is left
is the driver's own time for a clip, and its memory. `workers` and `tables` are simulations in virtual time: each worker
does one task and has the next one waiting, and results queue up at the driver.
"""

from __future__ import annotations

import hashlib
import heapq
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from stg_eval import suites
from stg_eval.executors.worker import IN_STORE, Generate, Result, Task
from stg_eval.metrics.decoding import ClipOutcome
from stg_eval.pipeline.dry_run import GPUS, UTILISATION
from stg_eval.pipeline.plan import make_plan
from stg_eval.pipeline.reproduce import recipe
from stg_eval.pipeline.run import _absent, _batches
from stg_eval.pipeline.status import Status
from stg_eval.pipeline.work import Item, Work
from stg_eval.storage.store import Store, clip_name
from stg_eval.types import Clip

AHEAD = 2
RAY = 0.6e-3
"""Seconds that Ray takes of the driver for a task, submitted and fetched (Ray 2.60, two actors, AMD EPYC, 2 cores)."""
DATA = bytes(2048)


class Named:
    """A metric that is only its name."""

    def __init__(self, signature: str) -> None:
        self.signature = signature


class Idle:
    """An executor whose workers take no time; `driver` is what the loop around it took."""

    def __init__(self, root: Path) -> None:
        self.root, self.driver, self.tasks = root, 0.0, 0

    def run(self, ready: deque[Task]) -> Iterator[tuple[Task, Result]]:
        while ready:
            task = ready.popleft()
            result = self._do(task)
            self.tasks += 1
            start = time.process_time()
            yield task, result
            self.driver += time.process_time() - start

    def _do(self, task: Task) -> Result:
        if not isinstance(task, Generate):
            values = dict.fromkeys(task.metrics, 0.5)  # type: ignore[union-attr]
            return [ClipOutcome(item.path, values=dict(values)) for item in task.items]  # type: ignore[union-attr]
        clips = []
        for request in task.requests:
            name = clip_name(request.key)
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(DATA)
            size = {n: getattr(request, n) for n in ("num_frames", "height", "width", "fps", "encoding")}
            digest = hashlib.sha256(DATA).hexdigest()
            clips.append(Clip(key=request.key, file=name, sha256=digest, seconds=1.0, **size))
        return clips


def loop(count: int, batch: int) -> tuple[Idle, float]:
    """The real loop over `count` clips with two metrics; the executor, and the seconds of processor of the whole."""
    with tempfile.TemporaryDirectory(prefix="stg-eval-scale-") as name, Store(Path(name)) as store:
        settings = {"batch_size": batch}
        plan = make_plan(
            suites.load("demo"), "tiny", seeds=count // 24, metric_names=["accuracy_sprites"], settings=settings
        )
        batches = _batches(plan, 1, 1)
        items = [Item(key, IN_STORE, None) for key in batches]
        work = Work(store, {n: Named(n) for n in ("one", "two")}, batches=batches)  # type: ignore[dict-item]
        idle, start = Idle(store.path), time.process_time()
        with Status(None) as status:
            work.do(idle, _absent(store, batches), items, status)
        return idle, time.process_time() - start


def driver() -> dict[int, float]:
    """Seconds of the driver for a clip, by batch size."""
    found = {}
    for batch in (1, 16):
        idle, whole = loop(9_984, batch)
        found[batch] = idle.driver / 9_984
        print(
            f"driver, batches of {batch}: {1e3 * found[batch]:.2f} ms a clip at 9,984 clips, {idle.tasks} tasks "
            f"({whole:.1f} s of processor with what the idle workers took)",
            flush=True,
        )
    return found


def memory() -> None:
    for count in (1_008, 9_984, 99_984):
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import scale_sim; scale_sim.peak({count})"
        )
        subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)


def peak(count: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    loop(count, 16)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory, {count:,} planned requests: {after:.0f} MB, {after - before:.0f} of them for the run", flush=True)


def simulate(workers: int, tasks: int, seconds: float, busy: float) -> float:
    """Seconds until the last of `tasks` results is recorded, when a task takes a worker `seconds` and the driver
    `busy`."""
    slots = deque(w for _ in range(AHEAD) for w in range(workers))
    free_at = [0.0] * workers
    flying: list[tuple[float, int]] = []
    now, left = 0.0, tasks
    while left or flying:
        while left and slots:
            worker = slots.popleft()
            free_at[worker] = max(now, free_at[worker]) + seconds
            heapq.heappush(flying, (free_at[worker], worker))
            left -= 1
        done, worker = heapq.heappop(flying)
        now = max(now, done) + busy
        slots.append(worker)
    return now


def workers(costs: dict[int, float]) -> None:
    print("\n| a clip takes a GPU | batch | driver, ms a clip | 1 | 8 | 64 | 256 | 1,000 | saturates at |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for seconds in (0.1, 1.0, 10.0, 100.0):
        for batch, cost in costs.items():
            each = cost + RAY / batch
            shares = []
            for n in (1, 8, 64, 256, 1_000):
                tasks = max(20 * n, 200)
                ideal = tasks * batch * seconds / n
                shares.append(ideal / simulate(n, tasks, batch * seconds, batch * each))
            row = " | ".join(f"{share:.0%}" for share in shares)
            print(f"| {seconds:g} s | {batch} | {1e3 * each:.2f} | {row} | {seconds / each:,.0f} GPUs |")


def tables() -> None:
    speed = GPUS["H100"] * UTILISATION
    print("\n| what | clips | H100-hours | 1 GPU | 8 | 64 |\n|---|---:|---:|---:|---:|---:|")
    named = [(f"Table {i}", recipe(f"table{i}", fraction=None, limit=None).runs) for i in range(1, 6)]
    rows = [(name, [(run.suite, run.model, run.guidance) for run in runs]) for name, runs in named]
    full = suites.load("vbench-t2v-full")
    rows += [(f"VBench, all dimensions, {model}", [(full, model, ())]) for model in ("opensora", "mochi")]
    for name, parts in rows:
        hours, clips, spans = 0.0, 0, {1: 0.0, 8: 0.0, 64: 0.0}
        for suite, model, guidance in parts:
            plan = make_plan(suite, model, guidance=guidance, dry=True)
            tasks = [plan.tflops(v.name) * len(batch) / speed for v in plan.variants for batch in plan.batches(v.name)]
            hours, clips = hours + sum(tasks) / 3600, clips + sum(len(r) for r in plan.requests.values())
            for n in spans:
                spans[n] += _span(tasks, n) / 3600
        print(
            f"| {name} | {clips:,} | {hours:,.0f} | " + " | ".join(f"{h:,.1f} h" for h in spans.values()) + " |",
            flush=True,
        )


def _span(tasks: list[float], workers: int) -> float:
    """Seconds of a list of tasks, each taken by the first worker that is free."""
    free = [0.0] * workers
    for seconds in tasks:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def main() -> None:
    chosen = sys.argv[1:] or ["driver", "memory", "workers", "tables"]
    costs = driver() if {"driver", "workers"} & set(chosen) else {}
    if "memory" in chosen:
        memory()
    if "workers" in chosen:
        workers(costs)
    if "tables" in chosen:
        tables()


if __name__ == "__main__":
    main()
