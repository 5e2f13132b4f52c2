"""Writes the pages of the reference that are read off the code: python docs/generate.py (part of `make docs`)."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import stg_eval
from stg_eval import api, options

REFERENCE = Path(__file__).parent / "reference"
VERBS = {re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): found for name, found in vars(options).items()}
"""run -> options.Run, first_frames -> options.FirstFrames, ..., in the order in which they stand there."""

HEAD = """# Verbs in Python

The verbs of the [command line](command-line.md) are functions of the package. They take keywords only, and give back
[`Finished`](api.md#stg_eval.api.Finished) where they make or score clips. All raise `StgEvalError`, in one line that
says what to do, for what cannot be done as asked; what is finished is kept, and the same call resumes.
`stg_eval.load` reads a finished run."""


def verb(name: str, options_class: Any) -> str:
    """One section: the call, what it does, and a row for each keyword."""
    function = getattr(api, name)
    known = options.options_of(options_class)
    call = ", ".join(f"{k}=..." if one.required else f"{k}={one.option.default!r}" for k, one in known.items())
    returns = str(inspect.signature(function).return_annotation).rpartition(".")[2]
    call = textwrap.fill(f"stg_eval.{name}({call}) -> {returns}", 90, subsequent_indent="    ")
    lines = [f"## {name} {{ #stg_eval.{name} }}", "", "```text", call, "```", ""]
    lines += [inspect.getdoc(function) or "", "", "| keyword | type | meaning |", "|---|---|---|"]
    for keyword, one in known.items():
        hint = getattr(one.hint, "__forward_arg__", one.hint)
        text = str(hint if not isinstance(hint, type) else hint.__name__).replace("collections.abc.", "")
        text = re.sub(r"\b(?:stg_eval|os|typing)\.(?:\w+\.)*", "", text).replace("|", "or")
        lines.append(f"| `{keyword}` | `{text}` | {one.option.help} |")
    return "\n".join(lines)


def main() -> None:
    typer = [Path(sys.executable).with_name("typer"), "stg_eval.cli.verbs", "utils", "docs"]
    titles = ["--name", "stg-eval", "--title", "Command line"]
    subprocess.run([*typer, *titles, "--output", REFERENCE / "command-line.md"], check=True, stdout=subprocess.DEVNULL)
    pages = [HEAD, *(verb(name, cls) for name, cls in VERBS.items() if name in stg_eval.__all__)]
    (REFERENCE / "verbs.md").write_text("\n\n".join(pages) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
