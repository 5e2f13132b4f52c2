"""What VBench knows of its prompts beyond their words: the style, scene or objects that a clip must show.

Source: VBench_full_info.json of the installed vbench package, which is found without importing it.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stg_eval.metrics.vbench import VERSION
from stg_eval.types import Case, StgEvalError


@cache
def _table() -> dict[tuple[str, str], Any]:
    spec = find_spec("vbench")
    for place in (spec and spec.submodule_search_locations) or ():
        entries = json.loads((Path(place) / "VBench_full_info.json").read_text(encoding="utf-8"))
        return {
            (dimension, entry["prompt_en"]): info
            for entry in entries
            for dimension, info in entry.get("auxiliary_info", {}).items()
        }
    raise StgEvalError(f"VBench's prompts are part of its package: pip install --no-deps vbench=={VERSION}")


def auxiliary(dimension: str, case: Case | None) -> Any:
    """Say what `dimension` looks for in clips of the case's prompt, such as {"color": "red"}.

    Raises StgEvalError for a prompt that VBench does not list under the dimension: nothing says what to look for.
    """
    prompt = case.wanted if case else ""
    try:
        return _table()[dimension, prompt]
    except KeyError:
        raise StgEvalError(
            f"{dimension} is for VBench's own prompts of that dimension, which say what to look for, not {prompt!r}"
        ) from None
