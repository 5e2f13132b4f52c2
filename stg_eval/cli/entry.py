"""Where the command line begins and ends: what a verb raises becomes one line on stderr and an exit code.

0: all done. 1: done, but clips are missing (for `compare`: a regression). 2: cannot be done as asked. 3: not
comparable. 70: a fault of stg-eval's own, which must never read as a verdict. 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback

CRASHED = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
"""What typer exits with on Ctrl-C: it does not let a KeyboardInterrupt through."""


def main() -> None:
    """Run the verb that sys.argv names. Always ends in SystemExit."""
    # Threads that spin while they wait make small networks ten times slower where the cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from stg_eval.cli.verbs import app
    from stg_eval.types import StgEvalError

    try:
        app()
    except StgEvalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("stopped; what is finished is kept, the same command resumes", file=sys.stderr)
        raise
    except Exception as error:
        print(crash_line(error), file=sys.stderr)
        sys.exit(CRASHED)


def crash_line(error: Exception) -> str:
    """One line for an exception that nobody foresaw. Its traceback goes to a new file, which the line names."""
    told = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="stg-eval-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            file.write(text)
        where = file.name
    except OSError:  # no place for it: better below the line than lost
        return f"error: unexpected {told}; what is finished is kept. The traceback:\n{text}"
    return f"error: unexpected {told}; what is finished is kept. Please report it with the traceback in {where}"
