"""What the page fetches when two runs are compared: a script of each run's clips and scores, and the clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stg_eval.reports.pages import PLAYED, finite, link, script_data
from stg_eval.storage.inside import finding
from stg_eval.storage.results import Results
from stg_eval.storage.video import open_video
from stg_eval.types import StgEvalError


class Shelf:
    """The clips of all runs below one folder, each once: clips/<number of its store>/<its name>."""

    def __init__(self, folder: Path, runs: Sequence[tuple[Results, Path]]) -> None:
        """`runs` are (run, the folder of its clips)."""
        keys: dict[Path, set[str]] = {}
        for run, store in runs:
            keys.setdefault(store, set()).update(run.scores["key"])
        self._folder = folder
        self._finds = {store: finding(store, named) for store, named in keys.items()}
        self._numbers = {store: i for i, store in enumerate(keys)}
        self._seen: dict[tuple[Path, str], dict[str, Any]] = {}

    def put(self, store: Path, file: str, key: str, size: dict[str, Any] | None) -> dict[str, Any]:
        """Return what the page needs of a clip: its file and size, or the problem. `size` is known of clips that were
        made; files are opened."""
        if (store, file) not in self._seen:
            try:
                self._seen[store, file] = self._add(store, file, self._finds[store], key, size)
            except StgEvalError as error:
                self._seen[store, file] = {"problem": str(error)}
        return self._seen[store, file]

    def _add(
        self, store: Path, file: str, find: Callable[[str, str], Path], key: str, size: dict[str, Any] | None
    ) -> dict[str, Any]:
        path = find(file, key)
        if not path.is_file():
            raise StgEvalError(f"{path.name} is gone")
        if size is None:
            info, _ = open_video(path)
            if info.codec.split()[0] not in PLAYED[0] or path.suffix.lower() not in PLAYED[1]:
                raise StgEvalError(f"no browser plays {info.codec} in a {path.suffix} file; look at it in a player")
            size = {"n": info.num_frames, "w": info.width, "h": info.height, "fps": info.fps or 8.0}
        place = Path("clips") / str(self._numbers[store])
        target = self._folder / place / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not link(path, target):
            target.unlink()  # of an earlier page: the folder is this page's own
            link(path, target)
        return {"file": quote((place / path.name).as_posix()), **size}


def script_of(number: int, run: Results, store: Path, shelf: Shelf) -> str:
    """Write the script of one run: `loaded(number, {...})`. Scores are scaled as printed; null where there is none."""
    columns = [c for c in run.columns if c.kind == "clip" and c.name in run.scores]
    asked = run.run.request
    size: dict[str, Any] | None = None
    if asked:
        size = {"n": asked.num_frames, "w": asked.width, "h": asked.height, "fps": asked.fps}
    problems = {(m.variant, m.case, m.seed): m.problem for m in run.run.missing}
    variants: dict[str, list[list[Any]]] = {name: [] for name in run.variants}
    text = run.scores.astype({"case": str}).fillna({"prompt": "", "file": ""})
    for row in text.to_dict("records"):
        case, seed, variant = str(row["case"]), int(row["seed"]), str(row["variant"])
        problem = problems.get((variant, case, seed))
        clip = {"problem": f"Missing: {problem or 'not made'}"}
        if row["file"] and problem is None:
            clip = shelf.put(store, str(row["file"]), str(row["key"]), size)
        scores = [_short(row[c.name] * c.scale) for c in columns]
        variants[variant].append([case, seed, str(row["prompt"]), clip, scores])
    data = {
        "metrics": [c.name for c in columns],
        "byCase": [c.name for c in columns if c.name in run.run.keep_static],
        "cluster": run.run.cluster,
        "variants": variants,
    }
    return f"loaded({number}, {script_data(data)});\n"


def _short(value: Any) -> float | None:
    """Nine digits: more than any interval needs, and half the size."""
    number = finite(value)
    return None if number is None else float(f"{number:.9g}")
