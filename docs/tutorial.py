"""Makes what the tutorial shows: python docs/tutorial.py writes docs/tutorial/*.txt.

It types the commands of the page that have a comment `# NAME`, each as it stands there, into a terminal of 100
columns. What it prints becomes the file of that name, which the page includes: no number there is typed by hand.
`--fast` does the same with one sampling step, to see that the commands work.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
COMMAND = re.compile(r"^    (stg-eval [^#\n]+)# (\w+)$", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=HERE / "tutorial")
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    page = (HERE / "tutorial.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for command, name in COMMAND.findall(page):
            arguments = shlex.split(command)[1:]
            if options.fast and "--limit" in arguments:
                arguments += ["--limit", "64", "--set", "num_inference_steps=1"]
            print(command, file=sys.stderr)
            code, text = typed([sys.executable, "-m", "stg_eval.cli", *arguments], Path(folder))
            if code:
                sys.exit(f"{command} ended with {code}")
            (options.into / f"{name}.txt").write_text(text.strip() + "\n", encoding="utf-8")


def typed(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command whose standard output is a terminal; its exit code and what it printed."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "100"}
    with subprocess.Popen(command, cwd=folder, stdout=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        try:
            while part := os.read(ours, 4096):
                printed += part
        except OSError:  # Linux says so when the other side is closed
            pass
    os.close(ours)
    return process.returncode, printed.decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
