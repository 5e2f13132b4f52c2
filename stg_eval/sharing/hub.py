"""Push and pull through huggingface_hub; whatever the hub answers becomes one line that says what to do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stg_eval.gate import snapshot
from stg_eval.sharing.bundle import BASELINE, STORE, Bundle
from stg_eval.storage import results
from stg_eval.storage.store import Store
from stg_eval.storage.verify import verify
from stg_eval.types import StgEvalError

MARKS = ("run.json", BASELINE)
"""A repository holds one of these, and is a run or a baseline by it."""
TAKEN = (
    "README.md", "run.json", "scores.csv", "table.json", BASELINE,
    f"{STORE}/store.sqlite", f"{STORE}/clips/*/*.mp4",
)  # fmt: skip
"""What is taken of a repository: nothing else of it is even fetched."""


def push(bundle: Bundle, repo: str) -> str:
    """Make a private data set repository of a bundle; returns its address. The same call completes what was cut off,
    and changes nothing where all is there.

    Raises StgEvalError, in one line: no token or one that may not write, no connection, a repository that holds another
    run.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    with _explained(repo):
        url = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        repo = url.repo_id
        there = set(api.list_repo_files(repo, repo_type="dataset"))
        for name in MARKS:
            if name in there and not _same(repo, name, bundle):
                raise StgEvalError(f"{url} holds another run or baseline; give the repository another name")
        operations = [CommitOperationAdd(name, path) for name, path in bundle.files.items()]
        api.create_commit(repo, operations, commit_message=bundle.title[:200], repo_type="dataset")
    return str(url)


def pull(repo: str, folder: Path, revision: str | None = None) -> Path:
    """Bring a run or a baseline into a new folder, all of it or nothing, and check it; returns the run's folder or the
    baseline's file. What has arrived when a connection is cut is kept in the hub's cache.

    Raises StgEvalError, in one line: no such repository or revision, none that may be read, no connection, no run or
    baseline in it, one that is damaged, a folder that is not empty.
    """
    from huggingface_hub import HfApi, snapshot_download

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StgEvalError(f"{folder} is there already and not empty; give a new folder")
    with _explained(repo):
        # asked for by its commit: without a connection the client would be content with an old one that it has kept
        commit = HfApi().dataset_info(repo, revision=revision).sha
        cached = Path(snapshot_download(repo, repo_type="dataset", revision=commit, allow_patterns=list(TAKEN)))
    names = sorted(path.relative_to(cached) for path in cached.rglob("*") if path.is_file())
    if not any((cached / mark).is_file() for mark in MARKS):
        raise StgEvalError(f"{repo} holds no run and no baseline of stg-eval (neither {' nor '.join(MARKS)})")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder.parent) as partial:
            place = Path(partial) / "pulled"
            for name in names:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(cached / name, place / name)
            _check(place, repo)
            if folder.is_dir():
                folder.rmdir()
            place.rename(folder)
    except OSError as error:
        raise StgEvalError(f"cannot write {folder} ({error.strerror}); give another folder") from error
    return folder if (folder / "run.json").is_file() else folder / BASELINE


def _check(place: Path, repo: str) -> None:
    """Raises StgEvalError for what is damaged, in its words but with the repository's name."""
    try:
        if (place / BASELINE).is_file():
            snapshot.load(place / BASELINE)
            return
        run = results.load(place)
        if run.run.store not in (None, STORE):
            raise StgEvalError(f"its clips are said to lie in {run.run.store}, outside of it")
        if run.run.store:
            with Store(place / STORE, write=False) as store:
                _, problems = verify(store)
            if problems:
                raise StgEvalError(problems[0])
    except StgEvalError as error:
        raise StgEvalError(f"{repo} is damaged: {str(error).replace(f'{place}/', '')}") from error


def _same(repo: str, name: str, bundle: Bundle) -> bool:
    from huggingface_hub import hf_hub_download

    found = Path(hf_hub_download(repo, name, repo_type="dataset"))
    return name in bundle.files and found.read_bytes() == bundle.files[name].read_bytes()


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    from huggingface_hub import errors

    unreached: Any = errors.HfHubHTTPError.__bases__  # OSError, and what its HTTP library raises, whichever that is

    again = "the same command goes on from there"
    try:
        yield
    except errors.HFValidationError as error:
        raise StgEvalError(f"{repo!r} is no name of a repository; write OWNER/NAME") from error
    except errors.GatedRepoError as error:
        raise StgEvalError(f"{repo} is gated: ask for access on its page, then run: hf auth login") from error
    except errors.RevisionNotFoundError as error:
        raise StgEvalError(f"{repo} has no such revision; see the commits on its page") from error
    except errors.LocalTokenNotFoundError as error:
        raise StgEvalError("the hub needs a token: run hf auth login, or set HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        told = " ".join((error.server_message or str(error)).split())[:200]
        if status == 401:
            raise StgEvalError(
                f"the hub does not let you: no data set {repo}, or no valid token; run: hf auth login"
            ) from error
        if status == 403:
            raise StgEvalError(
                f"your token may not do that with {repo} ({told}); take one with write access"
            ) from error
        if status == 404:
            raise StgEvalError(f"there is no data set {repo} on the hub, or your token may not see it") from error
        raise StgEvalError(f"the hub refused {repo} (HTTP {status}: {told}); {again}") from error
    except (errors.LocalEntryNotFoundError, *unreached) as error:
        told = " ".join(str(error).split())[:200]
        raise StgEvalError(f"the hub could not be reached ({told}); {again}") from error
