"""A checkpoint as it was published: source, digest, size and licence. Rows stand in the files of whoever loads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One checkpoint: a file on the hub (`repo`), several (`files`), or a file behind a URL, perhaps inside a zip."""

    name: str
    needed_by: str
    """The metric or model that loads it."""
    licence: str
    size: int
    """Bytes; rounded where the publisher's exact number is not known, 0 where nothing is."""
    sha256: str | None = None
    """Of the file. None: not published, so the digest of the first fetch is kept and checked from then on."""
    repo: str | None = None
    revision: str | None = None
    """Commit on the hub; None: the newest one."""
    file: str = ""
    """Path inside the repo or the zip, else the name of the file."""
    files: tuple[str, ...] = ()
    """Patterns of a whole pipeline's files, which models load from the hub's cache; `weights.require` gives the folder.
    Each network has a pattern of its own, and each pattern a file in the repo, but for `*.index.json`: indices of
    shards, which are there only where a network was cut into shards."""
    url: str | None = None
    zip_sha256: str | None = None
    """Digest of the archive at `url` that holds `file`."""

    @property
    def source(self) -> str:
        """The hub id with its revision, as requests name a checkpoint: "owner/name@revision", or the bare id where no
        revision is pinned."""
        return f"{self.repo}@{self.revision}" if self.revision else str(self.repo)


def size(row: Weight) -> str:
    """Say how large the download is, for people: "2.0 GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if row.size >= factor:
            return f"{row.size / factor:.1f} {unit}"
    return f"{row.size / 1e3:.1f} kB" if row.size else "size not published"


def digest(row: Weight) -> str:
    """Say what the file's digest is checked against, for people: "SHA-256 40d365715913c9da"."""
    if published := row.sha256 or row.zip_sha256:
        return f"SHA-256 {published[:16]}" + ("" if row.sha256 else " of its zip")
    return "SHA-256 by the hub" if row.repo else "SHA-256 of the first fetch"
