"""The documentation is true: its Python runs, its commands are accepted, its links lead to files, its site builds."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from stg_eval import suites
from stg_eval.cli.verbs import app
from stg_eval.metrics import registry

ROOT = Path(__file__).parents[2]
GENERATED = ("command-line.md", "verbs.md")
WRITTEN = [p for p in sorted((ROOT / "docs").rglob("*.md")) if p.name not in GENERATED]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
PYTHON = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"^(?: {4})?(?:\$ )?(stg-eval [a-z].*)$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_of(page: Path) -> list[str]:
    """Python of a page that is to run, each block at its own lines, so that a traceback points into the page."""
    text = page.read_text(encoding="utf-8")
    found = [m for m in PYTHON.finditer(text) if not m["reason"]]
    return ["\n" * text.count("\n", 0, m.start("code")) + m["code"] for m in found]


@pytest.mark.parametrize("page", [p for p in PAGES if code_of(p)], ids=name_of)
def test_python_on_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for code in code_of(page):
        exec(compile(code, str(page), "exec"), names)


def test_a_block_that_does_not_run_says_why_in_so_many_words() -> None:
    skipped = [m["reason"] for page in PAGES for m in PYTHON.finditer(page.read_text(encoding="utf-8")) if m["reason"]]
    assert len(skipped) == sum(page.read_text(encoding="utf-8").count("<!-- not run") for page in PAGES)
    assert all(len(reason.split()) >= 5 for reason in skipped)


def test_suites_on_pages_are_suites(tmp_path: Path) -> None:
    written = re.compile(r"^```yaml\n(name:.*?)^```$", re.MULTILINE | re.DOTALL)
    found = [text for page in PAGES for text in written.findall(page.read_text(encoding="utf-8"))]
    assert found
    for text in found:
        (tmp_path / "suite.yaml").write_text(text, encoding="utf-8")
        assert suites.load(tmp_path / "suite.yaml").metrics


@pytest.mark.parametrize("page", [p for p in PAGES if COMMAND.search(p.read_text(encoding="utf-8"))], ids=name_of)
def test_commands_on_a_page_are_accepted(page: Path) -> None:
    for line in COMMAND.findall(page.read_text(encoding="utf-8")):
        command: Any = typer.main.get_command(app)
        arguments = shlex.split(line, comments=True)
        while hasattr(command, "commands"):
            name, *arguments = arguments[1:]
            if name not in command.commands and hasattr(command, "default"):
                name, arguments = command.default, [name, *arguments]
            assert name in command.commands, line
            command, arguments = command.commands[name], [name, *arguments]
        given = command.make_context(arguments[0], arguments[1:]).params
        suite = given.get("suite")
        if suite and not re.search(r"[./]", suite):
            assert suite in suites.names(), line
        for metric in filter(None, (given.get("metrics") or "").split(",")):
            registry.card(metric)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_on_a_page_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", text):
        link = "".join(target).partition("#")[0]
        if link and not re.match(r"https?:", link):
            assert (page.parent / link).exists() or link.endswith(GENERATED), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:stg_eval|examples|benchmarks|tests)/[\w./]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_site_builds_without_a_warning_and_holds_every_command(tmp_path: Path) -> None:
    """`make docs` beside a copy of the pages: Zensical in strict mode refuses broken links, anchors and references."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stg_eval").symlink_to(ROOT / "stg_eval")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    subprocess.run([sys.executable, tmp_path / "docs" / "generate.py"], check=True)
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build", "--strict"], cwd=tmp_path, capture_output=True, text=True)
    said = built.stdout + built.stderr
    assert built.returncode == 0, said
    assert "No issues found" in said
    assert "griffe" not in said
    reference = tmp_path / "build" / "site" / "reference"
    html = {page.parent.name: page.read_text(encoding="utf-8") for page in reference.glob("*/index.html")}
    commands: Any = typer.main.get_command(app)
    assert all(f"stg-eval {name}" in html["command-line"] for name in commands.commands)
    assert all(f"stg_eval.{name}(" in html["verbs"] for name in ("run", "sweep", "score", "compare", "reproduce"))
    assert "stg_eval.statistics.mean_interval" in html["api"]


@pytest.mark.sweep
def test_the_tutorial_is_made_by_its_script(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "docs/tutorial.py"), "--fast", "--into", str(tmp_path)]
    subprocess.run(script, check=True)
    made = {path.name for path in tmp_path.iterdir()}
    included = re.findall(r"docs/tutorial/(\w+\.txt)", (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))
    assert made == set(included) == {path.name for path in (ROOT / "docs/tutorial").iterdir()}
