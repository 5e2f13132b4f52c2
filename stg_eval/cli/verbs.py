"""The verbs. Each imports what it needs when it runs, so `--help` answers at once."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stg_eval import options
from stg_eval.cli import rate
from stg_eval.cli.hub import app as hub_app
from stg_eval.cli.parameters import takes
from stg_eval.cli.store import app as store_app
from stg_eval.cli.things import data_app, weights_app

if TYPE_CHECKING:
    from stg_eval.api import Finished

app = typer.Typer(
    help="Paired, honest, fast evaluation of guidance in video diffusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
app.add_typer(weights_app, name="weights")
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
app.add_typer(rate.app, name="rate")
app.add_typer(hub_app, name="hub")

Wide = Annotated[bool, typer.Option("--wide", help="Print all columns and notes, however narrow the terminal is.")]
Open = Annotated[bool, typer.Option("--open", help="Show the page in a browser.")]


@app.command()
@takes(options.Run)
def run(wide: Wide = False, open_: Open = False, **given: Any) -> None:
    """Generate and score a suite under several guidances; print the table. The same command again resumes."""
    from stg_eval import api

    started = time.perf_counter()
    finished = api.run(**given)
    if finished.results:
        print(f"Time: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    _finish(finished, wide=wide, open_=open_)


@app.command()
@takes(options.Sweep)
def sweep(**given: Any) -> None:
    """Which layer, scale and mode? Run every combination, resumably; write one tidy sweep.csv."""
    from stg_eval import api

    _finish(api.sweep(**given))


@app.command()
@takes(options.Views)
def views(**given: Any) -> None:
    """What c, u, the weak model, CFG and STG each predict at one step, for the suite's first case (Fig. 18)."""
    from stg_eval import api

    for path in api.views(**given):
        print(path)


@app.command(name="first-frames")
@takes(options.FirstFrames)
def first_frames(**given: Any) -> None:
    """Draw a first frame for every prompt with FLUX.1 \\[dev], for image-to-video models."""
    from stg_eval import api

    for case in api.first_frames(**given):
        print(f"{case.image}\t{case.prompt}")


@app.command()
@takes(options.Score)
def score(**given: Any) -> None:
    """Score any folder of videos, or one video."""
    from stg_eval import api

    _finish(api.score(**given))


@app.command()
@takes(options.Report)
def report(open_: Open = False, **given: Any) -> None:
    """Write tables, figures and the page of a run; of many runs one page over all of them."""
    from stg_eval import api

    page = api.report(**given)
    print(page)
    if open_:
        typer.launch(str(page))


@app.command()
@takes(options.Compare)
def compare(**given: Any) -> None:
    """Did videos get worse? Exit code 0 pass, 1 regression, 2 invalid, 3 not comparable."""
    from stg_eval import api

    outcome = api.compare(**given)
    print(outcome.text(), end="", file=sys.stderr if outcome.exit_code > 1 else sys.stdout)
    raise typer.Exit(outcome.exit_code)


@app.command()
@takes(options.Export)
def export(**given: Any) -> None:
    """Copy a run's videos under the names that VBench or EvalCrafter expect."""
    from stg_eval import api

    exported = api.export(**given)
    for one in exported:
        print(f"{one.folder}: {one.videos} videos")
    for problem in (problem for one in exported for problem in one.problems):
        print(f"note: {problem}", file=sys.stderr)


@app.command()
@takes(options.Track)
def track(**given: Any) -> None:
    """Write a run's scores, tables and first pairs to TensorBoard, MLflow, W&B or trackio."""
    from stg_eval import api

    print(api.track(**given))


@app.command(name="import")
@takes(options.Import)
def import_(**given: Any) -> None:
    """Make a run of someone's VBench results (eval_results.json), to compare with."""
    from stg_eval import api
    from stg_eval.reports import markdown

    found = api.import_results(**given)
    print(markdown(found))
    for note in found.run.notes:
        print(f"note: {note}", file=sys.stderr)


@app.command()
@takes(options.Reproduce)
def reproduce(**given: Any) -> None:
    """Make a table or figure of the paper: its protocol, its published values beside ours."""
    from stg_eval import api

    _finish(api.reproduce(**given))


@app.command()
def show(run: Annotated[Path, typer.Argument(help="A folder that `stg-eval run` wrote.")], wide: Wide = False) -> None:
    """Print a run's table, settings and provenance; of a run under way how far it is, how fast, and until when."""
    from stg_eval import api
    from stg_eval.pipeline import status
    from stg_eval.reports import markdown

    if under_way := status.describe(run):
        print(under_way)
        if not (run / "table.json").is_file():
            return
    found = api.load(run)
    record = found.run.model_copy(update={"missing": (), "problems": ()})
    print(f"{markdown(found, wide=wide)}\n{record.to_json()}".rstrip())


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(help="models, suites, metrics or guidance.")] = "models",
    model: Annotated[str, typer.Option("--model", help="Whose guidance presets.")] = "tiny",
) -> None:
    """List models, suites, metrics, or a model's guidance presets."""
    from stg_eval.cli import listing

    listing.show(what, model)


@app.command()
def doctor(
    store: Annotated[
        Path, typer.Option("--store", envvar="STG_EVAL_STORE", help="Folder whose disk is looked at.")
    ] = Path("runs/store"),
) -> None:
    """Check Python, torch, GPU, codecs, weights and disk; name the command that mends what is missing."""
    from stg_eval.cli.doctor import report

    raise typer.Exit(report(store))


def _finish(finished: Finished, *, wide: bool = False, open_: bool = False) -> None:
    """Print a verb's table and page; exit with 1 if something is missing."""
    from stg_eval.reports import markdown

    whole = "\n\n".join(markdown(one, wide=True) for one in finished.results) if wide else ""
    print(whole or finished.table)
    if finished.page:
        print(f"Page: {finished.page}")
        if open_:
            typer.launch(str(finished.page))
    for kind, lines in ("note", finished.notes), ("missing", finished.missing):
        for line in lines[:10]:
            print(f"{kind}: {line}", file=sys.stderr)
        if len(lines) > 10:
            print(f"{kind}: and {len(lines) - 10} more, see run.json and table.json", file=sys.stderr)
    raise typer.Exit(1 if finished.missing else 0)
