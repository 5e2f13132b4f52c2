"""A folder of one's own images: each is the first frame of an image-to-video case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_eval.datasets.files import check_options, image_digest
from stg_eval.types import Case, StgEvalError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Images:
    """One case an image, in the order of file names; its id is the file name. Other files are left alone."""

    def __init__(self, path: Path) -> None:
        self._files = find(path)
        kinds = ", ".join(IMAGE_SUFFIXES)
        self.missing = None if self._files else f"{path} is no folder with images ({kinds}); give one with --suite DIR"

    def cases(self, dry: bool = False) -> Iterator[Case]:
        """Raises StgEvalError for an image that does not decode or is there twice."""
        if self.missing:
            raise StgEvalError(self.missing)
        seen: dict[str, Path] = {}
        for file in self._files:
            digest = image_digest(file, dry)
            if digest in seen:
                raise StgEvalError(f"{file} is the same image as {seen[digest].name}; remove one of them")
            seen[digest] = file
            yield Case(id=file.name, image=str(file), image_sha256=digest)

    def reference(self) -> None:
        return None


def open_dataset(name: str, options: Mapping[str, Any], reference_clips: int | None) -> Images:
    """Options: path."""
    check_options(name, options, ("path",))
    return Images(Path(str(options.get("path") or "")).expanduser())


def find(folder: Path) -> list[Path]:
    """The folder's images by name; hidden files and subfolders are not looked at."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(f for f in files if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
