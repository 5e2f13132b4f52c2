"""Standard streams that cannot cost the work: whatever they cannot show or take, the verb goes on."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys

BROKEN_PIPE = 128 + signal.SIGPIPE
"""What a shell reports of a program whose reader went away."""
NOT_WRITTEN = 74
"""EX_IOERR of sysexits.h."""


class _Forgiving(io.FileIO):
    """A stream that remembers its first failure and takes everything all the same."""

    failure: OSError | None = None

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def forgive() -> None:
    """Let standard output and standard error neither raise nor stay closed.

    Characters that their encoding lacks are written as escapes. A stream that is closed from the start leads nowhere:
    its number would otherwise go to the next file that is opened, and prints would end up in there. Streams that
    someone has replaced, as tests do, stay as they are.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(spare, True)
    os.close(spare)
    for number, name in ((1, "stdout"), (2, "stderr")):
        now, first = getattr(sys, name), getattr(sys, f"__{name}__")
        if now is first:
            encoding = now.encoding if now else "utf-8"
            raw = io.BufferedWriter(_Forgiving(number, "w", closefd=False))
            line = number == 2 or raw.isatty()
            forgiving = io.TextIOWrapper(raw, encoding, errors="backslashreplace", line_buffering=line)
            setattr(sys, name, forgiving)


def settle(code: int) -> int:
    """Return the exit code of a verb that ended with `code`, once its output is out: a 0 becomes 141 if the reader of
    standard output went away before, 74 if it could not be written, which a line on standard error says."""
    sys.stdout.flush()
    sys.stderr.flush()
    failure = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "failure", None)
    if failure is None:
        return code
    if failure.errno == errno.EPIPE:
        return code or BROKEN_PIPE
    print(f"error: standard output cannot be written ({failure.strerror}); what is finished is kept", file=sys.stderr)
    return code or NOT_WRITTEN
