"""The verbs for programs: the same options as on the command line, as keywords; finished tables and pages come back.

Every function takes keywords only; `stg_eval.options` says them, with their defaults. All raise StgEvalError, in one
line that says what to do, for what cannot be done as asked; what is finished is kept, and the same call resumes.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from stg_eval import gate, generators, options, suites
from stg_eval import trackers as tracking
from stg_eval.options import keywords
from stg_eval.pipeline import export as exporting
from stg_eval.pipeline import imported as importing
from stg_eval.pipeline import memory
from stg_eval.pipeline import reproduce as reproducing
from stg_eval.pipeline import run as running
from stg_eval.pipeline import sweep as sweeping
from stg_eval.pipeline.citations import cited
from stg_eval.pipeline.dry_run import forecast
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.pipeline.score_folder import score_folder
from stg_eval.pipeline.settings import read_settings
from stg_eval.reports import markdown
from stg_eval.reports.paper import paper_tables
from stg_eval.reports.report import write_overview_report, write_report
from stg_eval.reports.writers.markdown import to_markdown
from stg_eval.storage import atomic, csv_text, results
from stg_eval.storage.results import Results, run_folders
from stg_eval.storage.video import check_reader, write_video
from stg_eval.suites import Suite, open_dataset
from stg_eval.types import Case, Guidance, StgEvalError


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a verb leaves behind."""

    table: str
    """Markdown, as the command prints it."""
    results: tuple[Results, ...] = ()
    """The run, as its folder holds it; of `reproduce` one for each model; none after a dry run."""
    page: Path | None = None
    missing: tuple[str, ...] = ()
    """One line for each clip that could not be made, read or scored."""
    notes: tuple[str, ...] = ()
    """One line for each thing to know about what was scored: files left out, equal files."""


@keywords(options.Run)
def run(**o: Unpack[options.Run]) -> Finished:
    """Make and score the clips of a suite under several guidances, and write the table and the page. Several models are
    a run each, in a folder of its own beside the page.

    `stg_eval.run(suite="demo", model="tiny", limit=96)` is `stg-eval run --suite demo --model tiny --limit 96`.
    """
    suite = _suite(o["suite"])
    variants = [o["guidance"]] if isinstance(o["guidance"], str | Guidance) else o["guidance"]
    plans = [_plan(suite, model, [str(variant) for variant in variants], o) for model in _names(o["model"])]
    return _made(plans, o, folder=suite.name, nested=True) if len(plans) > 1 else _made(plans, o)


@keywords(options.Sweep)
def sweep(**o: Unpack[options.Sweep]) -> Finished:
    """Run every combination of layers, scales and modes around one guidance; sweep.csv holds the tidy table."""
    suite, presets = _suite(o["suite"]), generators.card(o["model"]).presets
    base = str(o["base"])
    guidance = presets[base].guidance if base in presets else Guidance.parse(base)
    variants = sweeping.signatures(guidance, _names(o["layers"]), _names(o["scales"]), _names(o["modes"]))
    finished = _made([_plan(suite, o["model"], variants, o)], o, folder=f"sweep-{suite.name}-{o['model']}")
    for one in finished.results:
        atomic.write(one.path / "sweep.csv", csv_text.of_frame(sweeping.tidy(one)))
    tables = [finished.table, *(f"Tidy table: {one.path / 'sweep.csv'}" for one in finished.results)]
    return replace(finished, table="\n".join(tables))


@keywords(options.Reproduce)
def reproduce(**o: Unpack[options.Reproduce]) -> Finished:
    """Make a table or figure of the paper: the paper's values beside ours. A smoke run (`limit`, `fraction`) may have
    fewer clips than a set metric needs: that cell then says so."""
    recipe = reproducing.recipe(o["recipe"], fraction=o["fraction"], limit=o["limit"])
    smoke = {f"tiny-{model}": model for model in generators.MODELS if generators.get(model).smoke}
    for override in _names(o["model_override"]):
        if override not in smoke:
            raise StgEvalError(f"unknown --model-override {override!r} (known: {', '.join(smoke)})")
    replaced = {smoke[override] for override in _names(o["model_override"])}
    few = o["fraction"] is not None or o["limit"] is not None
    plans = []
    for one in recipe.runs:
        small = dict(generators.get(one.model).smoke) if one.model in replaced else {}
        plans.append(_plan(one.suite, one.model, one.guidance, o, defaults=small, allow_few=few))
    if o["dry_run"]:
        lines = [f"- {s.model}: {s.name}: {s.value}{'' if s.stated else ' (our choice)'}" for s in recipe.settings]
        finished = _made(plans, o)
        return replace(finished, table="\n".join([f"# {recipe.title}", "", *lines]) + f"\n\n{finished.table}")
    finished = _made(plans, o, folder=recipe.name, nested=True)
    if recipe.table is None:
        return finished
    tables = paper_tables(finished.results, numbers=[recipe.table])
    return replace(finished, table="\n\n".join(map(to_markdown, tables)))


@keywords(options.Score)
def score(**o: Unpack[options.Score]) -> Finished:
    """Score a folder of videos, or one video; set metrics that need real clips join in when `reference` is given."""
    device, reader = _device(o["device"]), check_reader(o["reader"])
    folder, store = Path(o["folder"]), Path(o["store"])
    reference, output = _path(o["reference"]), _path(o["output"])
    path, metrics, engine, strict = output or folder, _names(o["metrics"]), o["engine"], o["strict"]
    with results.holding(output) if output else nullcontext():
        final = score_folder(folder, reference, metrics, path, store, device, engine, reader, strict)
        if output is None:
            return _finished([final], None)
        final = results.save(final)
    return _finished([final], write_report([final], store, output / "report", cited))


@keywords(options.Report)
def report(**o: Unpack[options.Report]) -> Path:
    """Write tables, figures and the page of a run; of several runs, or a folder of runs, one page over all of them.
    Returns the page. Runs stand in the order given, those of a folder in that of their names: name them by date or
    build for a history. What lies among them and cannot be read is named on the page."""
    given = [Path(o["runs"])] if isinstance(o["runs"], str | os.PathLike) else [Path(folder) for folder in o["runs"]]
    found: list[Results] = []
    left_out: list[str] = []
    for folder in given:
        if len(paths := run_folders(folder)) == 1:
            found.append(results.load(paths[0]))
            continue
        for path in paths:
            try:
                found.append(results.load(path))
            except StgEvalError as error:
                left_out.append(str(error))
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if not found:
        raise StgEvalError(f"no run in {given[0]} can be read; the lines above say why")
    output = _path(o["output"]) or given[0] / "report"
    if len(found) == 1 and not left_out:
        return write_report(found, found[0].store, output, cited)
    return write_overview_report(found, found[0].store, output, gate.Policy().margin, left_out, cited)


@keywords(options.Compare)
def compare(**o: Unpack[options.Compare]) -> gate.Outcome:
    """Judge a run against a baseline. What is wrong with the two sides is not raised: it is in the outcome, whose
    `exit_code` is 0 pass, 1 regression, 2 invalid, 3 not comparable."""
    return gate.gate(
        Path(o["baseline"]),
        Path(o["run"]),
        allow=_names(o["allow"]),
        config=_path(o["config"]),
        update_baseline=o["update_baseline"],
        golden=o["golden"],
        json_file=_path(o["json"]),
        junit_file=_path(o["junit"]),
        summary_file=_path(o["summary"]),
    )


@keywords(options.Export)
def export(**o: Unpack[options.Export]) -> list[exporting.Exported]:
    """Copy a run's videos under a benchmark's names: what was written for each variant, and what departs from the
    letter of the benchmark."""
    writers = {"vbench": exporting.export_vbench, "evalcrafter": exporting.export_evalcrafter}
    if o["convention"] not in writers:
        raise StgEvalError(f"cannot export for {o['convention']!r} (known: {', '.join(writers)})")
    return writers[o["convention"]](results.load(Path(o["run"])), Path(o["directory"]))


@keywords(options.Import)
def import_results(**o: Unpack[options.Import]) -> Results:
    """Make a run of someone's VBench results, so that it can be shown, reported, and compared with one of ours."""
    suite = _suite(o["suite"])
    file, output = Path(o["file"]), Path(o["output"])
    with results.holding(output):
        return results.save(importing.import_results(file, suite, o["variant"] or file.stem, output))


@keywords(options.Track)
def track(**o: Unpack[options.Track]) -> str:
    """Write a run's scores, tables and first pairs to an experiment tracker through its own client; returns where."""
    output = None if o["output"] is None else str(o["output"])
    return tracking.track(results.load(Path(o["run"])), o["to"], output=output, samples=o["samples"])


@keywords(options.Views)
def views(**o: Unpack[options.Views]) -> list[Path]:
    """Write one-step predictions of the suite's first case under each guidance (Fig. 18 and 19): a clip for each
    prediction, OUTPUT/<guidance>/<prediction>.mp4, and a strip of their frames as PDF, PNG and SVG."""
    from stg_eval.reports import figures

    variants = [o["guidance"]] if isinstance(o["guidance"], str | Guidance) else o["guidance"]
    guidance, settings = [str(variant) for variant in variants], _settings(o["settings"])
    plan = make_plan(_suite(o["suite"]), o["model"], guidance=guidance, limit=1, settings=settings, allow_few=True)
    results.check_writable(Path(o["output"]))
    written = []
    generator: Any = None
    for variant in plan.variants:
        request = plan.requests[variant.name][0]
        if generator is None:
            device = _device(o["device"])
            memory.check(plan, device)
            generator = generators.get(plan.card.name).load(
                device=device,
                dtype=plan.card.dtype,
                weights=plan.card.weights,
                settings=dict(request.settings),
            )
        folder = Path(o["output"]) / exporting.folder_name(variant.name)
        folder.mkdir(exist_ok=True)
        found = generator.one_step_views(request, o["step"])
        for name, frames in found.items():
            if isinstance(frames, StgEvalError):
                raise frames
            written.append(folder / f"{name}.mp4")
            write_video(written[-1], frames, request.fps, request.encoding)
        written += figures.save(figures.strip(found), folder / "strip")
    return written


@keywords(options.FirstFrames)
def first_frames(**o: Unpack[options.FirstFrames]) -> list[Case]:
    """Draw a first frame with FLUX.1 [dev] for each prompt of a file; returns the cases with their images."""
    from stg_eval.generators import flux

    chosen = read_settings("FLUX.1", flux.SETTINGS, _settings(o["settings"]))
    cases = list(open_dataset(suites.load(Path(o["prompts"]))).cases())
    results.check_writable(Path(o["folder"]))
    return list(flux.first_frames(cases, Path(o["folder"]), device=_device(o["device"]), **chosen))


def load(run: options.StrPath) -> Results:
    """Read a run's folder: its record, its columns and estimates, and the scores of its clips."""
    return results.load(Path(run))


def _plan(
    suite: Suite,
    model: str,
    guidance: Sequence[str],
    o: options.Making,
    *,
    defaults: dict[str, Any] | None = None,
    allow_few: bool = False,
) -> Plan:
    return make_plan(
        suite,
        model,
        guidance=guidance,
        metric_names=_names(o["metrics"]),
        limit=o["limit"],
        fraction=o["fraction"],
        seeds=o["seeds"],
        settings=(defaults or {}) | _settings(o["settings"]),
        allow_few=allow_few,
        dry=o["dry_run"],
    )


def _made(plans: Sequence[Plan], o: options.Making, folder: str = "", nested: bool = False) -> Finished:
    """Return the plans run, or forecast; in `folder` below runs/ unless there is an --output."""
    store = Path(o["store"])
    if o["dry_run"]:
        return Finished(table="\n\n".join(forecast(plan, store) for plan in plans))
    names = [f"{plan.suite.name}-{plan.card.name}" for plan in plans]
    if o["shard"]:
        return _shared(plans, o)
    output = _path(o["output"]) or Path("runs") / (folder or names[0])
    done = []
    for plan, name in zip(plans, names, strict=True):
        place = output / name if nested else output
        device, reader = _device(o["device"]), check_reader(o["reader"])
        with results.holding(place):
            done.append(
                running.run(
                    plan,
                    store_path=store,
                    output=place,
                    device=device,
                    executor="ray" if o["gpus"] else o["executor"],
                    workers=o["gpus"],
                    engine=o["engine"],
                    reader=reader,
                )
            )
    return _finished(done, write_report(done, store, output / "report", cited))


def _shared(plans: Sequence[Plan], o: options.Making) -> Finished:
    """Return a share of the plans, in a store that `stg-eval store merge` joins with the others."""
    match = re.fullmatch(r"(\d+)/(\d+)", o["shard"])
    if not match:
        raise StgEvalError(f"--shard {o['shard']} cannot be read; write it like 2/8, the second of eight")
    total, missing = 0, list[str]()
    for plan in plans:
        clips, problems = running.run_shard(
            plan,
            int(match[1]),
            int(match[2]),
            store_path=Path(o["store"]),
            device=_device(o["device"]),
            executor="ray" if o["gpus"] else o["executor"],
            workers=o["gpus"],
            engine=o["engine"],
            reader=check_reader(o["reader"]),
        )
        total, missing = total + clips, missing + problems
    how = "join the stores with `stg-eval store merge`, then run without --shard"
    return Finished(table=f"Share {o['shard']}: {total} clips in {o['store']}; {how}", missing=tuple(missing))


def _finished(done: Sequence[Results], page: Path | None) -> Finished:
    missing = []
    for one in done:
        missing += [f"{m.variant}, {m.case}, seed {m.seed}: {m.problem}" for m in one.run.missing]
        missing += [f"{p.variant}, {p.case}, seed {p.seed}, {p.metric}: {p.problem}" for p in one.run.problems]
        missing += [f"{e.variant}, {e.metric}: {e.problem}" for e in one.estimates if e.problem]
    return Finished(
        table="\n\n".join(markdown(one) for one in done),
        results=tuple(done),
        page=page,
        missing=tuple(missing),
        notes=tuple(note for one in done for note in one.run.notes),
    )


def _path(path: options.StrPath | None) -> Path | None:
    return None if path is None else Path(path)


def _suite(suite: options.StrPath | Suite) -> Suite:
    return suite if isinstance(suite, Suite) else suites.load(suite if isinstance(suite, str) else Path(suite))


def _settings(settings: options.Settings) -> dict[str, Any]:
    if not isinstance(settings, Sequence):
        return dict(settings)
    pairs = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise StgEvalError(f"--set {text} has no value; write --set {text}=VALUE")
        pairs[key.strip()] = value.strip()
    return pairs


def _names(names: str | Sequence[object]) -> tuple[str, ...]:
    """Return each name once, of "a,b" or of ["a", "b"]."""
    listed = re.split(r",(?![^\[{]*[\]}])", names) if isinstance(names, str) else map(str, names)
    return tuple(dict.fromkeys(name.strip() for name in listed if name.strip()))


def _device(name: str) -> str:
    """Return `auto` resolved, and any other name tried out. Raises StgEvalError."""
    if name == "cpu" or (name == "auto" and sys.platform == "linux" and not _gpu_driver()):
        return "cpu"
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


def _gpu_driver() -> bool:
    """Tell whether there is a driver without which torch finds no GPU (NVIDIA's, or AMD's), since torch itself takes
    seconds to import."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True
