"""Whether a file opens as what its name says: what is known of one whose publisher names no digest."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from stg_eval.types import StgEvalError

TORCH = (".pth", ".pt", ".ckpt", ".bin", ".tar")
ZIP = (".zip", ".npz")
TEXT = (".txt", ".csv", ".json", ".yaml")


def check_kind(file: Path, suffix: str) -> None:
    """Raises StgEvalError for a file that is cut, damaged or a web page. Reads all of it; runs none of it."""
    with file.open("rb") as stream:
        begin = stream.read(512).lstrip().lower()
    if begin.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise StgEvalError("a web page")
    try:
        if suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, "np") as tensors:
                tensors.keys()
        elif suffix in ZIP or (suffix in TORCH and zipfile.is_zipfile(file)):
            with zipfile.ZipFile(file) as bundle:
                if damaged := bundle.testzip():
                    raise StgEvalError(f"{damaged} in it is damaged")
        elif suffix in TORCH:
            import torch

            torch.load(file, map_location="cpu", weights_only=True)
        elif suffix in TEXT:
            text = file.read_text(encoding="utf-8")
            if suffix == ".json":
                json.loads(text)
    except StgEvalError:
        raise
    except Exception as error:  # what readers raise of damaged bytes is not bounded
        raise StgEvalError(f"it does not open as {suffix} ({' '.join(str(error).split())[:100]})") from error
