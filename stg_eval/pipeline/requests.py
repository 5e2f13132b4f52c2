"""Makes requests, and so their keys, of the card's settings, the identity of the weights, the case and the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stg_eval.generators import ModelCard, speed
from stg_eval.pipeline.settings import REQUEST_SETTINGS
from stg_eval.storage.walk import visible_files
from stg_eval.types import Case, Guidance, JSONValue, Request, StgEvalError

_NEEDS = {
    "class-to-video": ("label", "a class label"),
    "text-to-video": ("prompt", "a prompt"),
    "image-to-video": ("image", "a first frame"),
}


def weights_identity(weights: str) -> str:
    """Name a checkpoint as requests do: a hub id or "random-weights(...)" as it is; a local file by its digest; a
    local folder by a digest of its files' names, sizes and times, hidden ones excepted, since hashing tens of gigabytes
    would not pay for each plan (a copied folder counts as new weights: clips are made again rather than mixed up)."""
    folder = Path(weights).expanduser()
    if folder.is_file():
        return f"file:{folder.name}@{hashlib.sha256(folder.read_bytes()).hexdigest()[:16]}"
    if not folder.is_dir():
        return weights
    lines = []
    for path in visible_files(folder):
        stat = path.stat()
        lines.append(f"{path.relative_to(folder).as_posix()} {stat.st_size} {stat.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"folder:{folder.resolve().name}@{digest[:16]}"


def make_requests(
    card: ModelCard,
    weights: str,
    guidance: Guidance,
    pairs: Iterable[tuple[Case, int]],
    settings: Mapping[str, JSONValue],
) -> tuple[Request, ...]:
    """Return the requests of one guidance, one for each (case, seed).

    Raises StgEvalError where a case lacks what the model's task needs.
    """
    field, what = _NEEDS[card.task]
    shared: dict[str, Any] = {name: getattr(card, name) for name in REQUEST_SETTINGS}
    shared |= {"model": card.name, "weights": weights, "guidance": guidance}
    shared["settings"] = tuple(sorted(speed.unsaid(settings).items()))
    requests = []
    for case, seed in pairs:
        if getattr(case, field) in (None, ""):
            raise StgEvalError(
                f"{card.name} needs {what}, and case {case.id!r} has none; choose a suite made for {card.task}"
            )
        requests.append(Request(case=case, seed=seed, **shared))
    return tuple(requests)
