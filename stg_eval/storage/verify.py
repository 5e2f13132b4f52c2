"""Every clip of a store is compared with the digest that was recorded when it was stored."""

from __future__ import annotations

from stg_eval.storage.store import Store, damage


def verify(store: Store) -> tuple[int, list[str]]:
    """Return the number of clips looked at, and a line for each whose file is gone or changed. Those that changed are
    set aside, so that the `stg-eval run` that made them makes them again."""
    count, problems = 0, []
    for clip in store.all_clips():
        count += 1
        if problem := damage(store.path / clip.file, clip.sha256):
            problems.append(f"{store.path / clip.file}: {problem}")
            store.set_aside([clip.key])
    return count, problems
