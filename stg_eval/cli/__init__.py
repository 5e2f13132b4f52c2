"""The command line. Results go to stdout, progress and problems to stderr; exit codes: see `stg_eval.cli.entry`."""

from stg_eval.cli.entry import main

__all__ = ["main"]
