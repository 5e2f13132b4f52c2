"""What goes up: the files of a run or a baseline as they leave this machine, without its paths and its secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from stg_eval.gate import snapshot
from stg_eval.pipeline.pairs import with_baseline
from stg_eval.sharing.card import readme, run_readme
from stg_eval.storage import atomic, results
from stg_eval.storage.excerpt import excerpt, requests_of
from stg_eval.storage.record import RunRecord
from stg_eval.storage.results import Results
from stg_eval.storage.store import damage
from stg_eval.storage.walk import is_hidden
from stg_eval.types import StgEvalError

BASELINE = "baseline.zip"
STORE = "store"
SECRETS = re.compile(r"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16}|sk-[A-Za-z0-9_-]{20,})")
PATHS = re.compile(r"(?:^|(?<=[\s\"'(=:,]))(?:~|[A-Za-z]:\\|/)[^\s\"',;:()]+")
"""What may be an absolute path; see `_is_path`."""


@dataclass(frozen=True)
class Bundle:
    """The files of a repository."""

    title: str
    files: Mapping[str, Path]
    """Name in the repository -> the file here, in the order in which they are listed."""
    notes: tuple[str, ...] = ()
    """What stays behind, a line each."""

    def sizes(self) -> dict[str, int]:
        """Name -> bytes."""
        return {name: path.stat().st_size for name, path in self.files.items()}


def bundle(path: Path, folder: Path) -> Bundle:
    """Return what goes up of a run's folder or a baseline file; what has to be written anew for that is put into
    `folder`, which is empty. Clips are taken from where they lie.

    Raises StgEvalError for what is no run and no baseline, and for one that names a path of this machine or holds what
    looks like a secret where it cannot be left out.
    """
    if path.is_dir():
        return _of_run(results.load(path), folder)
    found = snapshot.load(path)
    title = f"Baseline of {found.run.title}: {found.run.model_title or found.run.model}"
    how = f"Get it with `stg-eval hub pull REPO FOLDER`; then `stg-eval compare FOLDER/{BASELINE} RUN`."
    atomic.write(folder / "README.md", readme(title, f"A baseline of stg-eval. {how}"))
    for text in (found.run.to_json(), found.scores.to_csv()):
        _refuse(path, text)
    return Bundle(title, {"README.md": folder / "README.md", BASELINE: path})


def _of_run(run: Results, folder: Path) -> Bundle:
    own = {"run.json", "scores.csv", "table.json"}
    here = {path for path in run.path.iterdir() if not is_hidden(path.name)}
    stay = sorted(path.name for path in here - {run.store} if path.name not in {*own, "README.md"})
    notes = [f"stays here: {', '.join(stay)}"] if stay else []
    scores = run.scores
    if (apart := scores["key"].str.startswith("file/") & (scores["file"] != "")).any():
        notes.append(f"stay here: {apart.sum()} clips of a folder that was scored where it lies; their scores go up")
        scores = scores.assign(file=scores["file"].mask(apart, ""))
    kept = (run.store / "store.sqlite").is_file()
    record = _without_paths(run.run, run.store, kept)
    saved = results.save(replace(run, path=folder, run=record, scores=scores))
    files = {"README.md": folder / "README.md", **{name: folder / name for name in sorted(own)}}
    atomic.write(files["README.md"], run_readme(saved))
    if kept:
        clips = excerpt(run.store, folder / STORE, _keys(run))
        for text in requests_of(folder / STORE):
            _refuse(run.path, text)
        files[f"{STORE}/store.sqlite"] = folder / STORE / "store.sqlite"
        for name, digest in sorted(clips.items()):
            if problem := damage(run.store / name, digest):
                raise StgEvalError(f"{run.store / name}: {problem}; run the same `stg-eval run` again")
            files[f"{STORE}/{name}"] = run.store / name
    for name in ("README.md", *sorted(own)):
        _refuse(run.path, files[name].read_text(encoding="utf-8"))
    return Bundle(f"{run.run.title}: {run.run.model_title or run.run.model}", files, tuple(notes))


def _keys(run: Results) -> list[str]:
    """Under which the store knows something of the run: its clips, their pairs, the real clips."""
    keys = list(run.scores["key"])
    if run.run.baseline is not None:
        keys += [pair.name for pair in with_baseline(run.scores, run.run.baseline, run.store) if pair]
    for one in run.run.features.values():
        if one.reference:
            keys += [f"reference/{one.reference.digest}/{i}" for i in range(one.reference.count)]
    return keys


def _without_paths(record: RunRecord, store: Path, kept: bool) -> RunRecord:
    """Return run.json as it goes up: its store lies beside it; checkpoints and files are named without folders."""
    settings = {k: PurePath(v).name if isinstance(v, str) and _is_path(v) else v for k, v in record.settings.items()}
    if record.request and "weights" in settings:
        settings["weights"] = record.request.weights
    near = record.model_copy(update={"store": STORE if kept else None, "settings": settings, "files": {}})
    return RunRecord.model_validate_json(near.to_json().replace(f"{store}/", f"{STORE}/"))


def _is_path(text: str) -> bool:
    """Tell a path of this machine from a text with a slash: its first folder is here."""
    parts = PurePath(text).parts
    return (
        text.startswith("~/")
        or text[1:3] == ":\\"
        or (len(parts) > 2 and parts[0] == "/" and Path(*parts[:2]).exists())
    )


def _refuse(what: Path, text: str) -> None:
    """Raises StgEvalError for a text with a path of this machine, or with what looks like a secret."""
    if paths := [found for found in PATHS.findall(text) if _is_path(found)]:
        raise StgEvalError(f"{what} names {paths[0]}, a path of this machine; nothing goes up until that is gone")
    known = [v for n, v in os.environ.items() if re.search("TOKEN|SECRET|PASSWORD|API_KEY", n) and len(v) >= 8]
    if SECRETS.search(text) or any(secret in text for secret in known):
        raise StgEvalError(f"{what} holds what looks like a token or key; nothing goes up until that is gone")
