"""What the command line's verbs do, for programs: strings and paths in, finished tables and pages out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stg_eval import generators, weights
from stg_eval.pipeline import checkpoints
from stg_eval.pipeline import export as exporting
from stg_eval.pipeline import reproduce as reproducing
from stg_eval.pipeline import run as running
from stg_eval.pipeline import sweep as sweeping
from stg_eval.pipeline.export import folder_name
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.pipeline.score_folder import score_folder
from stg_eval.pipeline.settings import read_settings
from stg_eval.reports import markdown
from stg_eval.reports.paper import paper_tables
from stg_eval.reports.report import write_report
from stg_eval.reports.writers.markdown import to_markdown
from stg_eval.storage import atomic, csv_text, results
from stg_eval.storage.results import Results
from stg_eval.storage.video import check_reader, write_video
from stg_eval.suites import Suite, open_dataset
from stg_eval.types import Guidance, StgEvalError


class Finished(NamedTuple):
    """What a verb leaves behind."""

    table: str
    """Markdown."""
    page: Path | None
    missing: list[str]
    """One line for each clip that could not be made, read or scored."""
    notes: Sequence[str] = ()
    """One line for each thing to know about what was scored: files left out, equal files."""


def plan(
    suite: Suite,
    model: str,
    *,
    guidance: Sequence[str] = (),
    metrics: str = "",
    limit: int | None = None,
    fraction: float | None = None,
    seeds: int | None = None,
    settings: Sequence[str] = (),
    dry: bool = False,
) -> Plan:
    """`make_plan` from the command line's strings: metrics "a,b", settings ["key=value", ...]."""
    return make_plan(
        suite,
        model,
        guidance=guidance,
        metric_names=_names(metrics),
        limit=limit,
        fraction=fraction,
        seeds=seeds,
        settings=_pairs(settings),
        dry=dry,
    )


def run(
    plan: Plan,
    store: Path,
    output: Path | None,
    executor: str,
    device: str,
    engine: str = "ours",
    reader: str = "pyav",
) -> Finished:
    """Make, score and report a plan."""
    output = output or Path("runs") / f"{plan.suite.name}-{plan.card.name}"
    final = running.run(
        plan,
        store_path=store,
        output=output,
        device=_device(device),
        executor=executor,
        engine=engine,
        reader=check_reader(reader),
    )
    page = write_report([final], store, output / "report")
    return Finished(markdown(final), page, _missing_lines(final))


def sweep_plan(
    suite: Suite,
    model: str,
    *,
    base: str,
    layers: str,
    scales: str,
    modes: str,
    metrics: str = "",
    limit: int | None = None,
    seeds: int | None = None,
    settings: Sequence[str] = (),
    dry: bool = False,
) -> Plan:
    """The plan of every combination of layers, scales and modes (comma-separated) around `base`."""
    card = generators.card(model)
    guidance = card.presets[base].guidance if base in card.presets else Guidance.parse(base)
    variants = sweeping.signatures(guidance, _names(layers), _names(scales), _names(modes))
    return plan(suite, model, guidance=variants, metrics=metrics, limit=limit, seeds=seeds, settings=settings, dry=dry)


def sweep(plan: Plan, store: Path, output: Path | None, executor: str, device: str) -> Finished:
    """Run a sweep's plan; sweep.csv holds the tidy table."""
    output = output or Path("runs") / f"sweep-{plan.suite.name}-{plan.card.name}"
    finished = run(plan, store, output, executor, device)
    tidy = output / "sweep.csv"
    atomic.write(tidy, csv_text.of_frame(sweeping.tidy(results.load(output))))
    return finished._replace(table=f"{finished.table}\nTidy table: {tidy}")


def views_plan(suite: Suite, model: str, *, guidance: Sequence[str], settings: Sequence[str]) -> Plan:
    """The plan of one clip under each guidance."""
    return make_plan(suite, model, guidance=guidance, limit=1, settings=_pairs(settings), allow_few=True)


def first_frames(suite: Suite, folder: Path, device: str, settings: Sequence[str] = ()) -> list[str]:
    """A first frame for each of the suite's prompts; returns a line for each: file, prompt. settings: ["key=value"] of
    `flux.SETTINGS`."""
    from stg_eval.generators import flux

    chosen = read_settings("FLUX.1", flux.SETTINGS, _pairs(settings))
    drawn = flux.first_frames(list(open_dataset(suite).cases()), folder, device=_device(device), **chosen)
    return [f"{case.image}\t{case.prompt}" for case in drawn]


def views(plan: Plan, step: int, output: Path, device: str) -> list[Path]:
    """One-step predictions of the plan's first clip under each guidance (Fig. 18 and 19): a clip for each prediction,
    OUTPUT/<guidance>/<prediction>.mp4, and a strip of their frames as PDF, PNG and SVG. Returns what was written."""
    from stg_eval.reports import figures

    written = []
    generator: Any = None
    for variant in plan.variants:
        request = plan.requests[variant.name][0]
        if generator is None:
            generator = generators.get(plan.card.name).load(
                device=_device(device),
                dtype=plan.card.dtype,
                weights=plan.card.weights,
                settings=dict(request.settings),
            )
        folder = output / folder_name(variant.name)
        folder.mkdir(parents=True, exist_ok=True)
        found = generator.one_step_views(request, step)
        for name, frames in found.items():
            if isinstance(frames, StgEvalError):
                raise frames
            written.append(folder / f"{name}.mp4")
            write_video(written[-1], frames, request.fps, request.encoding)
        written += figures.save(figures.strip(found), folder / "strip")
    return written


def dry_run(plan: Plan, store: Path) -> str:
    """What a run would make, reuse and score, as Markdown. Writes nothing, loads nothing."""
    from stg_eval.pipeline.dry_run import forecast

    return forecast(plan, store)


def score(
    folder: Path,
    reference: Path | None,
    metrics: str,
    output: Path | None,
    store_path: Path,
    device: str,
    engine: str = "ours",
    reader: str = "pyav",
) -> Finished:
    """Score a folder of videos, or one video; set metrics that need real clips join in when `reference` is given."""
    device, read_by = _device(device), check_reader(reader)
    if output:
        results.check_writable(output)
    final = score_folder(folder, reference, _names(metrics), output or folder, store_path, device, engine, read_by)
    page = None
    if output:
        results.save(final)
        page = write_report([final], store_path, output / "report")
    return Finished(markdown(final), page, _missing_lines(final), final.run.notes)


def report(runs: Sequence[Path], output: Path | None) -> Path:
    """Write the report of finished runs; returns the page."""
    found = [results.load(path) for path in runs]
    return write_report(found, found[0].store, output or runs[0] / "report")


def recipe_plans(
    name: str,
    overrides: Sequence[str],
    *,
    fraction: float | None = None,
    limit: int | None = None,
    settings: Sequence[str] = (),
    dry: bool = False,
) -> list[Plan]:
    """The plans of a table or figure of the paper. `overrides` such as "tiny-svd" put small random weights in the place
    of a model's own. A smoke run may have fewer clips than a set metric needs: that cell then says so."""
    smoke = {f"tiny-{model}": model for model in generators.MODELS if generators.get(model).smoke}
    for override in overrides:
        if override not in smoke:
            raise StgEvalError(f"unknown --model-override {override!r} (known: {', '.join(smoke)})")
    replaced = {smoke[override] for override in overrides}
    small = fraction is not None or limit is not None
    return [
        make_plan(
            run.suite,
            run.model,
            guidance=run.guidance,
            limit=limit,
            fraction=fraction,
            settings=(dict(generators.get(run.model).smoke) if run.model in replaced else {}) | _pairs(settings),
            allow_few=small,
            dry=dry,
        )
        for run in reproducing.recipe(name, fraction=fraction, limit=limit).runs
    ]


def recipe_dry_run(name: str, plans: Sequence[Plan], store: Path) -> str:
    """The recipe's settings, stated and chosen, and the forecast of each of its runs."""
    recipe = reproducing.recipe(name)
    lines = [f"# {recipe.title}", ""]
    lines += [f"- {s.model}: {s.name}: {s.value}" + ("" if s.stated else " (our choice)") for s in recipe.settings]
    return "\n\n".join(["\n".join(lines), *(dry_run(plan, store) for plan in plans)])


def reproduce(name: str, plans: Sequence[Plan], store: Path, output: Path, executor: str, device: str) -> Finished:
    """Run a recipe's plans and print the paper's table beside ours."""
    recipe = reproducing.recipe(name)
    done = []
    for plan in plans:
        folder = output / f"{plan.suite.name}-{plan.card.name}"
        done.append(running.run(plan, store_path=store, output=folder, device=_device(device), executor=executor))
    page = write_report(done, store, output / "report")
    if recipe.table is None:
        text = "\n\n".join(markdown(one) for one in done)
    else:
        text = "\n\n".join(to_markdown(table) for table in paper_tables(done, numbers=[recipe.table]))
    return Finished(text, page, [line for one in done for line in _missing_lines(one)])


def export(convention: str, path: Path, directory: Path) -> tuple[list[str], list[str]]:
    """Copy a run's videos under a benchmark's names; a line for each variant, and for what departs from the letter."""
    writers = {"vbench": exporting.export_vbench, "evalcrafter": exporting.export_evalcrafter}
    if convention not in writers:
        raise StgEvalError(f"cannot export for {convention!r} (known: {', '.join(writers)})")
    exported = writers[convention](results.load(path), directory)
    return [f"{e.folder}: {e.videos} videos" for e in exported], [p for e in exported for p in e.problems]


def fetch_weights(name: str, source: Path | None) -> str:
    """Bring a checkpoint here, with a progress bar; returns a line for people."""
    from stg_eval.progress import progress

    row = checkpoints.named(name)
    size = max(row.size, 1)
    with progress(f"Fetching {name}", 100) as advance:
        shown = 0

        def report(done: int, total: int | None) -> None:
            nonlocal shown
            percent = min(100, 100 * done // (total or size))
            if percent > shown:
                advance(percent - shown)
                shown = percent

        checkpoint = weights.fetch(row, source=source, progress=report)
    return f"{name}: {checkpoint.path}"


def show(path: Path) -> str:
    """A run's table, settings and provenance, as text."""
    found = results.load(path)
    record = found.run.model_copy(update={"missing": (), "problems": ()})
    return f"{markdown(found)}\n{record.to_json()}".rstrip()


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise StgEvalError(f"--set {text} has no value; write --set {text}=VALUE")
        pairs[key.strip()] = value.strip()
    return pairs


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _device(name: str) -> str:
    """`auto` resolved, and any other name tried out. Raises StgEvalError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise StgEvalError(f"--device {name}: torch sees no GPU here; use --device cpu, or see `stg-eval doctor`")
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without this kind of device
        reason = str(error).splitlines()[0]
        raise StgEvalError(f"--device {name} cannot be used ({reason}); see `stg-eval doctor`") from error
    return name


def _missing_lines(final: Results) -> list[str]:
    lines = [f"{m.variant}, {m.case}, seed {m.seed}: {m.problem}" for m in final.run.missing]
    lines += [f"{p.variant}, {p.case}, seed {p.seed}, {p.metric}: {p.problem}" for p in final.run.problems]
    return lines + [f"{e.variant}, {e.metric}: {e.problem}" for e in final.estimates if e.problem]
