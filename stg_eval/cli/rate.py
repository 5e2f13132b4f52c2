"""`stg-eval rate`: the human study of a run, its results, and the plan before it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stg_eval.types import StgEvalError


class _ServeByDefault(TyperGroup):
    """`rate RUN` means `rate serve RUN`, and so does `rate --plan`."""

    default = "serve"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ServeByDefault,
    no_args_is_help=True,
    help="The human study: people rate a finished run's clips, blind. `stg-eval rate RUN` serves the page.",
)


@app.command()
def serve(
    run: Annotated[Path | None, typer.Argument(help="A folder that `stg-eval run` wrote.")] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Two clips in step: left, equal or right.")] = False,
    raters: Annotated[int, typer.Option("--raters", min=1, max=1000, help="How many people are invited.")] = 7,
    cases: Annotated[int | None, typer.Option("--cases", min=1, help="Cases each rater sees. Default: all.")] = None,
    anchors: Annotated[bool, typer.Option("--anchors", help="Hide a frozen and a blurred clip among them.")] = False,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0: reachable in your network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8765,
    plan: Annotated[bool, typer.Option("--plan", help="Say how many raters and clips a difference needs.")] = False,
    difference: Annotated[float, typer.Option("--difference", help="With --plan: of mean ratings, on 1-5.")] = 0.3,
) -> None:
    """Serve the rating page of a run; a study that was begun goes on."""
    if plan:
        _plan(run, difference, raters, cases)
        return
    if run is None:
        raise StgEvalError("which run? Write stg-eval rate RUN, or stg-eval rate --plan")
    need_extra()
    from stg_eval.rating.begin import begin, study_file
    from stg_eval.rating.serve import free_port, invitations
    from stg_eval.rating.serve import serve as serve_study
    from stg_eval.rating.study import Study
    from stg_eval.storage import results

    found = results.load(run)
    store = found.store
    if study_file(run).is_file():
        study = Study(study_file(run))
        print(f"The study of {run} goes on; its own settings hold: {study.settings}", file=sys.stderr)
    else:
        study = begin(
            found, store, mode="pair" if pairs else "single", raters=raters, cases_each=cases, anchors=anchors
        )
    bound = free_port(host, port)
    for line in invitations(study, host, bound.getsockname()[1]):
        print(line, flush=True)
    print("Send each link to one person. Ctrl-C stops; the same command goes on.", file=sys.stderr)
    serve_study(study, store, bound)


@app.command()
def export(run: Annotated[Path, typer.Argument(help="A folder whose study has answers.")]) -> None:
    """Write ratings.csv, parquet and rating.json beside the run's table; print the figures."""
    need_extra()
    from stg_eval.cli.rate_tables import print_summary
    from stg_eval.rating import export as exporting
    from stg_eval.rating.begin import study_file
    from stg_eval.rating.study import Study
    from stg_eval.storage import results

    found, study = results.load(run), Study(study_file(run))
    print_summary(exporting.summarise(study, found))
    for path in exporting.export(study, found):
        print(path)


def need_extra() -> None:
    """Raises StgEvalError where the extra `rate` is not installed."""
    from importlib.util import find_spec

    lacking = [name for name in ("fastapi", "uvicorn", "krippendorff", "pyarrow") if find_spec(name) is None]
    if lacking:
        raise StgEvalError(f"rating needs {', '.join(lacking)}: pip install 'stg-eval[rate]'")


def _plan(run: Path | None, difference: float, raters: int, cases: int | None) -> None:
    from stg_eval.cli.listing import print_table
    from stg_eval.rating import power

    if not 0 < difference < 4:
        raise StgEvalError(f"--difference lies between 0 and 4 on a scale from 1 to 5, not {difference:g}")
    spreads = ", ".join(f"{name} {value:g}" for name, value in power.SPREADS.items())
    print(f"Difference of mean ratings {difference:g}, two variants, two-sided 5 %; assumed spreads (SD): {spreads}.")
    head = ["raters", "cases each", "cases in all", "ratings", "power"]
    if run is not None:
        from stg_eval.rating.begin import whole_cases
        from stg_eval.storage import results

        n = len(whole_cases(results.load(run)))
        found = [power.power(n, raters, cases or n, difference)]
    else:
        found = power.plan(difference)
    print_table(
        head,
        [
            [
                str(p.num_raters),
                str(p.cases_each),
                str(p.num_cases),
                str(2 * p.num_raters * p.cases_each),
                f"{p.power:.0%}",
            ]
            for p in found
        ],
    )
