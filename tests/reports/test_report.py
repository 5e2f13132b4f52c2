from __future__ import annotations

import base64
import errno
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pandas as pd
import pytest

from stg_eval.pipeline.score import file_key
from stg_eval.reports import figures, write_report
from stg_eval.reports.cells import number
from stg_eval.reports.gallery import sheet, write_page
from stg_eval.storage.results import Results
from stg_eval.storage.video import read_video
from stg_eval.types import StgEvalError

SWEEP = {f"cfg{g}": f"cfg{g}" for g in (2, 3, 5)} | {
    f"l{layer}s{scale}": f"cfg3+stg-a[{layer}]s{scale}t{scale}" for layer in (2, 10) for scale in (0.5, 2)
}


def test_same_input_gives_the_same_bytes(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    results = make_results(tmp_path, pairs=4, clips=True)
    for name in ("first", "second"):
        write_report([results], tmp_path / "store", tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*") if p.is_file())
    assert {f.suffix for f in files} == {".html", ".md", ".tex", ".csv", ".pdf", ".png", ".svg", ".bib"}
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_figures_follow_from_what_was_run(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    results = make_results(tmp_path, pairs=2, variants=SWEEP)
    results.path.mkdir(parents=True)
    rows = [
        {"rater": r, "case": c, "variant": v, "aspect": a, "rating": 3}
        for r in "xy" for c in "12" for v in ("cfg2", "cfg3") for a in ("Motion", "Overall")
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(results.path / "ratings.csv", index=False)
    write_report([results], tmp_path / "store", tmp_path / "out")
    stems = {p.stem.removeprefix("example-") for p in (tmp_path / "out" / "figures").iterdir()}
    assert stems == {
        "scores", "differences", "scales", "ratings",
        "layers-fvd", "layers-temporal-flickering", "layers-dynamic-degree",
    }  # fmt: skip


def without(results: Results, **fields: float) -> Results:
    """The run with estimates changed: fvd=nan takes the values of FVD, difference=nan all differences."""
    estimates = [
        replace(e, value=fields.get(e.metric, e.value), difference=fields.get("difference", e.difference))
        for e in results.estimates
    ]
    return replace(results, estimates=tuple(estimates))


@pytest.mark.parametrize(
    ("lost", "figure"),
    [
        ({"fvd": math.nan}, "scales"),
        ({"dynamic_degree": math.nan}, "layers-dynamic-degree"),
        ({"fvd": math.nan, "temporal_flickering": math.nan, "dynamic_degree": math.nan}, "scores"),
        ({"difference": math.nan}, "differences"),
    ],
    ids=lambda lost: str(list(lost)) if isinstance(lost, dict) else lost,
)
def test_metric_without_a_value_costs_its_figure_only(
    tmp_path: Path,
    make_results: Callable[..., Results],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lost: dict[str, float],
    figure: str,
) -> None:
    saved: list[str] = []
    monkeypatch.setattr(figures, "save", lambda drawn, stem: saved.append(stem.name))
    results = without(make_results(tmp_path, pairs=2, variants=SWEEP), **lost)
    page = write_report([results], tmp_path / "store", tmp_path / "out")
    assert page.is_file()
    assert f"no figure example-{figure}: " in capsys.readouterr().err
    assert saved
    assert f"example-{figure}" not in saved


def test_clip_damaged_after_the_run_is_left_out_of_the_strip(
    tmp_path: Path, make_results: Callable[..., Results], capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_results(tmp_path, pairs=1, clips=True)
    files = [tmp_path / "store" / file for file in results.scores.file]
    files[0].write_bytes(files[0].read_bytes()[:300])
    assert list(figures.clips_of(results, tmp_path / "store", "case0000", 0)) == ["stg-a"]
    files[1].write_bytes(b"")
    assert write_report([results], tmp_path / "store", tmp_path / "out").is_file()
    assert not list((tmp_path / "out" / "figures").glob("*strip*"))
    assert capsys.readouterr().err == ""


def test_runs_of_one_name_have_files_and_labels_of_their_own(
    tmp_path: Path, make_results: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "save", lambda drawn, stem: None)
    runs = [make_results(tmp_path, pairs=1, name=name) for name in ("a", "a", "a-2", "A")]
    page = write_report(runs, tmp_path / "store", tmp_path / "out")
    files = sorted(page.parent.glob("tables/*-scores.tex"))
    assert [f.name for f in files] == ["a-2-2-scores.tex", "a-2-scores.tex", "a-3-scores.tex", "a-scores.tex"]
    labels = [re.findall(r"\\label{(.*)}", f.read_text())[0] for f in files]
    assert labels == [f"tab:{f.stem}" for f in files]
    ids = re.findall(r'\bid="([^"]*)"', page.read_text())
    assert len(ids) == len(set(ids))


def page_data(path: Path) -> tuple[dict, str]:
    text = path.read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    sheets = re.search(r'<script type="text/plain" id="sheets">(.*?)</script>', text, re.S)
    assert data
    assert sheets
    return json.loads(data[1]), sheets[1]


def test_frames_in_the_page_are_the_frames_of_the_clips(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    from PIL import Image

    results = make_results(tmp_path, pairs=3, clips=True)
    data, sheets = page_data(write_page([results], tmp_path / "store", tmp_path / "index.html"))
    for _, row in results.scores.iterrows():
        pair = next(p for p in data["runs"][0]["pairs"] if p["id"] == f"{row.case}|{row.seed}")
        clip = data["clips"][pair["cells"][results.variants.index(row.variant)]["clip"]]
        png = base64.b64decode(sheets[clip["at"] : clip["at"] + clip["length"]])
        image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        frames = read_video(tmp_path / "store" / row.file)
        assert (clip["n"], clip["fps"]) == (len(frames), 8.0)
        for k, frame in enumerate(frames):
            y, x = k // clip["cols"] * clip["h"], k % clip["cols"] * clip["w"]
            np.testing.assert_array_equal(image[y : y + clip["h"], x : x + clip["w"]], frame)


@pytest.mark.parametrize("num_frames", [1, 2, 5, 16, 17])
def test_sheet_is_lossless_for_any_number_of_frames(num_frames: int) -> None:
    from PIL import Image

    frames = np.random.default_rng(num_frames).integers(0, 256, (num_frames, 6, 9, 3), np.uint8)
    data, columns = sheet(frames)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    for k in range(num_frames):
        y, x = k // columns * 6, k % columns * 9
        np.testing.assert_array_equal(image[y : y + 6, x : x + 9], frames[k])


def test_clip_shared_by_pairs_is_in_the_page_once(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    results = make_results(tmp_path, pairs=6, clips=True, distinct=2)
    data, _ = page_data(write_page([results], tmp_path / "store", tmp_path / "index.html"))
    assert len(data["clips"]) == 4


def test_run_without_labels_prompts_or_tags_has_a_page(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    results = make_results(tmp_path, pairs=2, clips=True)
    results.scores["label"] = pd.array([None] * 4, dtype="Int64")
    results.scores["prompt"] = results.scores["tags"] = None
    data, _ = page_data(write_page([results], tmp_path / "store", tmp_path / "index.html"))
    assert [p["tags"] for p in data["runs"][0]["pairs"]] == [[], []]


def test_page_refers_to_nothing_outside_itself(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    text = write_page(
        [make_results(tmp_path, pairs=2, clips=True)], tmp_path / "store", tmp_path / "i.html"
    ).read_text()
    outside = re.sub(r'<script type="(application/json|text/plain)".*?</script>', "", text, flags=re.S)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"(?m)^\s*//.*$|; //.*$", "", outside))
    assert re.findall(r'(?:src|href)="([^"]*)"', outside) == ["data:,"]
    assert "default-src 'none'" in outside


def test_large_clips_lie_beside_the_page(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    results = make_results(tmp_path, pairs=1, clips=True, size=96, num_frames=16)
    page = write_page([results], tmp_path / "store", tmp_path / "out" / "index.html")
    data, sheets = page_data(page)
    assert sheets == ""
    for clip, file in zip(data["clips"], results.scores.file, strict=True):
        assert (page.parent / clip["file"]).read_bytes() == (tmp_path / "store" / file).read_bytes()


@pytest.mark.parametrize(("size", "drawn"), [(96, True), (400, False)])
def test_what_no_browser_plays_is_drawn_or_said(
    tmp_path: Path, make_results: Callable[..., Results], size: int, drawn: bool
) -> None:
    path = tmp_path / "clip.wmv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("wmv2", rate=8)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for i in range(16):
            frame = np.full((size, size, 3), 15 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    results = make_results(tmp_path, pairs=1, variants={"mine": "1 file"}, clips=True, run={"baseline": None})
    results.scores["file"], results.scores["key"] = str(path), file_key(path)
    data, sheets = page_data(write_page([results], tmp_path / "store", tmp_path / "out" / "index.html"))
    assert bool(sheets) == drawn == ("cols" in (data["clips"] or [{}])[0])
    problems = [cell.get("problem", "") for cell in data["runs"][0]["pairs"][0]["cells"]]
    assert ["no browser plays wmv2 in a .wmv file" in problem for problem in problems] == [not drawn]


@pytest.mark.parametrize("name", ["a b#1.mp4", "ü" * 125 + "x.mp4"], ids=["short", "255 bytes"])
def test_videos_of_the_same_name_from_a_folder_each_have_a_place(
    tmp_path: Path, make_results: Callable[..., Results], name: str
) -> None:
    folder, nowhere = {"mine": "2 files"}, {"baseline": None, "store": str(tmp_path / "gone")}
    results = make_results(tmp_path, pairs=2, variants=folder, clips=True, size=96, run=nowhere)
    paths = [tmp_path / "store" / sub / name for sub in "xy"]
    for path, file in zip(paths, results.scores.file, strict=True):
        path.parent.mkdir()
        (tmp_path / "store" / file).rename(path)
    results.scores["file"], results.scores["key"] = [str(p) for p in paths], [file_key(p) for p in paths]
    for _ in range(2):
        page = write_report([results], tmp_path / "elsewhere", tmp_path / "out")
        data, _ = page_data(page)
        shown = [unquote(clip["file"]) for clip in data["clips"]]
        assert shown == [f"clips/{name}", f"clips/1-{name.encode()[-245:].decode()}"]
        assert [(tmp_path / "out" / file).read_bytes() for file in shown] == [path.read_bytes() for path in paths]
        assert len(list((tmp_path / "out" / "clips").iterdir())) == 2


def test_page_beside_the_folder_of_the_videos_leaves_them_as_they_are(
    tmp_path: Path, make_results: Callable[..., Results]
) -> None:
    results = make_results(tmp_path, pairs=1, clips=True, size=96)
    elsewhere, clips = tmp_path / "elsewhere", tmp_path / "store" / "clips"
    elsewhere.mkdir()
    results.scores["file"] = [str(elsewhere / "v1.mp4"), str(clips / "v1.mp4")]  # of one name, the user's own last
    for old, new in zip(sorted(clips.iterdir()), results.scores.file, strict=True):
        old.rename(new)
    results.scores["key"] = [file_key(Path(path)) for path in results.scores.file]
    before = {path: Path(path).read_bytes() for path in results.scores.file}
    for _ in range(2):
        data, _ = page_data(write_page([results], tmp_path / "store", tmp_path / "store" / "index.html"))
        assert {path: Path(path).read_bytes() for path in before} == before
        assert [c["file"] for c in data["clips"]] == ["clips/1-v1.mp4", "clips/v1.mp4"]
        assert sorted(p.name for p in clips.iterdir()) == ["1-v1.mp4", "v1.mp4"]


def test_clips_that_cannot_be_linked_are_copied(
    tmp_path: Path, make_results: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr("os.link", refuse)
    results = make_results(tmp_path, pairs=1, clips=True, size=96)
    for _ in range(2):
        page = write_page([results], tmp_path / "store", tmp_path / "out" / "index.html")
        copies = sorted((page.parent / "clips").iterdir())
        assert [p.read_bytes() for p in copies] == [(tmp_path / "store" / f).read_bytes() for f in results.scores.file]


def test_panels_draw_the_estimates(results: Results) -> None:
    figure = figures.panels(results, "value")
    for column, axes in zip(results.columns, figure.axes, strict=True):
        drawn = [float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
        assert drawn == [results.estimate(v, column.name).value for v in results.variants]  # type: ignore[union-attr]
        texts = [t.get_text() for t in axes.texts]
        assert texts == [number(column, results.estimate(v, column.name).value) for v in results.variants]  # type: ignore[union-attr]


def test_trade_off_has_a_line_over_cfg_scales_and_one_a_skipped_layer(
    tmp_path: Path, make_results: Callable[..., Results]
) -> None:
    results = make_results(tmp_path, pairs=4, variants=SWEEP)
    axes = figures.trade_off([results], "temporal_flickering", "fvd").axes[0]
    named = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert list(named) == [
        "CFG", "CFG 3 + STG-A[2] spatial+temporal", "CFG 3 + STG-A[10] spatial+temporal",
    ]  # fmt: skip
    cfg = named["CFG"]
    expected = [
        (results.estimate(n, "temporal_flickering"), results.estimate(n, "fvd")) for n in ("cfg2", "cfg3", "cfg5")
    ]
    assert [tuple(p) for p in cfg.get_xydata()] == [(x.value, y.value) for x, y in expected if x and y]
    assert {t.get_text() for t in axes.texts} == {"2", "3", "5", "0.5"}


def test_heat_map_prints_every_cell(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    results = make_results(tmp_path, pairs=4, variants=SWEEP)
    axes = figures.heat_map(results, "fvd").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["2", "10"], "layers in order of number"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.5", "2"]
    found = {t.get_position(): t.get_text() for t in axes.texts}
    fvd = results.columns[0]
    assert found[1, 0] == number(fvd, results.estimate("l2s2", "fvd").value)  # type: ignore[union-attr]
    assert len(found) == 4


def test_metric_without_a_better_direction_has_no_arrow(results: Results) -> None:
    neither = replace(results.columns[1], higher_is_better=None)
    results = replace(results, columns=(results.columns[0], neither, results.columns[2]))
    figure = figures.heat_map(results, neither.name)
    assert figure.get_suptitle() == "Temporal Flickering (darker is higher)"
    assert figures.panels(results, "value").axes[1].get_title(loc="left") == "TF"


def test_ratings_are_means_with_intervals_over_cases() -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"rater": f"r{r}", "case": f"c{c}", "variant": v, "aspect": a, "rating": int(rng.integers(1, 6))}
        for r in range(3) for c in range(8) for v in ("cfg", "stg") for a in ("Motion", "Overall")
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    axes = figures.ratings(table).axes[0]
    heights = [patch.get_height() for patch in axes.patches]
    means = table.groupby(["variant", "aspect"]).rating.mean()
    assert heights == pytest.approx([means[v, a] for v in ("cfg", "stg") for a in ("Motion", "Overall")])
    for line, height in zip(axes.lines, heights, strict=True):
        low, high = line.get_ydata()
        assert low < height < high
    with pytest.raises(StgEvalError, match="missing: aspect"):
        figures.ratings(table.drop(columns="aspect"))


def test_strip_shows_evenly_spaced_frames_of_every_row() -> None:
    clip = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    figure = figures.strip({"CFG": clip, "STG": clip + 100}, frames=5)
    shown = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes]
    assert shown == [0, 2, 4, 6, 8, 100, 102, 104, 106, 108]


def test_figure_without_data_says_what_it_needs(results: Results) -> None:
    with pytest.raises(StgEvalError, match="at least two variants"):
        figures.trade_off([results], "fvd", "nothing")
    with pytest.raises(StgEvalError, match="at least one clip"):
        figures.strip({})


@pytest.mark.parametrize("text", ["", 'rater,case\n"x,1'])
def test_damaged_ratings_cost_their_figure_only(
    tmp_path: Path, make_results: Callable[..., Results], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    results = make_results(tmp_path, pairs=2, variants=SWEEP)
    results.path.mkdir(parents=True)
    (results.path / "ratings.csv").write_text(text, encoding="utf-8")
    assert write_report([results], tmp_path / "store", tmp_path / "out").is_file()
    assert "mend or remove it" in capsys.readouterr().err
    assert list((tmp_path / "out" / "figures").glob("*-layers-fvd.*"))


def test_a_report_killed_at_any_step_leaves_whole_files_and_the_next_one_is_whole(
    tmp_path: Path,
    make_results: Callable[..., Results],
    perturb: Callable[..., Results],
    monkeypatch: pytest.MonkeyPatch,
    killed_at: Callable[[Callable[[], object], int], bool],
) -> None:
    def quick(drawn: object, stem: Path) -> None:
        stem.parent.mkdir(exist_ok=True)
        stem.with_name(f"{stem.name}.svg").write_text("drawn")

    monkeypatch.setattr(figures, "save", quick)
    monkeypatch.setattr(figures, "panels", lambda *_: None)
    old = make_results(tmp_path, pairs=2)
    new = perturb(old, "temporal_flickering", 0.04)

    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    for name, one in (("old", old), ("new", new)):
        write_report([one], tmp_path, tmp_path / name)
    before, after = files(tmp_path / "old"), files(tmp_path / "new")
    assert before["index.html"] != after["index.html"]
    out, step, lived, pages = tmp_path / "out", 0, False, []
    while not lived:
        step += 3
        write_report([old], tmp_path, out)
        (out / "notes.txt").write_text("mine")
        lived = killed_at(lambda: write_report([new], tmp_path, out), step)
        found = files(out)
        pages.append(found["index.html"] == after["index.html"])
        assert all(found[name] in (before[name], after[name]) for name in before)
        write_report([new], tmp_path, out)
        assert files(out) == after | {"notes.txt": b"mine"}
    assert pages == sorted(pages)
    assert len(pages) > 10


def test_a_disk_that_fills_up_leaves_the_report_that_was_there(
    tmp_path: Path, make_results: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_report([make_results(tmp_path, pairs=1)], tmp_path, tmp_path / "out")
    before = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figures, "save", full)
    with pytest.raises(StgEvalError, match="No space left on device"):
        write_report([make_results(tmp_path, pairs=2)], tmp_path, tmp_path / "out")
    assert {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()} == before
