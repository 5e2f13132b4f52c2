"""Where the command line begins and ends: what a verb raises becomes one line on stderr and an exit code.

0: all done. 1: done, but clips are missing (for `compare`: a regression). 2: cannot be done as asked. 3: not
comparable. 70: a fault of stg-eval's own, which must never read as a verdict. 74: all done, but standard output could
not be written. 129, 130, 143: stopped by SIGHUP, Ctrl-C, SIGTERM. 141: all done, but nobody read standard output.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback

from stg_eval.cli import signals, streams

CRASHED = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
"""What typer exits with on Ctrl-C: it does not let a KeyboardInterrupt through."""


def main() -> None:
    """Run the verb that sys.argv names. Always ends in SystemExit."""
    # Threads that spin while they wait make small networks ten times slower where the cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    streams.forgive()
    with signals.stopping() as came:
        try:
            code = _run()
        except KeyboardInterrupt:  # between the verbs, which end in 130 themselves
            code = INTERRUPTED
        if code == INTERRUPTED:
            print("stopped; what is finished is kept, the same command resumes", file=sys.stderr)
            code = 128 + came[0] if came else INTERRUPTED
    sys.exit(streams.settle(code))


def _run() -> int:
    """Return the verb's exit code."""
    from typer import Abort

    from stg_eval.cli.verbs import app
    from stg_eval.types import StgEvalError

    try:
        _check_texts()
        app()
    except StgEvalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:
        cause = stop.__context__.__cause__ if isinstance(stop.__context__, Abort) else stop.__context__
        if not isinstance(cause, EOFError | OSError):
            return stop.code if isinstance(stop.code, int) else 2
        print(crash_line(cause), file=sys.stderr)  # typer takes them for a user who left, and exits with 1
        return CRASHED
    except Exception as error:
        print(crash_line(error), file=sys.stderr)
        return CRASHED
    return 0


def _check_texts() -> None:
    """Refuse what would fail where it is written down, which is after the work."""
    from stg_eval.types import StgEvalError, check_text

    try:
        here = os.getcwd()
    except OSError as error:
        raise StgEvalError(f"the current folder cannot be used ({error.strerror}); change to another") from error
    for text in (*sys.argv[1:], os.environ.get("STG_EVAL_STORE", ""), os.environ.get("STG_EVAL_CACHE", ""), here):
        check_text(text)


def crash_line(error: Exception) -> str:
    """Return one line for an exception that nobody foresaw. Its traceback goes to a new file, which the line names."""
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
