"""UCF-101 (Soomro et al., arXiv 1212.0402): first frames as conditions, the videos themselves as FVD's real clips.

Layout, as the two official archives extract: root/UCF-101/<Class>/v_<Class>_gXX_cYY.avi and root/ucfTrainTestlist/
{classInd,trainlist01,testlist01,...}.txt. Which videos are shown, and which are real clips, follows from the lists
alone: classes take turns, and inside a class the order is a shuffle by SHA-256 of the name.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_eval.datasets.dataset import Reference, stratified
from stg_eval.datasets.files import check_options, data_home, file_digest, folder, how_to_get, write_whole
from stg_eval.storage import video
from stg_eval.types import Case, StgEvalError

CITATIONS = (
    """@article{soomro2012ucf101,
  title = {{UCF101}: A Dataset of 101 Human Actions Classes From Videos in The Wild},
  author = {Soomro, Khurram and Zamir, Amir Roshan and Shah, Mubarak},
  journal = {arXiv preprint arXiv:1212.0402},
  year = {2012},
}""",
)
SPLITS = ("all", "train", "test")


@dataclass(frozen=True)
class Video:
    """One line of a split list."""

    file: str
    """``Class/v_Class_gXX_cYY.avi``."""
    label: int
    """Class index minus 1, 0 <= label < 101."""

    @property
    def name(self) -> str:
        return Path(self.file).stem

    @property
    def class_name(self) -> str:
        return self.file.split("/")[0]


class UCF101:
    """Cases are videos by name, labelled, with the class as prompt ("Apply Eye Makeup") and tag."""

    def __init__(self, root: Path, split: str, fold: int, reference_clips: int | None) -> None:
        self._split, self._fold, self._count = split, fold, reference_clips
        self._videos: list[Video] = []
        self._folder = root / "UCF-101" if (root / "UCF-101").is_dir() else root
        try:
            self._videos = read_split(root / "ucfTrainTestlist", split, fold)
            self.missing = self._incomplete()
        except StgEvalError as error:
            self.missing = str(error)

    def _incomplete(self) -> str | None:
        sizes: dict[str, int] = {}
        for name in {v.class_name for v in self._videos}:
            if (self._folder / name).is_dir():
                files = (entry for entry in os.scandir(self._folder / name) if entry.is_file())
                sizes |= {f"{name}/{entry.name}": entry.stat().st_size for entry in files}
        absent = [v.file for v in self._videos if not sizes.get(v.file)]
        if len(absent) == len(self._videos):
            return f"{self._folder} holds none of UCF-101's videos (Class/v_*.avi); {how_to_get('ucf101')}"
        if absent:
            return (
                f"{self._folder} lacks {len(absent):,} of {len(self._videos):,} videos, such as {absent[0]}; "
                "extract UCF101.rar again"
            )
        return None

    def cases(self, dry: bool = False) -> Iterator[Case]:
        if self.missing:
            raise StgEvalError(self.missing)
        frames = _FirstFrames(data_home() / "first-frames" / "ucf101")
        for item in self._ordered():
            image, digest = frames.get(self._folder / item.file, dry)
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", item.class_name)
            yield Case(
                id=item.name,
                prompt=words,
                image=str(image),
                image_sha256=digest,
                label=item.label,
                tags=(item.class_name,),
            )

    def reference(self) -> Reference | None:
        """Return the first `reference_clips` videos in the order of the cases, so the real continuations of the first
        frames shown. The metric's extractor says which of a video's frames it takes."""
        if self._count is None:
            return None
        if self.missing:
            raise StgEvalError(self.missing)
        if self._count > len(self._videos):
            raise StgEvalError(
                f"UCF-101 has {len(self._videos):,} videos here, and the suite wants {self._count:,} real"
            )
        files = [self._folder / item.file for item in self._ordered()[: self._count]]
        digest = hashlib.sha256("".join(file_digest(file) for file in files).encode()).hexdigest()
        split = self._split if self._split == "all" else f"{self._split}{self._fold:02d}"
        return Reference(f"ucf101|{split}|{self._count}", digest, files, self._count)

    def _ordered(self) -> list[Video]:
        return stratified(self._videos, lambda item: item.label, lambda item: item.name)


class _FirstFrames:
    """First frames as PNG files, extracted when they are first asked for.

    A frame is identified by the SHA-256 of its pixels (height, width, RGB bytes), since PNG bytes vary between versions
    of zlib. The file's name carries it, with the size of the video: <video>.<bytes>.<digest>.png.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        there = (path.name for path in home.glob("*.png")) if home.is_dir() else ()
        self._known = {name.rsplit(".", 2)[0]: name for name in there}

    def get(self, path: Path, dry: bool) -> tuple[Path, str]:
        """Return path of the PNG and its digest; when `dry`, a frame that is not extracted yet is left so."""
        key = f"{path.stem}.{path.stat().st_size}"
        if dry and key not in self._known:
            return path, f"not extracted: {key}"
        if key not in self._known:
            self._known[key] = self._extract(path, key)
        name = self._known[key]
        return self._home / name, name.rsplit(".", 2)[1]

    def _extract(self, path: Path, key: str) -> str:
        from PIL import Image

        frame = next(video.read_frames(path, chunk=1))[0]
        digest = hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).hexdigest()
        data = io.BytesIO()
        Image.fromarray(frame).save(data, "PNG")
        name = f"{key}.{digest}.png"
        write_whole(self._home / name, data.getvalue())
        return name


def open_dataset(name: str, options: Mapping[str, Any], reference_clips: int | None) -> UCF101:
    """Options: root; split (all, train or test; default all); fold (1, 2 or 3; default 1) of train or test."""
    check_options(name, options, ("root", "split", "fold"))
    split, fold = str(options.get("split", "all")), options.get("fold", 1)
    if split not in SPLITS or fold not in (1, 2, 3):
        raise StgEvalError(f"ucf101 has split: {', '.join(SPLITS)} and fold: 1, 2, 3; not {split!r}, {fold!r}")
    return UCF101(folder(name, options.get("root")), split, int(fold), reference_clips)


def read_split(lists: Path, split: str, fold: int) -> list[Video]:
    """Return the videos of a split; "all" joins a fold's two lists, which together name every video.

    Raises StgEvalError for a missing or damaged list, naming file and line.
    """
    labels = {}
    for path, line, text in _lines(lists / "classInd.txt"):
        number, _, name = text.partition(" ")
        if not number.isdigit() or not name:
            raise StgEvalError(f"{path}, line {line}: not '<number> <class>'; extract the split lists again")
        labels[name] = int(number) - 1
    parts = ("train", "test") if split == "all" else (split,)
    videos = []
    for part in parts:
        for path, line, text in _lines(lists / f"{part}list{fold:02d}.txt"):
            file = text.split(" ")[0]
            if file.count("/") != 1 or file.split("/")[0] not in labels:
                raise StgEvalError(f"{path}, line {line}: {file!r} is not in a known class; extract the lists again")
            videos.append(Video(file, labels[file.split("/")[0]]))
    return videos


def _lines(path: Path) -> Iterator[tuple[Path, int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StgEvalError(f"UCF-101's split list is not at {path}; {how_to_get('ucf101')}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield path, number, line.strip()
