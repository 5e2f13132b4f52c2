"""Writers of a `Table`: Markdown, LaTeX (booktabs), CSV and HTML. All text is escaped for where it lands."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from html import escape

from stg_eval.reports.tables import NONE, Cell, Table

MARKS = {"better": "✓", "worse": "✗", "": ""}


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table with its notes."""

    def cell(c: Cell) -> str:
        text = f"**{_minus(c.text)}**" if c.best else _minus(c.text)
        note = f"({c.note})" if c.note else ""
        small = _minus(interval(c)) if c.low else f"({c.after})" if c.after else ""
        return " ".join(part for part in (text + note, small, MARKS[c.mark]) if part)

    labels = [[_markdown_label(h, text) for h, text in zip(table.heads, row.labels, strict=True)] for row in table.rows]
    grid = [
        [*map(_markdown, table.heads), *map(_markdown, table.columns)],
        *([*label, *map(cell, row.cells)] for label, row in zip(labels, table.rows, strict=True)),
    ]
    widths = [max(3, *(_width(line[i]) for line in grid)) for i in range(len(grid[0]))]
    first = len(table.heads)

    def line(texts: list[str]) -> str:
        padded = (
            t + " " * (w - _width(t)) if i < first else " " * (w - _width(t)) + t
            for i, (t, w) in enumerate(zip(texts, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [("-" * w if i < first else "-" * (w - 1) + ":") for i, w in enumerate(widths)]
    out = [f"**{_markdown(table.title)}**", "", line(grid[0]), line(rule), *map(line, grid[1:]), ""]
    out += [f"({i}) {_markdown(note)}  " for i, note in enumerate(table.notes, 1)]
    out += [f"{_markdown(remark)}  " for remark in table.remarks]
    return "\n".join(out) + "\n"


def width(table: Table) -> int:
    """Columns of a terminal that the Markdown table takes."""
    return max(_width(line) for line in to_markdown(table).splitlines() if line.startswith("|"))


def to_csv(table: Table) -> str:
    """Comma-separated values: the printed digits, each interval in two columns of its own."""
    with_interval = [any(row.cells[i].low for row in table.rows) for i in range(len(table.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = list(table.heads)
    for name, wide in zip(table.columns, with_interval, strict=True):
        short = name.rstrip(" ↑↓")
        heads += [short, f"{short} low", f"{short} high"] if wide else [short]
    writer.writerow(heads)
    for row in table.rows:
        line = list(row.labels)
        for c, wide in zip(row.cells, with_interval, strict=True):
            text = "" if c.text == NONE else c.text
            line += [text, c.low, c.high] if wide else [text]
        writer.writerow(line)
    return out.getvalue()


def to_html(table: Table, *, whiskers: bool = False) -> str:
    """A <figure class="table"> with caption, notes and remarks; style comes with the page. With `whiskers`, intervals
    are drawn too, each column on one scale around zero."""
    reach = [max((_reach(row.cells[i]) for row in table.rows), default=0.0) for i in range(len(table.columns))]

    def cell(c: Cell, reach: float) -> str:
        text = escape(_minus(c.text))
        if c.best:
            text = f"<strong>{text}</strong>"
        if c.note:
            text += f"<sup>{c.note}</sup>"
        if c.mark:
            text += f'<span class="{c.mark}" title="{c.mark}">{MARKS[c.mark]}</span>'
        small = f"<small>{escape(_minus(interval(c)))}</small>" if interval(c) else ""
        return f"<td>{text}{small}{_whisker(c, reach) if whiskers else ''}</td>"

    def label(labels: tuple[str, ...]) -> str:
        cells = [
            f"<code>{escape(text)}</code>" if is_code(h) else escape(text)
            for h, text in zip(heads, labels, strict=True)
        ]
        if folded:
            cells = [f"{cells[0]}<small>{cells[1]}</small>"]
        return "".join(f'<th scope="row" class="label">{text}</th>' for text in cells)

    heads = table.heads
    folded = len(heads) == 2 and is_code(heads[1])  # the signature stands below its title
    top = "".join(f'<th scope="col" class="label">{escape(h)}</th>' for h in (heads[:1] if folded else heads))
    top += "".join(f'<th scope="col">{escape(c)}</th>' for c in table.columns)
    rows = []
    for row in table.rows:
        above = f' class="{row.above}"' if row.above else ""
        rows.append(f"<tr{above}>{label(row.labels)}{''.join(map(cell, row.cells, reach))}</tr>")
    notes = "".join(f"<li value={i}>{prose_html(note)}</li>" for i, note in enumerate(table.notes, 1))
    remarks = "".join(f"<p>{prose_html(remark)}</p>" for remark in table.remarks)
    return (
        f'<figure class="table{" whiskers" if whiskers else ""}">\n<figcaption>{escape(table.title)}</figcaption>\n'
        f'<div class="scroll"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + f"\n</tbody></table></div>\n{f'<ol>{notes}</ol>' if notes else ''}{remarks}\n</figure>\n"
    )


def _reach(c: Cell) -> float:
    return max(abs(float(c.low)), abs(float(c.high))) if c.low else 0.0


def _whisker(c: Cell, reach: float) -> str:
    """The interval around zero, from the printed digits."""
    if not c.low or not reach:
        return ""
    low, middle, high = (round(50 + 48 * float(text) / reach, 1) for text in (c.low, c.text, c.high))
    return (
        f'<svg class="whisker {c.mark}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="zero" d="M50 0v10" vector-effect="non-scaling-stroke"/>'
        f'<path class="range" d="M{low} 5H{high}" vector-effect="non-scaling-stroke"/>'
        f'<path class="value" d="M{middle} 1.5v7" vector-effect="non-scaling-stroke"/></svg>'
    )


def to_latex(table: Table) -> str:
    r"""A booktabs table environment; needs \usepackage{booktabs,amssymb,graphicx}."""

    def cell(c: Cell) -> str:
        text = _latex_number(c.text)
        if c.best:
            text = rf"\textbf{{{text}}}"
        if c.note:
            text += rf"\textsuperscript{{{c.note}}}"
        return text + {"better": r"\rlap{\,$\checkmark$}", "worse": r"\rlap{\,$\times$}", "": ""}[c.mark]

    def label(name: str, text: str) -> str:
        return rf"\texttt{{{latex(text)}}}" if is_code(name) else latex(text)

    heads = [*(latex(h) for h in table.heads), *(latex(c) for c in table.columns)]
    lines = []
    for i, row in enumerate(table.rows):
        if row.above and i:
            lines.append(r"\midrule" if row.above == "rule" else r"\addlinespace")
        labels = [label(h, text) for h, text in zip(table.heads, row.labels, strict=True)]
        intervals = [_latex_number(interval(c)) for c in row.cells]
        lines.append(" & ".join([*labels, *map(cell, row.cells)]) + (r" \\[-1pt]" if any(intervals) else r" \\"))
        if any(intervals):
            small = [rf"{{\tiny {text}}}" if text else "" for text in intervals]
            lines.append(" & ".join([""] * len(labels) + small) + r" \\[1pt]")
    below = [rf"\textsuperscript{{{i}}} {_latex_prose(note)}" for i, note in enumerate(table.notes, 1)]
    below += [_latex_prose(remark) for remark in table.remarks]
    foot = [
        r"\par\smallskip\begin{minipage}{\linewidth}\raggedright\scriptsize",
        "\\\\\n".join(below),
        r"\end{minipage}",
    ]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize",
            rf"\caption{{{latex(table.title)}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', table.name.lower())}}}",
            r"\maxwidth{%",
            rf"\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            *(foot if below else []),
            r"\end{table}",
            "",
        ]
    )


PREAMBLE = r"""% Tables of stg-eval. Compile this file, or \input one of the tables with this preamble.
\documentclass[10pt]{article}
\usepackage[a4paper,margin=2cm]{geometry}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}\usepackage[T1]{fontenc}}{}
\usepackage[utf8]{inputenc}
\usepackage{booktabs,amsmath,amssymb,graphicx}
% Shrinks a table that is wider than the text, and leaves others alone.
\newsavebox{\widetable}
\newcommand{\maxwidth}[1]{\sbox{\widetable}{#1}%
  \ifdim\wd\widetable>\linewidth\resizebox{\linewidth}{!}{\usebox{\widetable}}\else\usebox{\widetable}\fi}
\setlength{\tabcolsep}{8pt}
\pdfinfoomitdate=1 \pdftrailerid{} \pdfsuppressptexinfo=-1
\begin{document}
"""


def latex_document(inputs: list[str]) -> str:
    r"""A document that \inputs the named files."""
    return PREAMBLE + "".join(rf"\input{{{name}}}" + "\n" for name in inputs) + "\\end{document}\n"


def interval(c: Cell) -> str:
    """ "[low, high]", or what stands in for it."""
    return f"[{c.low}, {c.high}]" if c.low else c.after


def is_code(label_head: str) -> bool:
    """Labels under this head are signatures, printed in a fixed-width face."""
    return label_head == "Guidance"


_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: rf"\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",
    "]": "{]}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "—": "---",
    "–": "--",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}


def latex(text: str) -> str:
    """Any text as LaTeX: specials escaped, accented Latin letters kept, anything the fonts lack as its code point."""
    out = []
    for char in " ".join(text.split()):
        if char in _LATEX:
            out.append(_LATEX[char])
        elif char.isascii() or _accented(char):
            out.append(char)
        else:
            out.append(rf"\texttt{{U+{ord(char):04X}}}")
    return "".join(out)


def _accented(char: str) -> bool:
    """A Latin letter that pdflatex has in every font encoding."""
    return char in "ßæœøåÆŒØÅ" or (0xC0 <= ord(char) <= 0x17E and unicodedata.normalize("NFD", char)[0].isascii())


def _latex_number(text: str) -> str:
    return re.sub(r"(?<![\w.])([+-])(?=\d)", r"$\1$", latex(text)) if text else ""


def _latex_prose(text: str) -> str:
    """`code` in a fixed-width face that may break, the rest escaped."""
    return re.sub(
        r"`([^`]*)`|([^`]+|`)",
        lambda m: rf"\texttt{{{latex(m[1])}}}" if m[1] is not None else _spaced(m[2], latex),
        text,
    )


def prose_html(text: str) -> str:
    """Plain text with `code` as HTML."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _markdown_label(name: str, text: str) -> str:
    return (
        f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
        if is_code(name)
        else _markdown(text)
    )


def _markdown(text: str) -> str:
    """Plain text in Markdown, on one line; `code` is left as it is."""
    return re.sub(
        r"(`[^`]*`)|([^`]+|`)",
        lambda m: _spaced(m[1], str) if m[1] else _spaced(m[2], lambda s: re.sub(r"([\\`*_|<\[\]])", r"\\\1", s)),
        text,
    )


def _spaced(text: str, change: object) -> str:
    """Apply `change` to the text with runs of white space made one blank, blanks at the ends kept."""
    assert callable(change)
    inner = re.sub(r"\s+", " ", text)
    left, right = inner[: len(inner) - len(inner.lstrip())], inner[len(inner.rstrip()) :]
    return left + str(change(inner.strip())) + (right if inner.strip() else "")


def _minus(text: str) -> str:
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
