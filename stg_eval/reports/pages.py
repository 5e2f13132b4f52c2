"""What every page is put together from: its template's parts, its data as a script's text, and files beside it."""

from __future__ import annotations

import filecmp
import json
import math
import os
import shutil
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from stg_eval.storage import atomic

PLAYED = {"h264", "vp8", "vp9", "av1"}, {".mp4", ".m4v", ".mov", ".mkv", ".webm"}
"""Codecs and kinds of files that browsers play."""


@cache
def part(room: str, name: str) -> str:
    """Read a file of the room "gallery" or "overview"."""
    return files(f"{__package__}.{room}").joinpath(name).read_text(encoding="utf-8")


def render(template: str, **values: Any) -> str:
    """Fill a template in; text is escaped unless it is `safe`."""
    from jinja2 import Environment

    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(**values)


def safe(text: str) -> Any:
    """Mark text that is HTML already."""
    from markupsafe import Markup

    return Markup(text)


def script_data(data: Any) -> str:
    """Write JSON that may stand in a page or a script. Raises ValueError for a nan."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def finite(value: Any) -> float | None:
    """Return a number as JSON may hold it: null for nan."""
    return float(value) if value is not None and math.isfinite(value) else None


def link(source: Path, target: Path) -> bool:
    """Give the file a second name where the disk allows it, else a copy. False where another file has that name: the
    folder may hold someone's own videos, the source among them, so nothing in it is ever replaced."""
    if target.exists():
        return target.samefile(source) or filecmp.cmp(source, target, shallow=False)
    with atomic.replacing(target) as partial:
        try:
            os.link(source.resolve(), partial)
        except OSError:
            shutil.copyfile(source, partial)
    return True
