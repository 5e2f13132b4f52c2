"""MLflow: an experiment for a suite and model, a run for a run; clips are artifacts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stg_eval.trackers.entry import Entry
from stg_eval.trackers.tracker import folder_of

if TYPE_CHECKING:
    from stg_eval.trackers.tracker import Config, Tracker


class MLflow:
    """See `Tracker`."""

    def __init__(self, client: Any, run_id: str, where: str) -> None:
        self._client, self._run, self.where = client, run_id, where

    def log(self, entry: Entry, step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in entry.scalars.items()]
        for i in range(0, len(metrics), 1000):  # as many as a server takes at once
            self._client.log_batch(self._run, metrics=metrics[i : i + 1000])
        folder = f"step-{step:08d}/" if step else ""
        for name, table in entry.tables.items():
            # as text: the client's own tables keep ten digits
            self._client.log_text(self._run, table.to_csv(index=False), f"{folder}{name}.csv")
        for sample in entry.samples:
            for variant, clip in sample.clips.items():
                self._client.log_artifact(self._run, str(clip), f"{folder}samples/{sample.name}/{variant}")


def start(group: str, name: str, config: Config, output: str | None, resume: bool) -> Iterator[Tracker]:
    """See `stg_eval.trackers.TRACKERS`. `output` may be the address of a server too; without it, MLFLOW_TRACKING_URI
    says where."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it calls its maker when it is imported

    from mlflow import MlflowClient, get_tracking_uri
    from mlflow.entities import Param

    address, artifacts = output, None
    if output and "://" not in output:
        folder = folder_of(output)
        address, artifacts = f"sqlite:///{folder}/mlflow.db", f"{(folder / 'artifacts').as_uri()}/{group}"
    client = MlflowClient(address or get_tracking_uri())
    known = client.get_experiment_by_name(group)
    experiment = known.experiment_id if known else client.create_experiment(group, artifact_location=artifacts)
    same = client.search_runs([experiment], f'attributes.run_name = "{name}"', max_results=1) if resume else []
    run_id = same[0].info.run_id if same else client.create_run(experiment, run_name=name).info.run_id
    if not same:
        params = [Param(key, str(value)[:6000]) for key, value in config.items() if value is not None]
        for i in range(0, len(params), 100):
            client.log_batch(run_id, params=params[i : i + 100])
    where = address or get_tracking_uri()
    ended = "FAILED"
    try:
        yield MLflow(client, run_id, f"run {run_id} at {where}; look with: mlflow ui --backend-store-uri {where}")
        ended = "FINISHED"
    finally:
        client.set_terminated(run_id, ended)
