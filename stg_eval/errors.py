"""What the user can mend."""


class StgEvalError(Exception):
    """Something the user can mend: one clear line that says what to do. The command line exits with `exit_code`."""

    exit_code = 2
