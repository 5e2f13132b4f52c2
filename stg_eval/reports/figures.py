"""Figures from results: score panels, trade-off over scales (Fig. 4), layer x scale maps, strips of frames (Figs. 3, 9,
18), human ratings (Fig. 6). Readable in grey: shapes and hatches tell what colours tell. Same input, same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stg_eval.reports.cells import difference_cell, head, number, value_cell
from stg_eval.storage.inside import finding
from stg_eval.storage.record import Variant
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.storage.video import read_video
from stg_eval.types import Guidance, StgEvalError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#1d1c1a", "#6b6862", "#d9d6cf"
FILLS = ("#dedcd6", "#7fa3d8", "#2f55c4", "#e0b45c", "#8a4b1f", "#8fbf9a", "#3f6f52", "#b9a3cf")
HATCHES = ("", "///", "", "...", "xxx", "\\\\\\", "", "ooo")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "axes.titleweight": "bold",
    "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.7, "legend.frameon": False, "legend.fontsize": 7, "hatch.linewidth": 0.5,
    "svg.hashsalt": "stg-eval", "svg.fonttype": "none", "pdf.fonttype": 42, "text.parse_math": False,
}  # fmt: skip
RATING_COLUMNS = ("rater", "case", "variant", "aspect", "rating")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.pdf, stem.png and stem.svg, without dates. Returns the paths."""
    import matplotlib

    stem.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "ModDate": None},
        "png": {"Software": None},
        "svg": {"Date": None},
    }
    paths = []
    with matplotlib.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, for all three
        for suffix, fields in metadata.items():
            path = stem.with_name(f"{stem.name}.{suffix}")
            figure.savefig(path, metadata=fields, dpi=160)
            paths.append(path)
    return paths


def panels(results: Results, what: Literal["value", "difference"]) -> Figure:
    """Draw one panel a metric: each variant's value with its interval, or its paired difference from the baseline."""
    names = [n for n in results.variants if what == "value" or n != results.run.baseline]
    columns = [c for c in results.columns if any(_number(results.estimate(n, c.name), what) for n in names)]
    if not columns:
        raise StgEvalError(f"{results.path} holds no {what} to draw")
    wide = min(3, len(columns))
    rows = math.ceil(len(columns) / wide)
    with _figure(7.2, rows * (0.55 + 0.24 * len(names)) + 0.3) as figure:
        grid = figure.subplots(rows, wide, squeeze=False, sharey=True)
        for axes in grid.flat[len(columns) :]:
            axes.set_visible(False)
        for column, axes in zip(columns, grid.flat, strict=False):
            _panel(axes, results, column, names, what)
        for axes in grid[:, 0]:
            axes.set_yticks(range(len(names)), names)
        grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def _panel(axes: Axes, results: Results, column: Column, names: Sequence[str], what: str) -> None:
    axes.set_title(head(column), loc="left")
    axes.tick_params(length=2)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    if what == "difference":
        axes.axvline(0, color=SOFT, linewidth=0.8)
    for y, name in enumerate(names):
        estimate = results.estimate(name, column.name)
        if estimate is None or not _number(estimate, what):
            axes.text(0.5, y, "—", transform=axes.get_yaxis_transform(), va="center", color=SOFT)
            continue
        value, low, high = (
            (estimate.value, estimate.low, estimate.high)
            if what == "value"
            else (estimate.difference, estimate.difference_low, estimate.difference_high)
        )
        value, low, high = value * column.scale, low * column.scale, high * column.scale
        which = results.variants.index(name) % len(FILLS)
        if what == "difference":
            axes.barh(y, value, height=0.56, color=FILLS[which], hatch=HATCHES[which], edgecolor=INK, linewidth=0.6)
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [y, y], color=INK, linewidth=1.2, solid_capstyle="butt")
        if what == "value":
            axes.plot(value, y, MARKERS[which], color=FILLS[which], markeredgecolor=INK, markersize=5.5)
        cell = value_cell(column, estimate) if what == "value" else difference_cell(column, estimate)
        axes.annotate(
            cell.text.replace("-", "−"), (1, y), (5, 0), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", ha="left", va="center", fontsize=6.5, color=SOFT,
        )  # fmt: skip


def trade_off(results: Sequence[Results], x: str, y: str) -> Figure:
    """Draw metric `y` against metric `x` (Fig. 4: FVD against Imaging Quality): a line over CFG scales, one over the
    scales of each skip method. Points are labelled with their scale; intervals are crosses."""
    points: dict[str, list[tuple[float, Estimate, Estimate]]] = {}
    columns: dict[str, Column] = {}
    for one in results:
        columns |= {c.name: c for c in one.columns}
        for variant in one.run.variants:
            at_x, at_y = (one.estimate(variant.name, metric) for metric in (x, y))
            guidance = guidance_of(variant)
            if guidance and at_x and at_y and math.isfinite(at_x.value) and math.isfinite(at_y.value):
                series, scale = _series(guidance)
                points.setdefault(series, []).append((scale, at_x, at_y))
    if sum(map(len, points.values())) < 2:
        raise StgEvalError(f"a trade-off needs at least two variants with both {x} and {y}")
    with _figure(4.2, 3.2) as figure:
        axes = figure.subplots()
        across, up = columns[x], columns[y]
        for i, (series, line) in enumerate(sorted(points.items(), key=lambda item: _natural(item[0]))):
            line.sort(key=lambda point: point[0])
            xs = [e.value * across.scale for _, e, _ in line]
            ys = [e.value * up.scale for _, _, e in line]
            axes.plot(
                xs, ys, ("-", "--", ":", "-.")[i % 4], marker=MARKERS[i % 8], markersize=6, linewidth=1.2, color=INK,
                markerfacecolor=FILLS[(2, 0, 3, 1)[i % 4]], label=series,
            )  # fmt: skip
            for px, py, (scale, ex, ey) in zip(xs, ys, line, strict=True):
                axes.annotate(f"{scale:g}", (px, py), (5, 4), textcoords="offset points", fontsize=7)
                axes.plot([ex.low * across.scale, ex.high * across.scale], [py, py], color=SOFT, linewidth=0.6)
                axes.plot([px, px], [ey.low * up.scale, ey.high * up.scale], color=SOFT, linewidth=0.6)
        axes.set_xlabel(_titled(across))
        axes.set_ylabel(_titled(up))
        axes.legend()
    return figure


def heat_map(results: Results, metric: str) -> Figure:
    """Draw layer x scale of a sweep: the metric of each variant with one skipped layer, a panel for each method and
    mode."""
    column = next((c for c in results.columns if c.name == metric), None)
    cells: dict[str, dict[tuple[str, float], Estimate]] = {}
    for variant in results.run.variants:
        guidance = guidance_of(variant)
        estimate = results.estimate(variant.name, metric)
        if guidance and guidance.method and estimate and math.isfinite(estimate.value):
            series, scale = _series(guidance, layer=False)
            cells.setdefault(series, {})[",".join(guidance.layers), scale] = estimate
    if not cells or column is None:
        raise StgEvalError(f"a layer x scale map needs variants that skip a layer, scored with {metric}")
    size = max(len({k[1] for k in panel}) for panel in cells.values())
    high = max(len({k[0] for k in panel}) for panel in cells.values())
    with _figure(len(cells) * (0.9 + 0.55 * size), 0.9 + 0.36 * high) as figure:
        values = [e.value * column.scale for panel in cells.values() for e in panel.values()]
        for axes, (series, panel) in zip(
            figure.subplots(1, len(cells), squeeze=False).flat, cells.items(), strict=True
        ):
            layers = sorted({k[0] for k in panel}, key=_natural)
            scales = sorted({k[1] for k in panel})
            shades = np.full((len(layers), len(scales)), np.nan)
            for (layer, scale), estimate in panel.items():
                shades[layers.index(layer), scales.index(scale)] = estimate.value * column.scale
            rising = column.higher_is_better is not False
            low, top = min(values), max(values)
            axes.imshow(
                shades,
                cmap="Greys" if rising else "Greys_r",
                vmin=low,
                vmax=top if top > low else low + 1,
                aspect="auto",
            )
            for (layer, scale), estimate in panel.items():
                shade = (estimate.value * column.scale - low) / ((top - low) or 1)
                dark = shade > 0.5 if rising else shade < 0.5
                axes.text(
                    scales.index(scale), layers.index(layer), number(column, estimate.value), ha="center", va="center",
                    fontsize=7, color="white" if dark else INK,
                )  # fmt: skip
            axes.set_xticks(range(len(scales)), [f"{s:g}" for s in scales])
            axes.set_yticks(range(len(layers)), layers)
            axes.tick_params(length=0)
            axes.set_xlabel("scale")
            axes.set_title(series, loc="left")
            axes.spines[:].set_visible(False)
        figure.axes[0].set_ylabel("layer")
        better = {True: "darker is better", False: "darker is better", None: "darker is higher"}
        figure.suptitle(f"{_titled(column)} ({better[column.higher_is_better]})", fontsize=8)
    return figure


def strip(rows: Mapping[str, np.ndarray], frames: int = 8) -> Figure:
    """Draw rows of evenly spaced frames, one row a label. `rows`: label -> uint8 [T, H, W, 3]. Over scales it is Fig.
    3, over layers Fig. 9, over the predictions of one step (c, u, weak, CFG, STG) Fig. 18."""
    if not rows:
        raise StgEvalError("a strip needs at least one clip")
    columns = min(frames, max(len(clip) for clip in rows.values()))
    aspect = next(iter(rows.values())).shape
    side = min(0.85, 6.4 / columns)
    with _figure(columns * side + 0.9, len(rows) * side * aspect[1] / aspect[2] + 0.3) as figure:
        figure.set_layout_engine("compressed", w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for row, (line, (label, clip)) in enumerate(zip(grid, rows.items(), strict=True)):
            chosen = np.linspace(0, len(clip) - 1, columns).round().astype(int)
            for axes, k in zip(line, chosen, strict=True):
                axes.imshow(clip[k], interpolation="nearest" if max(clip.shape[1:3]) <= 64 else "antialiased")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if row == len(rows) - 1:
                    axes.set_xlabel(f"{k + 1}", fontsize=6.5, color=SOFT, labelpad=2)
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7.5)
    return figure


def clips_of(results: Results, store_root: Path, case: str, seed: int) -> dict[str, np.ndarray]:
    """Return the clips of one (case, seed), by variant title, for `strip`; those that cannot be read are left out."""
    scores = results.scores
    rows = scores[(scores["case"].astype(str) == case) & (scores["seed"] == seed)].set_index("variant")
    find, clips = finding(store_root, set(rows["key"])), {}
    for name in (name for name in results.variants if name in rows.index and rows["file"][name]):
        with suppress(StgEvalError):
            clips[name] = read_video(find(rows["file"][name], rows["key"][name]))
    return clips


def ratings(table: pd.DataFrame) -> Figure:
    """Draw the mean human rating a variant and aspect (Fig. 6), with 95 % intervals that resample cases.

    `table` has the columns rater, case, variant, aspect, rating; raises StgEvalError where one is missing.
    """
    from stg_eval import statistics

    absent = [c for c in RATING_COLUMNS if c not in table]
    if absent:
        raise StgEvalError(f"ratings need the columns {', '.join(RATING_COLUMNS)}; missing: {', '.join(absent)}")
    aspects, variants = list(dict.fromkeys(table["aspect"])), list(dict.fromkeys(table["variant"]))
    width = 0.8 / len(variants)
    with _figure(max(3.6, 1.15 * len(aspects) + 0.8), 2.5) as figure:
        axes = figure.subplots()
        for i, variant in enumerate(variants):
            for j, aspect in enumerate(aspects):
                mine = table[(table["variant"] == variant) & (table["aspect"] == aspect)]
                mean = statistics.mean_interval(mine["rating"].to_numpy(), mine["case"].to_numpy())
                at = j + (i - (len(variants) - 1) / 2) * width
                axes.bar(
                    at, mean.value, width * 0.92, color=FILLS[i % 8], hatch=HATCHES[i % 8], edgecolor=INK,
                    linewidth=0.6, label=str(variant) if j == 0 else None,
                )  # fmt: skip
                axes.plot([at, at], [mean.low, mean.high], color=INK, linewidth=1.1)
        axes.set_xticks(range(len(aspects)), [str(a) for a in aspects])
        axes.set_ylim(1, 5)
        axes.set_ylabel("mean rating (1-5)")
        axes.legend(ncols=len(variants), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def read_ratings(path: Path) -> pd.DataFrame:
    """Read a CSV of human ratings or preferences, without its anchors. Raises StgEvalError for a damaged one."""
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(("rater", "case", "variant", "aspect"), str), encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise StgEvalError(f"{path} is no CSV of ratings ({str(error).strip()}); mend or remove it") from error
    return table[table["anchor"].isna()] if "anchor" in table else table


def preferences(table: pd.DataFrame) -> Figure:
    """Draw how often raters preferred a variant, neither, or the baseline, a bar a variant and aspect.

    `table` has the columns variant, aspect, preference (1, 0, -1); raises StgEvalError where one is missing.
    """
    absent = [c for c in ("variant", "aspect", "preference") if c not in table]
    if absent:
        raise StgEvalError(f"preferences lack the columns {', '.join(absent)}")
    groups = list(table.groupby(["variant", "aspect"], sort=False)["preference"])
    with _figure(4.6, 0.28 * len(groups) + 0.7) as figure:
        axes = figure.subplots()
        for y, (_, chosen) in enumerate(groups):
            left = 0.0
            for i, (value, label) in enumerate(((1, "variant"), (0, "equal"), (-1, "baseline"))):
                share = float((chosen == value).mean())
                axes.barh(
                    y, share, 0.72, left, color=FILLS[(2, 0, 3)[i]], hatch=HATCHES[(0, 1, 3)[i]], edgecolor=INK,
                    linewidth=0.6, label=label if y == 0 else None,
                )  # fmt: skip
                left += share
        axes.set_yticks(range(len(groups)), [f"{aspect}, {variant}" for (variant, aspect), _ in groups])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel("share of raters' choices")
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def guidance_of(variant: Variant) -> Guidance | None:
    """Return the guidance of a variant; None where there is none, as for a folder of videos."""
    try:
        return Guidance.parse(variant.signature)
    except StgEvalError:
        return None


def _titled(column: Column) -> str:
    """Return a metric's name with its arrow."""
    return column.title + head(column).removeprefix(column.short)


def _number(estimate: Estimate | None, what: str) -> bool:
    return estimate is not None and math.isfinite(getattr(estimate, what))


def _series(guidance: Guidance, *, layer: bool = True) -> tuple[str, float]:
    """Say which line a variant lies on, and where: CFG over its own scale, a skip method over the skip scale."""
    if (
        guidance.combine
        or guidance.windows()
        or len(guidance.skips) > 1
        or any(s.unconditional for s in guidance.skips)
    ):
        return str(guidance), guidance.cfg_scale  # lies on no line of scales: a point of its own
    if not guidance.method:
        return "CFG", guidance.cfg_scale
    named = {"s": guidance.spatial_scale, "t": guidance.temporal_scale, "w": guidance.joint_scale}
    mode = "+".join({"s": "spatial", "t": "temporal", "w": "joint"}[k] for k, v in named.items() if v) or "off"
    where = f"[{','.join(guidance.layers)}]" if layer else ""
    return f"CFG {guidance.cfg_scale:g} + {guidance.method.upper()}{where} {mode}", max(named.values())


def _natural(text: str) -> list[tuple[int, str]]:
    import re

    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
