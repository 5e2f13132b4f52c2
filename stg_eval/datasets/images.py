"""A folder of one's own images: each is the first frame of an image-to-video case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_eval.datasets.files import check_options, image_digest
from stg_eval.progress import note
from stg_eval.storage.image import SUFFIXES
from stg_eval.storage.walk import find
from stg_eval.types import Case, StgEvalError


class Images:
    """One case an image, in the order of file names; its id is the file name.

    Hidden files and sub-folders are not looked at; a note names what else is left out.
    """

    def __init__(self, path: Path) -> None:
        self._files, self._left_out = list[Path](), ""
        self.missing: str | None = None
        try:
            if path.is_dir():
                found = find(path, SUFFIXES, "an image", deep=False)
                self._files = found.files
                self._left_out = f"{path}: left out {found.left_out}" if found.left_out else ""
            if not self._files:
                others = f" ({self._left_out})" if self._left_out else ""
                kinds = ", ".join(SUFFIXES)
                self.missing = f"{path} is no folder with images ({kinds}); give one with --suite DIR{others}"
        except StgEvalError as error:
            self.missing = str(error)

    def cases(self, dry: bool = False) -> Iterator[Case]:
        """Raises StgEvalError for an image that does not decode or is there twice."""
        if self.missing:
            raise StgEvalError(self.missing)
        if self._left_out:
            note(self._left_out)
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
