"""What each verb takes: said here once, read by the Python functions (`stg_eval.api`) and by the command line."""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    NamedTuple,
    Required,
    TypedDict,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

from stg_eval.types import Guidance, JSONValue

if TYPE_CHECKING:
    from stg_eval.suites import Suite

F = TypeVar("F", bound=Callable[..., Any])

StrPath = str | os.PathLike[str]
Names = str | Sequence[str]
""" "a,b" or ["a", "b"]."""
Settings = Mapping[str, JSONValue] | Sequence[str]
"""{"num_frames": 51} or ["num_frames=51"]."""


class Option(NamedTuple):
    """One option: its default in Python, and how it reads on the command line."""

    help: str
    default: Any = None
    cli: Any = str
    """Type on the command line: str, int, float, bool, os.PathLike for a path, or a list of one of these."""
    flag: str | None = None
    """"--like-its-name" if left out; "" for a positional argument."""
    at_least: int | None = None
    envvar: str | None = None


DeviceOption = Annotated[str, Option("cuda, cuda:1, cpu; auto takes a GPU if there is one.", "auto")]
SuiteOption = Annotated["StrPath | Suite", Option("Built-in suite, a YAML file, a prompt file or image folder.")]
ModelOption = Annotated[str, Option("Model to run: see `stg-eval list models`.")]
GuidanceOption = Annotated[
    str | Guidance | Sequence[str | Guidance],
    Option("Preset or signature such as cfg7+stg-a[11]s2t2; repeat. Default: the suite's.", (), list[str]),
]
SettingsOption = Annotated[
    Settings, Option("key=value: num_frames=51, weights=FOLDER, ...; repeat.", (), list[str], "--set")
]
RunArgument = Annotated[StrPath, Option("A folder that `stg-eval run` wrote.", cli=os.PathLike, flag="")]


class Scoring(TypedDict, total=False):
    """What every verb that scores takes."""

    metrics: Annotated[
        Names, Option("Comma-separated metrics. Default: the suite's; of a folder, all that it allows.", "")
    ]
    store: Annotated[
        StrPath,
        Option("Folder of clips and scores, shared between runs.", "runs/store", os.PathLike, envvar="STG_EVAL_STORE"),
    ]
    engine: Annotated[str, Option("Who computes VBench's dimensions: ours, or official.", "ours")]
    reader: Annotated[str, Option("Who decodes the clips that are not scored yet: pyav, or decord.", "pyav")]
    device: DeviceOption


class Making(Scoring, total=False):
    """What every verb that makes clips takes."""

    limit: Annotated[int | None, Option("Make only N clips a variant, stratified.", None, int, at_least=1)]
    fraction: Annotated[float | None, Option("Make only this share of the clips.", None, float)]
    seeds: Annotated[int | None, Option("Seeds a case instead of the suite's.", None, int, at_least=1)]
    settings: SettingsOption
    output: Annotated[StrPath | None, Option("Folder of the results. Default: runs/WHAT-WAS-RUN.", None, os.PathLike)]
    executor: Annotated[str, Option("Where clips are made and scored: local, or ray.", "local")]
    gpus: Annotated[int | None, Option("Work on N GPUs by Ray: short for --executor ray.", None, int, at_least=1)]
    shard: Annotated[str, Option("Make share i/n only, in a store of its own: see `stg-eval store merge`.", "")]
    dry_run: Annotated[bool, Option("Say what would be made and scored, and stop.", False, bool)]


class Run(Making, total=False):
    """`run`."""

    suite: Required[SuiteOption]
    model: Required[Annotated[Names, Option("Model to run, or several, comma-separated: see `stg-eval list models`.")]]
    guidance: GuidanceOption


class Sweep(Making, total=False):
    """`sweep`."""

    suite: Required[SuiteOption]
    model: Required[ModelOption]
    layers: Required[Annotated[Names, Option("Comma-separated layers in the model's numbering.")]]
    scales: Annotated[str | Sequence[float | str], Option("Comma-separated scales of the weak passes.", "0.5,1,2")]
    modes: Annotated[Names, Option("Comma-separated, like stg-a:both,stg-r:joint,apg.", "stg-a:both")]
    base: Annotated[str | Guidance, Option("Preset or signature that all variants share.", "cfg")]


class Reproduce(Making, total=False):
    """`reproduce`."""

    recipe: Required[Annotated[str, Option("table1 ... table5, fig4.", flag="")]]
    model_override: Annotated[
        Names, Option("tiny-svd, tiny-mochi, tiny-opensora: small random weights; repeat.", (), list[str])
    ]


class Score(Scoring, total=False):
    """`score`."""

    folder: Required[Annotated[StrPath, Option("Folder of videos, or one video.", cli=os.PathLike, flag="")]]
    reference: Annotated[StrPath | None, Option("Folder of real videos, for FVD.", None, os.PathLike)]
    output: Annotated[StrPath | None, Option("Write scores.csv, table.json and the page here.", None, os.PathLike)]
    strict: Annotated[
        bool, Option("Refuse videos that are converted (turned, 10-bit, see-through) or may be cut.", False, bool)
    ]


class Report(TypedDict, total=False):
    """`report`."""

    runs: Required[
        Annotated[StrPath | Sequence[StrPath], Option("Runs, or folders of runs.", cli=list[os.PathLike], flag="")]
    ]
    output: Annotated[StrPath | None, Option("Folder of the report. Default: report/ in the first.", None, os.PathLike)]


class Compare(TypedDict, total=False):
    """`compare`."""

    baseline: Required[
        Annotated[StrPath, Option("Baseline file, run folder, or folder of golden frames.", cli=os.PathLike, flag="")]
    ]
    run: Required[
        Annotated[StrPath, Option("The run under test, made with another --store.", cli=os.PathLike, flag="")]
    ]
    allow: Annotated[Names, Option("A field that may differ; repeat.", (), list[str])]
    config: Annotated[StrPath | None, Option("TOML: margins, level, gate, golden.", None, os.PathLike)]
    update_baseline: Annotated[bool, Option("Make BASELINE what RUN is.", False, bool)]
    golden: Annotated[
        int | None,
        Option("With --update-baseline: keep N clips a variant, for exactness.", None, int, at_least=1),
    ]
    json: Annotated[StrPath | None, Option("Write everything as JSON.", None, os.PathLike)]
    junit: Annotated[StrPath | None, Option("Write JUnit XML.", None, os.PathLike)]
    summary: Annotated[
        StrPath | None, Option("Append Markdown to this file.", None, os.PathLike, envvar="GITHUB_STEP_SUMMARY")
    ]


class Export(TypedDict, total=False):
    """`export`."""

    convention: Required[Annotated[str, Option("vbench or evalcrafter.", flag="")]]
    run: Required[RunArgument]
    directory: Required[Annotated[StrPath, Option("Where the videos go.", cli=os.PathLike, flag="")]]


class Import(TypedDict, total=False):
    """`import`."""

    file: Required[
        Annotated[StrPath, Option("VBench's eval_results.json, a zip or a folder of such.", cli=os.PathLike, flag="")]
    ]
    output: Required[Annotated[StrPath, Option("Folder of the run that it becomes.", cli=os.PathLike)]]
    variant: Annotated[str, Option("What to call it in tables. Default: the file's name.", "")]
    suite: Annotated["StrPath | Suite", Option("Suite whose prompts they are.", "vbench-t2v-full")]


class Track(TypedDict, total=False):
    """`track`."""

    run: Required[RunArgument]
    to: Required[Annotated[str, Option("tensorboard, mlflow, wandb or trackio.")]]
    output: Annotated[
        StrPath | None,
        Option("Folder that takes everything, or an MLflow server's address. Default: the client's own place."),
    ]
    samples: Annotated[int, Option("Pairs of clips that go along: the run's first.", 4, int, at_least=0)]


class Views(TypedDict, total=False):
    """`views`."""

    suite: Required[SuiteOption]
    model: Required[ModelOption]
    step: Required[Annotated[int, Option("Sampling step, 0 is the first.", cli=int, at_least=0)]]
    output: Required[Annotated[StrPath, Option("Folder of the clips and strips.", cli=os.PathLike)]]
    guidance: GuidanceOption
    settings: SettingsOption
    device: DeviceOption


class FirstFrames(TypedDict, total=False):
    """`first-frames`."""

    prompts: Required[Annotated[StrPath, Option("A prompt file: txt, csv or jsonl.", cli=os.PathLike, flag="")]]
    folder: Required[
        Annotated[StrPath, Option("Where the PNG files go; then give it as --suite.", cli=os.PathLike, flag="")]
    ]
    settings: SettingsOption
    device: DeviceOption


class Known(NamedTuple):
    """An option of a verb."""

    option: Option
    required: bool
    hint: Any


def options_of(verb: Any) -> dict[str, Known]:
    """Name -> option of one of the classes above, its own before those that many verbs take."""
    return dict(sorted(_read(verb), key=lambda one: one[0] in Making.__annotations__))


def keywords(verb: Any) -> Callable[[F], F]:
    """Give a function, which takes `**o`, the options of a verb as its keywords: it is called with all of them. Wrong
    and absent keywords raise TypeError, as ever."""

    def decorate(function: F) -> F:
        known = options_of(verb)

        @functools.wraps(function)
        def call(**given: Any) -> Any:
            for name in given:
                if name not in known:
                    near = get_close_matches(name, known, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    raise TypeError(f"{function.__name__}() has no keyword {name!r}{hint} (known: {', '.join(known)})")
            for name, one in known.items():
                if one.required and name not in given:
                    raise TypeError(f"{function.__name__}() needs the keyword {name!r}: {one.option.help}")
            return function(**{name: given.get(name, one.option.default) for name, one in known.items()})

        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if one.required else one.option.default,
                    annotation=getattr(one.hint, "__forward_arg__", one.hint),
                )
                for name, one in known.items()
            ],
            return_annotation=function.__annotations__["return"],
        )
        return cast(F, call)

    return decorate


def _read(verb: Any) -> list[tuple[str, Known]]:
    found = []
    for name, hint in verb.__annotations__.items():
        required = get_origin(hint) is Required
        annotated = get_args(hint)[0] if required else hint
        found.append((name, Known(annotated.__metadata__[0], required, annotated.__origin__)))
    return found
