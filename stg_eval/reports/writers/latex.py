"""Writes tables as LaTeX (booktabs), and a document that holds them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from stg_eval.reports.table import Cell, Table
from stg_eval.reports.writers.text import interval, is_code, spaced

ROWS = 30
"""A page holds so many, with their intervals."""


def to_latex(table: Table) -> str:
    r"""Write a booktabs table environment, of a long table one for each page; it needs
    \usepackage{booktabs,amssymb,graphicx}."""
    if len(table.rows) <= ROWS:
        return _environment(table)
    pages = []
    for start in range(0, len(table.rows), ROWS):
        page = replace(table, rows=table.rows[start : start + ROWS])
        if start:
            page = replace(page, title=f"{table.title} (continued)", name=f"{table.name}-{start // ROWS + 1}")
        last = start + ROWS >= len(table.rows)
        pages.append(_environment(page if last else replace(page, notes=(), remarks=())))
    return "".join(pages)


def _environment(table: Table) -> str:

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
    below = [rf"\textsuperscript{{{i}}} {latex_prose(note)}" for i, note in enumerate(table.notes, 1)]
    below += [latex_prose(remark) for remark in table.remarks]
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


def latex_document(inputs: list[str], bibliography: str = "") -> str:
    r"""Write a document that \inputs the named files, with the references of a .bib file."""
    told = rf"\bibliographystyle{{plain}}\bibliography{{{bibliography}}}" + "\n" if bibliography else ""
    return PREAMBLE + "".join(rf"\input{{{name}}}" + "\n" for name in inputs) + told + "\\end{document}\n"


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
    """Write any text as LaTeX: specials escaped, accented Latin letters kept, anything the fonts lack as its code
    point."""
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
    """Tell a Latin letter that pdflatex has in every font encoding."""
    return char in "ßæœøåÆŒØÅ" or (0xC0 <= ord(char) <= 0x17E and unicodedata.normalize("NFD", char)[0].isascii())


def _latex_number(text: str) -> str:
    return re.sub(r"(?<![\w.])([+-])(?=\d)", r"$\1$", latex(text)) if text else ""


def latex_prose(text: str) -> str:
    """Set `code` in a fixed-width face that may break, and escape the rest."""
    return re.sub(
        r"`([^`]*)`|([^`]+|`)",
        lambda m: rf"\texttt{{{latex(m[1])}}}" if m[1] is not None else spaced(m[2], latex),
        text,
    )
