"""`weights ...` and `data ...`: what has to be here before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

weights_app = typer.Typer(help="Checkpoints of metrics and models: list, fetch, verify, where.", no_args_is_help=True)
data_app = typer.Typer(help="Data sets of the suites.", no_args_is_help=True)


@weights_app.command(name="list")
def weights_list() -> None:
    """List every checkpoint: size, licence, digest, what needs it, whether it is here."""
    from stg_eval.cli import listing

    listing.show("weights", "")


@weights_app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Names from `stg-eval weights list`.")],
    from_: Annotated[Path | None, typer.Option("--from", help="Copy from this folder instead of downloading.")] = None,
) -> None:
    """Download checkpoints; a cut download continues, and digests are checked."""
    from stg_eval import weights
    from stg_eval.pipeline import checkpoints
    from stg_eval.progress import progress

    for row in map(checkpoints.named, names):
        with progress(f"Fetching {row.name}", 100) as advance:
            shown = 0

            def report(done: int, total: int | None, size: int = max(row.size, 1)) -> None:
                nonlocal shown
                percent = min(100, 100 * done // (total or size))
                if percent > shown:
                    advance(percent - shown)
                    shown = percent

            checkpoint = weights.fetch(row, source=from_, progress=report)
        print(f"{row.name}: {checkpoint.path}")


@weights_app.command()
def verify(names: Annotated[list[str] | None, typer.Argument(help="Default: all that are here.")] = None) -> None:
    """Check the digests of checkpoints."""
    from stg_eval import weights
    from stg_eval.pipeline import checkpoints

    rows = map(checkpoints.named, names) if names else filter(weights.is_present, checkpoints.catalogue().values())
    for row in rows:
        checkpoint = weights.require(row)
        print(f"{row.name}: intact, SHA-256 {checkpoint.sha256}")


@weights_app.command()
def where(name: Annotated[str, typer.Argument(help="A name from `stg-eval weights list`.")]) -> None:
    """Print where a checkpoint lies."""
    from stg_eval import weights
    from stg_eval.pipeline import checkpoints

    print(weights.require(checkpoints.named(name)).path)


@data_app.command(name="fetch")
def fetch_data(name: Annotated[str, typer.Argument(help="evalcrafter, vbench-i2v or ucf101.")]) -> None:
    """Download what may be; say size, licence, and the steps that are left to do by hand."""
    from stg_eval.datasets import files

    print("\n".join(files.fetch(name)))
