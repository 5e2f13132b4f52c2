"""EvalCrafter: 700 prompts (Liu et al., arXiv 2310.11440), fetched from its repository and checked by digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stg_eval.datasets.dataset import stratified
from stg_eval.datasets.files import SOURCES, check_options, file_digest, folder, how_to_get
from stg_eval.types import Case, StgEvalError

CITATIONS = (
    """@inproceedings{liu2024evalcrafter,
  title = {{EvalCrafter}: Benchmarking and Evaluating Large Video Generation Models},
  author = {Liu, Yaofang and others},
  booktitle = {CVPR},
  year = {2024},
}""",
)


class EvalCrafter:
    """Cases "0000" ... "0699", EvalCrafter's own numbers, shuffled. Four prompts of its list stand there twice: such a
    pair shares its clips and counts twice, as in the benchmark."""

    def __init__(self, root: object) -> None:
        source = SOURCES["evalcrafter"]
        self._path = folder("evalcrafter", root) / source.file
        self.missing: str | None = None
        if not self._path.is_file():
            self.missing = f"EvalCrafter's prompts are not at {self._path}; {how_to_get('evalcrafter')}"
        elif file_digest(self._path) != source.sha256:
            self.missing = f"{self._path} is not EvalCrafter's list (its SHA-256 differs); remove it and fetch it again"

    def cases(self, dry: bool = False) -> Iterator[Case]:
        if self.missing:
            raise StgEvalError(self.missing)
        lines = self._path.read_text(encoding="utf-8").split("\n")
        cases = [Case(id=f"{number:04d}", prompt=line.strip()) for number, line in enumerate(lines)]
        yield from stratified(cases, lambda case: None, lambda case: case.id)

    def reference(self) -> None:
        return None


def open_dataset(name: str, options: Mapping[str, Any], reference_clips: int | None) -> EvalCrafter:
    """Options: root, the folder that holds prompt700.txt."""
    check_options(name, options, ("root",))
    return EvalCrafter(options.get("root"))
