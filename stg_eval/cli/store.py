"""The verbs about stores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Stores of clips and scores: verify, merge.", no_args_is_help=True)


@app.command()
def verify(store: Annotated[Path, typer.Argument(help="The folder of the store.")]) -> None:
    """Check the bytes of every clip; set those aside that changed, for the same `stg-eval run` to make again."""
    from stg_eval.storage.store import Store
    from stg_eval.storage.verify import verify as check

    if not (store / "store.sqlite").is_file():
        Store(store, write=False)
    with Store(store) as opened:
        count, problems = check(opened)
    print(f"{store}: {count} clips, {len(problems)} damaged or gone")
    for line in problems:
        print(f"damaged: {line}", file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


@app.command()
def merge(
    target: Annotated[Path, typer.Argument(help="The store that takes all in; made if it is not there.")],
    sources: Annotated[list[Path], typer.Argument(help="Stores to take over; they are only read.")],
) -> None:
    """Join stores, such as the shares of `stg-eval run --shard`; refuse those that differ under one key."""
    from stg_eval.storage.merge import merge as take
    from stg_eval.storage.store import Store

    damaged = []
    with Store(target) as opened:
        for source in sources:
            done = take(opened, source)
            print(f"{source}: {done.clips} clips taken over, {done.there} were there")
            damaged += done.damaged
    for line in damaged:
        print(f"damaged: {line}; the same `stg-eval run` makes it again", file=sys.stderr)
    raise typer.Exit(1 if damaged else 0)
