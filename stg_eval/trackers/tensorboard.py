"""TensorBoard: an event file for each variant, so that the variants of a run are curves of one chart, their intervals
as bands in Custom Scalars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval.storage.video import read_video
from stg_eval.trackers.entry import Entry, plain
from stg_eval.types import StgEvalError

if TYPE_CHECKING:
    from stg_eval.trackers.tracker import Config, Tracker

FRAMES = 8
"""Frames of a clip in a strip: first, last, and evenly between."""


class TensorBoard:
    """See `Tracker`. Tables are text, a pair is a strip: the variants' frames below each other."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.where = folder, f"{folder}; look with: tensorboard --logdir {folder.parent}"
        self._config = config
        self._writers: dict[str, Any] = {}

    def log(self, entry: Entry, step: int) -> None:
        metrics = dict.fromkeys(key.split("/")[1].partition(".")[0] for key in entry.scalars)
        for variant in entry.variants:
            writer = self._writer(variant, list(metrics))
            for key, value in entry.scalars.items():
                name, _, tag = key.partition("/")
                if name == variant:
                    writer.add_scalar(tag, value, step, new_style=True, double_precision=True)
        run = self._writer("run", [])
        for name, table in entry.tables.items():
            run.add_text(name, "```csv\n" + table.to_csv(index=False) + "```", step)
        for sample in entry.samples:
            run.add_image(f"samples/{sample.name}", strip(list(sample.clips.values())), step, dataformats="HWC")

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, name: str, metrics: list[str]) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        if name not in self._writers:
            folder = self.folder if name == "run" else self.folder / name
            writer = self._writers[name] = SummaryWriter(str(folder))
            if metrics:
                bands = {one: ["Margin", [one, f"{one}.low", f"{one}.high"]] for one in metrics}
                writer.add_custom_scalars({"95 % intervals": bands})
            else:
                lines = "\n".join(f"| {key} | {value} |" for key, value in self._config.items())
                writer.add_text("config", f"| setting | value |\n|---|---|\n{lines}")
        return self._writers[name]


def strip(clips: list[Path]) -> np.ndarray:
    """Return frames of clips, a row each, at most FRAMES a row: uint8 [H * clips, W * frames, 3], black where a clip is
    smaller or shorter than the largest."""
    rows = []
    for clip in clips:
        frames = read_video(clip)
        chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))
        rows.append(np.concatenate(list(frames[chosen]), axis=1))
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def start(group: str, name: str, config: Config, output: str | None, resume: bool) -> Iterator[Tracker]:
    """See `stg_eval.trackers.TRACKERS`. Without `output`, events go to runs/tensorboard."""
    import tensorboard  # noqa: F401  (what torch's writer needs: said before any work)

    folder = Path(output or "runs/tensorboard").resolve() / plain(group) / plain(name)
    if not resume and any(folder.rglob("events.out.tfevents.*")):
        raise StgEvalError(f"{folder} holds events already, which new ones would mix with; remove it, or give --output")
    tracker = TensorBoard(folder, config)
    try:
        yield tracker
    finally:
        tracker.close()
