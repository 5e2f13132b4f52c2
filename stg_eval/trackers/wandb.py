"""Weights & Biases: a project for a suite and model, a run for a run; the pairs are videos."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stg_eval.trackers.entry import Entry
from stg_eval.trackers.tracker import folder_of

if TYPE_CHECKING:
    from stg_eval.trackers.tracker import Config, Tracker


class WandB:
    """See `Tracker`."""

    def __init__(self, run: Any) -> None:
        self._run = run
        folder = os.path.dirname(run.dir)
        self.where = f"{folder}; send it with: wandb sync {folder}" if run.offline else run.url

    def log(self, entry: Entry, step: int) -> None:
        import wandb

        data: dict[str, Any] = dict(entry.scalars)
        for name, table in entry.tables.items():
            data[name] = wandb.Table(columns=list(table.columns), data=table.to_numpy(), allow_mixed_types=True)
        for sample in entry.samples:  # not in a table: its videos would lie elsewhere than the run
            for variant, clip in sample.clips.items():
                caption = f"{sample.prompt or sample.case} ({variant})"
                data[f"samples/{sample.name}/{variant}"] = wandb.Video(str(clip), caption=caption, format="mp4")
        self._run.log(data, step=step)


def start(group: str, name: str, config: Config, output: str | None, resume: bool) -> Iterator[Tracker]:
    """See `stg_eval.trackers.TRACKERS`. Offline unless WANDB_MODE says otherwise."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it calls its maker even offline

    import wandb

    settings: dict[str, Any] = {"mode": os.environ.get("WANDB_MODE", "offline")}
    settings |= dict.fromkeys(
        ("silent", "disable_code", "disable_git", "disable_job_creation", "x_disable_meta", "x_disable_stats"), True
    )
    settings |= {"console": "off", "save_code": False, "x_disable_machine_info": True}
    run = wandb.init(
        project=group[:128],
        name=name,
        id=hashlib.sha256(f"{group}/{name}".encode()).hexdigest()[:16] if resume else None,
        resume="allow" if resume else None,
        config=dict(config),
        dir=str(folder_of(output)) if output else None,
        settings=wandb.Settings(**settings),
    )
    failed = 1
    try:
        yield WandB(run)
        failed = 0
    finally:
        run.finish(exit_code=failed)
