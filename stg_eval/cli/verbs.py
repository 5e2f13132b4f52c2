"""The verbs. Each imports what it needs when it runs, so `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stg_eval.api import Finished

app = typer.Typer(
    help="Paired, honest, fast evaluation of guidance in video diffusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)

SuiteOption = Annotated[
    str, typer.Option("--suite", help="Built-in suite, a YAML file, a prompt file or image folder.")
]
ModelOption = Annotated[str, typer.Option("--model", help="Model to run: see `stg-eval list models`.")]
GuidanceOption = Annotated[
    list[str] | None,
    typer.Option("--guidance", help="Preset or signature such as cfg7+stg-a[11]s2t2; repeat. Default: the suite's."),
]
MetricsOption = Annotated[str, typer.Option("--metrics", help="Comma-separated metrics instead of the suite's.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Make only N clips a variant, stratified.")]
FractionOption = Annotated[float | None, typer.Option("--fraction", help="Make only this share of the clips.")]
SeedsOption = Annotated[int | None, typer.Option("--seeds", min=1, help="Seeds a case instead of the suite's.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: num_frames=51, weights=FOLDER, ...; repeat.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="Folder of the results. Default: runs/SUITE-MODEL.")
]
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="STG_EVAL_STORE", help="Folder of clips and scores, shared between runs.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="cuda, cuda:1, cpu; auto takes a GPU if there is one.")]
ExecutorOption = Annotated[str, typer.Option("--executor", help="Where clips are made: local.")]
EngineOption = Annotated[str, typer.Option("--engine", help="Who computes VBench's dimensions: ours, or official.")]
ReaderOption = Annotated[
    str, typer.Option("--reader", help="Who decodes the clips that are not scored yet: pyav, or decord.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be made and scored, and stop.")]
DEFAULT_STORE = Path("runs/store")


@app.command()
def run(
    suite: SuiteOption,
    model: ModelOption,
    guidance: GuidanceOption = None,
    metrics: MetricsOption = "",
    limit: LimitOption = None,
    fraction: FractionOption = None,
    seeds: SeedsOption = None,
    set_: SetOption = None,
    output: OutputOption = None,
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    executor: ExecutorOption = "local",
    engine: EngineOption = "ours",
    reader: ReaderOption = "pyav",
    device: DeviceOption = "auto",
) -> None:
    """Generate and score a suite under several guidances; print the table. The same command again resumes."""
    from stg_eval import api, suites

    plan = api.plan(
        suites.load(suite),
        model,
        guidance=guidance or (),
        metrics=metrics,
        limit=limit,
        fraction=fraction,
        seeds=seeds,
        settings=set_ or (),
        dry=dry_run,
    )
    if dry_run:
        print(api.dry_run(plan, store))
        return
    _finish(api.run(plan, store, output, executor, device, engine, reader))


@app.command()
def sweep(
    suite: SuiteOption,
    model: ModelOption,
    layers: Annotated[str, typer.Option("--layers", help="Comma-separated layers in the model's numbering.")],
    scales: Annotated[str, typer.Option("--scales", help="Comma-separated scales of the weak passes.")] = "0.5,1,2",
    modes: Annotated[str, typer.Option("--modes", help="Comma-separated, like stg-a:both,stg-r:joint.")] = "stg-a:both",
    base: Annotated[str, typer.Option("--base", help="Preset or signature that all variants share.")] = "cfg",
    metrics: MetricsOption = "",
    limit: LimitOption = None,
    seeds: SeedsOption = None,
    set_: SetOption = None,
    output: OutputOption = None,
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    executor: ExecutorOption = "local",
    device: DeviceOption = "auto",
) -> None:
    """Which layer, scale and mode? Run every combination, resumably; write one tidy sweep.csv."""
    from stg_eval import api, suites

    plan = api.sweep_plan(
        suites.load(suite),
        model,
        base=base,
        layers=layers,
        scales=scales,
        modes=modes,
        metrics=metrics,
        limit=limit,
        seeds=seeds,
        settings=set_ or (),
        dry=dry_run,
    )
    if dry_run:
        print(api.dry_run(plan, store))
        return
    _finish(api.sweep(plan, store, output, executor, device))


@app.command()
def views(
    suite: SuiteOption,
    model: ModelOption,
    step: Annotated[int, typer.Option("--step", min=0, help="Sampling step, 0 is the first.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the clips and strips.")],
    guidance: GuidanceOption = None,
    set_: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """What c, u, the weak model, CFG and STG each predict at one step, for the suite's first case (Fig. 18)."""
    from stg_eval import api, suites

    plan = api.views_plan(suites.load(suite), model, guidance=guidance or (), settings=set_ or ())
    for path in api.views(plan, step, output, device):
        print(path)


@app.command(name="first-frames")
def first_frames(
    prompts: Annotated[Path, typer.Argument(help="A prompt file: txt, csv or jsonl.")],
    folder: Annotated[Path, typer.Argument(help="Where the PNG files go; then give it as --suite.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: weights=FOLDER, height=480, seed=1, ...; repeat.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw a first frame for every prompt with FLUX.1 \\[dev], for image-to-video models."""
    from stg_eval import api, suites

    for line in api.first_frames(suites.load(prompts), folder, device, set_ or ()):
        print(line)


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="Folder of videos, or one video.")],
    reference: Annotated[Path | None, typer.Option("--reference", help="Folder of real videos, for FVD.")] = None,
    metrics: Annotated[
        str, typer.Option("--metrics", help="Comma-separated; default: all that need no reference and have weights.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", help="Write scores.csv, table.json and the page here.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    engine: EngineOption = "ours",
    reader: ReaderOption = "pyav",
    device: DeviceOption = "auto",
) -> None:
    """Score any folder of videos, or one video."""
    from stg_eval import api

    _finish(api.score(folder, reference, metrics, output, store, device, engine, reader))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `stg-eval run` wrote.")],
    output: Annotated[Path | None, typer.Option("--output", help="Folder of the report. Default: RUN/report.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
) -> None:
    """Write tables, figures and the page of one run or several."""
    from stg_eval import api

    page = api.report(runs, output)
    print(page)
    if open_:
        typer.launch(str(page))


@app.command()
def compare(
    baseline: Annotated[Path, typer.Argument(help="Baseline file, run folder, or folder of golden frames.")],
    run: Annotated[Path, typer.Argument(help="The run under test, made with another --store.")],
    allow: Annotated[list[str] | None, typer.Option("--allow", help="A field that may differ; repeat.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML: margins, level, gate, golden.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Make BASELINE what RUN is.")] = False,
    golden: Annotated[
        int | None,
        typer.Option("--golden", min=1, help="With --update-baseline: keep N clips a variant, for exactness."),
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write everything as JSON.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML.")] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", envvar="GITHUB_STEP_SUMMARY", help="Append Markdown to this file.")
    ] = None,
) -> None:
    """Did videos get worse? Exit code 0 pass, 1 regression, 2 invalid, 3 not comparable."""
    from stg_eval.gate import gate

    outcome = gate(
        baseline,
        run,
        allow=allow or (),
        config=config,
        update_baseline=update_baseline,
        golden=golden,
        json_file=json_,
        junit_file=junit,
        summary_file=summary,
    )
    print(outcome.text(), end="", file=sys.stderr if outcome.exit_code > 1 else sys.stdout)
    raise typer.Exit(outcome.exit_code)


@app.command()
def export(
    convention: Annotated[str, typer.Argument(help="vbench or evalcrafter.")],
    run: Annotated[Path, typer.Argument(help="A folder that `stg-eval run` wrote.")],
    directory: Annotated[Path, typer.Argument(help="Where the videos go.")],
) -> None:
    """Copy a run's videos under the names that VBench or EvalCrafter expect."""
    from stg_eval import api

    lines, problems = api.export(convention, run, directory)
    print("\n".join(lines))
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)


@app.command()
def reproduce(
    recipe: Annotated[str, typer.Argument(help="table1 ... table5, fig4.")],
    model_override: Annotated[
        list[str] | None,
        typer.Option("--model-override", help="tiny-svd, tiny-mochi, tiny-opensora: small random weights; repeat."),
    ] = None,
    fraction: FractionOption = None,
    limit: LimitOption = None,
    set_: SetOption = None,
    output: OutputOption = None,
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    executor: ExecutorOption = "local",
    device: DeviceOption = "auto",
) -> None:
    """Make a table or figure of the paper: its protocol, its published values beside ours."""
    from stg_eval import api

    plans = api.recipe_plans(
        recipe, model_override or (), fraction=fraction, limit=limit, settings=set_ or (), dry=dry_run
    )
    if dry_run:
        print(api.recipe_dry_run(recipe, plans, store))
        return
    _finish(api.reproduce(recipe, plans, store, output or Path("runs") / recipe, executor, device))


@app.command()
def show(run: Annotated[Path, typer.Argument(help="A folder that `stg-eval run` wrote.")]) -> None:
    """Print a run's table, settings and provenance."""
    from stg_eval import api

    print(api.show(run))


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(help="models, suites, metrics or guidance.")] = "models",
    model: Annotated[str, typer.Option("--model", help="Whose guidance presets.")] = "tiny",
) -> None:
    """List models, suites, metrics, or a model's guidance presets."""
    from stg_eval.cli import listing

    listing.show(what, model)


@app.command()
def doctor(store: StoreOption = DEFAULT_STORE) -> None:
    """Check Python, torch, GPU, codecs, weights and disk; name the command that mends what is missing."""
    from stg_eval.cli.doctor import report

    raise typer.Exit(report(store))


weights_app = typer.Typer(help="Checkpoints of metrics and models: list, fetch, verify, where.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command(name="list")
def weights_list() -> None:
    """List every checkpoint: size, licence, what needs it, whether it is here."""
    from stg_eval.cli import listing

    listing.show("weights", "")


@weights_app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Names from `stg-eval weights list`.")],
    from_: Annotated[Path | None, typer.Option("--from", help="Copy from this folder instead of downloading.")] = None,
) -> None:
    """Download checkpoints; a cut download continues, and digests are checked."""
    from stg_eval import api

    for name in names:
        print(api.fetch_weights(name, from_))


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


data_app = typer.Typer(help="Data sets of the suites.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command(name="fetch")
def fetch_data(name: Annotated[str, typer.Argument(help="evalcrafter, vbench-i2v or ucf101.")]) -> None:
    """Download what may be; say size, licence, and the steps that are left to do by hand."""
    from stg_eval.datasets import files

    print("\n".join(files.fetch(name)))


def _finish(finished: Finished) -> None:
    """Print a verb's table and page; exit with 1 if something is missing."""
    print(finished.table)
    if finished.page:
        print(f"Page: {finished.page}")
    for kind, lines in ("note", finished.notes), ("missing", finished.missing):
        for line in lines[:10]:
            print(f"{kind}: {line}", file=sys.stderr)
        if len(lines) > 10:
            print(f"{kind}: and {len(lines) - 10} more, see run.json and table.json", file=sys.stderr)
    raise typer.Exit(1 if finished.missing else 0)
