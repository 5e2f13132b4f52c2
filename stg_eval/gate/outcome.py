"""Writes what a gate says: a table for people, JSON for programs, JUnit XML for CI, Markdown for a step summary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

from stg_eval.types import StgEvalError
from stg_eval.version import __version__

FORMAT = 1
SUMMARY_BYTES = 1_000_000
"""GitHub drops a step summary of more than 1 MiB (2**20 bytes)."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that passed, failed, or could not be told (skip)."""

    group: str
    name: str
    state: Literal["pass", "fail", "skip"]
    line: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a gate."""

    exit_code: int
    """0 pass, 1 regression, 2 invalid, 3 not comparable."""
    headline: str
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    """What JSON holds besides exit_code, headline and notes."""

    def text(self) -> str:
        """Write the outcome for a terminal."""
        parts = [_aligned(table) for table in self.tables]
        return "\n\n".join([*parts, *self.notes, self.headline]) + "\n"

    def json(self) -> str:
        """Write the outcome as JSON for programs; numbers that do not exist are null."""
        head = {"format": FORMAT, "stg_eval": __version__, "exit_code": self.exit_code, "headline": self.headline}
        return json.dumps(_plain(head | self.data | {"notes": list(self.notes)}), indent=1, ensure_ascii=False) + "\n"

    def markdown(self, most_bytes: int = SUMMARY_BYTES) -> str:
        """For a GitHub step summary: never more than `most_bytes`; rows that do not fit are counted instead."""
        mark = {0: "✅", 1: "❌"}.get(self.exit_code, "⚠️")
        head, *rest = self.headline.split("\n")
        lines = [f"## {mark} stg-eval: {_cell(head)}", "", *(f"- {_cell(line.strip())}" for line in rest), ""]
        lines += [line for note in self.notes for line in (_cell(note), "")]
        room = most_bytes - 200 - sum(len(line.encode()) + 1 for line in lines)
        left_out = 0
        for line in (line for table in self.tables for line in _markdown(table)):
            room -= len(line.encode()) + 1
            if room >= 0:
                lines.append(line)
            else:
                left_out += 1
        if left_out:
            lines += ["", f"{left_out} more lines do not fit here; the JSON file has them all."]
        return "\n".join(lines) + "\n"

    def junit(self) -> str:
        """Return JUnit XML as the schemas of Apache Ant and of Jenkins have it: a suite for each group, a case for each
        check. "Cannot tell" is skipped: it shows, and does not fail."""
        root = ET.Element("testsuites")
        checks = self.checks or (Check(group="compare", name="comparable", state="fail", line=self.headline),)
        kind = "failure" if self.checks else "error"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        for number, group in enumerate(dict.fromkeys(check.group for check in checks)):
            members = [check for check in checks if check.group == group]
            states = [check.state for check in members]
            suite = ET.SubElement(
                root,
                "testsuite",
                name=_printable(group),
                package="stg-eval",
                id=str(number),
                timestamp=now,
                hostname="localhost",
                tests=str(len(members)),
                failures=str(states.count("fail") if kind == "failure" else 0),
                errors=str(states.count("fail") if kind == "error" else 0),
                skipped=str(states.count("skip")),
                time="0",
            )
            ET.SubElement(suite, "properties")
            for check in members:
                case = ET.SubElement(
                    suite, "testcase", name=_printable(check.name), classname=f"stg-eval.{_printable(group)}", time="0"
                )
                line = _printable(check.line)
                if check.state == "fail":
                    ET.SubElement(case, kind, message=line.split("\n")[0], type="regression").text = line
                elif check.state == "skip":
                    ET.SubElement(case, "skipped", message=line)
            passed = (f"{check.name}: {check.line}" for check in members if check.state == "pass")
            ET.SubElement(suite, "system-out").text = _printable("\n".join(passed))
            ET.SubElement(suite, "system-err")
        ET.indent(root)
        return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"

    def write(self, *, json_file: Path | None, junit_file: Path | None, summary_file: Path | None) -> None:
        """Write the files that are asked for; the summary is appended, as GitHub's steps share one."""
        for path, text, mode in (
            (json_file, self.json, "w"),
            (junit_file, self.junit, "w"),
            (summary_file, self.markdown, "a"),
        ):
            if path is None:
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, mode, encoding="utf-8") as file:
                    file.write(text())
            except OSError as error:
                raise StgEvalError(f"cannot write {path}: {error.strerror}") from error


def _aligned(table: Table) -> str:
    rows = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([table.title, *lines])


def _markdown(table: Table) -> Iterator[str]:
    yield from (f"### {_cell(table.title)}", "", _row(table.header), _row(["---"] * len(table.header)))
    yield from (_row([_cell(cell) for cell in row]) for row in table.rows)
    yield ""


def _row(cells: Sequence[str] | Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(text.split()))


def _printable(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _plain(value: Any) -> Any:
    """Floats that JSON has no word for become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
