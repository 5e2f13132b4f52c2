"""What a tracker is, and the folder it may be given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from stg_eval.trackers.entry import Entry
from stg_eval.types import JSONValue, StgEvalError

Config = Mapping[str, JSONValue]
"""What was asked for, flat: "request.height" -> 16."""


class Tracker(Protocol):
    """A run of a tracker that is being written."""

    where: str
    """Where it is written, and how to look at it; one line."""

    def log(self, entry: Entry, step: int) -> None:
        """Write the scores, tables and samples of a run at a training step, 0 where nothing is trained."""
        ...


def folder_of(output: str) -> Path:
    """Make the folder that takes everything a tracker writes. Raises StgEvalError where the disk refuses."""
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StgEvalError(f"cannot write to {output} ({error.strerror}); choose another --output") from error
    return Path(output).resolve()
