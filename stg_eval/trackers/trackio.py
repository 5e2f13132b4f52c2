"""trackio: a project for a suite and model, a run for a run, in a local database; the pairs are videos."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_eval.trackers.entry import Entry
from stg_eval.trackers.tracker import folder_of
from stg_eval.types import StgEvalError

if TYPE_CHECKING:
    from stg_eval.trackers.tracker import Config, Tracker


class Trackio:
    """See `Tracker`."""

    def __init__(self, run: Any, where: str) -> None:
        self._run, self.where = run, where

    def log(self, entry: Entry, step: int) -> None:
        import trackio

        data: dict[str, Any] = dict(entry.scalars)
        data |= {name: trackio.Table(dataframe=table) for name, table in entry.tables.items()}
        for sample in entry.samples:
            for variant, clip in sample.clips.items():
                data[f"samples/{sample.name}/{variant}"] = trackio.Video(
                    str(clip), caption=sample.prompt or sample.case
                )
        self._run.log(data, step=step)


def start(group: str, name: str, config: Config, output: str | None, resume: bool) -> Iterator[Tracker]:
    """See `stg_eval.trackers.TRACKERS`."""
    if output:
        folder = str(folder_of(output))
        imported = sys.modules.get("trackio")
        if imported and Path(imported.utils.TRACKIO_DIR) != Path(folder):
            raise StgEvalError(
                "trackio, which this program has imported, keeps one folder; set TRACKIO_DIR before that"
            )
        os.environ["TRACKIO_DIR"] = folder
    import trackio

    run = trackio.init(
        group,
        name=name,
        config=dict(config),
        resume="allow" if resume else "never",
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
    )
    try:
        yield Trackio(run, f"{trackio.utils.TRACKIO_DIR}; look with: trackio show --project {group}")
    finally:
        trackio.finish()  # not the run's own, after which the client finishes it once more when the program ends
