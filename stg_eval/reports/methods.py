"""The paragraph of a paper that says how numbers were made, with its references: every setting, seed and version."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from stg_eval.reports.titles import ranges
from stg_eval.reports.writers.latex import latex_prose
from stg_eval.statistics.means import RESAMPLES, SIGN_FLIPS
from stg_eval.statistics.nouns import SEED
from stg_eval.statistics.sets import GROUPS, LABEL_SWAPS
from stg_eval.storage.record import RunRecord
from stg_eval.storage.results import Column, Results

Cite = Callable[[RunRecord], Mapping[str, Sequence[str]]]
"""A run -> BibTeX entries of each of its metrics by name, and those of its data set under ""."""


def nothing(run: RunRecord) -> Mapping[str, Sequence[str]]:
    """Cite nothing."""
    return {}


def methods_files(runs: Sequence[Results], cite: Cite) -> dict[str, str]:
    """Return the text in Markdown (citations as pandoc reads them) and in LaTeX, and the references as BibTeX, by file
    name. Runs of which the same is to be said share a paragraph."""
    paragraphs = dict.fromkeys(paragraph(run, cite(run.run)) for run in runs)
    entries = {key_of(entry): entry for run in runs for one in cite(run.run).values() for entry in one}
    return {
        "methods.md": "\n\n".join(paragraphs) + "\n",
        "methods.tex": "\n\n".join(map(_latex, paragraphs)) + "\n",
        "references.bib": "".join(f"{entries[key]}\n\n" for key in sorted(entries)),
    }


def key_of(entry: str) -> str:
    """Return the key of a BibTeX entry. Raises ValueError for what is none."""
    found = re.match(r"@\w+\{([^,\s]+),", entry)
    if not found:
        raise ValueError(f"no BibTeX entry: {entry[:60]!r}")
    return found[1]


def paragraph(results: Results, citations: Mapping[str, Sequence[str]]) -> str:
    """Say how a run was made and scored, in Markdown."""
    run = results.run
    told = [_asked(results, citations.get("", ()))]
    if asked := run.request:
        settings = dict(sorted({**asked.settings, **run.settings}.items()))
        more = ", ".join(f"`{key}={value}`" for key, value in settings.items())
        told.append(
            f"A clip has {asked.num_frames} frames of {asked.width} × {asked.height} pixels at {asked.fps:g} frames a "
            f"second, is sampled in {asked.num_inference_steps} steps in {asked.dtype}, and stored as "
            f"`{asked.encoding}`{f' ({more})' if more else ''}. For one case and seed every guidance starts from the "
            "same noise."
        )
    told.append(f"Scores: {'; '.join(_metric(results, c, citations) for c in results.columns)}.")
    if run.missing:
        told.append(f"{_many(len(run.missing), 'clip')} could not be made and take no part.")
    return " ".join([*told, *_statistics(results), _software(run)])


def _asked(results: Results, data: Sequence[str]) -> str:
    run = results.run
    cases = results.scores["case"].nunique()
    model = run.model_title or run.model or "a folder of videos"
    weights = f" (weights `{run.weights}`)" if run.weights else ""
    seeds = f", seed{'s' * (len(run.seeds) > 1)} {ranges(run.seeds)}" if run.seeds else ""
    guidance = ", ".join(f"`{variant.signature}`" for variant in run.variants)
    against = ""
    if run.baseline and len(run.variants) > 1:
        against = f", compared with `{run.variant(run.baseline).signature}`"
    return (
        f"We evaluated {model}{weights} on {run.title}{_marks(data)} (suite `{run.suite}`): {_many(cases, 'case')}"
        f"{seeds}, {_many(run.expected, 'clip')} in all, under {guidance}{against}."
    )


def _metric(results: Results, column: Column, citations: Mapping[str, Sequence[str]]) -> str:
    counts = sorted({e.n for e in results.estimates if e.metric == column.name})
    over = " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
    return f"{column.title}{_marks(citations.get(column.name, ()))} (`{column.signature}`, n = {over})"


def _statistics(results: Results) -> Iterator[str]:
    """Say how the intervals of the run's kinds of scores are made."""
    kinds = {column.kind for column in results.columns}
    drawn = "cases with all their samples" if results.run.cluster == "case" else "single clips"
    told = []
    if kinds & {"clip", "total"}:
        told.append(
            f"means by a bootstrap that resamples {drawn} ({RESAMPLES:,} resamples), shares of clips by Clopper and "
            f"Pearson at the effective number of clips, differences tested by swapping labels ({SIGN_FLIPS:,} swaps)"
        )
    if "set" in kinds:
        told.append(
            f"scores of sets by a delete-a-group jackknife ({GROUPS} groups), differences tested by swapping labels "
            f"({LABEL_SWAPS} swaps)"
        )
    if told:
        yield f"Intervals are at 95 %: {'; '.join(told)}; their random numbers start from seed {SEED}."
    if len(results.variants) > 1:
        yield "Differences are paired by case and seed."


def _software(run: RunRecord) -> str:
    made = run.provenance
    versions = [f"stg-eval {made.stg_eval}" + (f" (commit `{made.git_commit}`)" if made.git_commit else "")]
    versions += [f"Python {made.python}"] * bool(made.python)
    versions += [f"{name} {version}" for name, version in made.packages.items() if version]
    machine = [made.gpu or made.device, made.cuda and f"CUDA {made.cuda}", made.driver and f"driver {made.driver}"]
    machine += [made.platform, _many(made.threads, "thread") if made.threads else ""]
    machine += [f"attention kernels {', '.join(made.attention)}"] * bool(made.attention)
    return f"Software: {', '.join(versions)}. Machine: {', '.join(str(m) for m in machine if m)}."


def _marks(entries: Iterable[str]) -> str:
    keys = "; ".join(f"@{key_of(entry)}" for entry in entries)
    return f" [{keys}]" if keys else ""


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _latex(text: str) -> str:
    """Write a paragraph as LaTeX, whose signatures may break behind their bars."""
    parts = re.split(r" \[(@[^\]]+)\]", text)
    written = "".join(
        rf"~\cite{{{part.replace('; ', ',').replace('@', '')}}}" if i % 2 else latex_prose(part)
        for i, part in enumerate(parts)
    )
    broken = written.replace(r"\textbar{}", r"\textbar{}\allowbreak{}")
    return f"\\begin{{sloppypar}}\n{broken}\n\\end{{sloppypar}}"
