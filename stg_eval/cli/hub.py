"""`stg-eval hub`: runs and baselines as data set repositories of the Hugging Face hub."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Runs and baselines on the Hugging Face hub: push, pull, model card.", no_args_is_help=True)


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="A folder that `stg-eval run` wrote, or a baseline file.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME; made, private, if it is not there.")],
    yes: Annotated[bool, typer.Option("--yes", help="Send it; without this, say only what would go up.")] = False,
) -> None:
    """List what of a run goes up, with sizes; with --yes send it to a data set repository."""
    from stg_eval import sharing

    with tempfile.TemporaryDirectory() as folder:
        bundle = sharing.bundle(run, Path(folder))
        sizes = bundle.sizes()
        for name, size in sizes.items():
            print(f"{size:>14,}  {name}")
        print(f"{sum(sizes.values()):>14,}  bytes in {len(sizes)} files, for the data set {repo}")
        for note in bundle.notes:
            print(f"note: {note}", file=sys.stderr)
        if yes:
            print(sharing.push(bundle, repo))
        else:
            print("nothing was sent; --yes does it", file=sys.stderr)


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME of a data set that `stg-eval hub push` made.")],
    folder: Annotated[Path, typer.Argument(help="Where it goes: a new folder.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, branch or tag.")] = None,
) -> None:
    """Bring a run or a baseline here, checked; print where it is."""
    from stg_eval import sharing

    print(sharing.pull(repo, folder, revision))


@app.command()
def card(
    run: Annotated[Path, typer.Argument(help="A folder that `stg-eval run` wrote.")],
    name: Annotated[str, typer.Option("--name", help="The model's name on its card. Default: the run's.")] = "",
) -> None:
    """Print a run's scores as `model-index`, the metadata at the head of a model card."""
    from stg_eval import sharing
    from stg_eval.storage import results

    print(sharing.model_index(results.load(run), name))
