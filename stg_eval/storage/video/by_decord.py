"""Reading by decord, for comparison with what others measured with it."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stg_eval.storage.video.decode import decode
from stg_eval.storage.video.info import UnreadableVideo, VideoInfo


def decode_in_child(path: Path, chunk: int, timeout: float) -> Iterator[Any]:
    """As `decode`, by decord in a process of its own: decord is known to hang, and only a process can be ended.

    decord takes what is cut or damaged for whole, so `decode` reads the file first.
    """
    source = decode(path, chunk)
    info: VideoInfo = next(source)
    shape = (sum(map(len, source)), info.height, info.width, 3)
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(path, chunk, shape, sender), daemon=True)
    child.start()
    sender.close()
    try:
        item: Any = info
        while item is not None:
            yield item
            if not receiver.poll(timeout):
                raise UnreadableVideo(path, f"decord gave no frame within {timeout:g} s; try the reader pyav")
            try:
                item = receiver.recv()
            except EOFError:
                raise UnreadableVideo(path, "decord ended without a word; try the reader pyav") from None
            if isinstance(item, Exception):
                raise item
    finally:
        child.kill()
        child.join()


def _serve(path: Path, chunk: int, shape: tuple[int, ...], sender: Connection) -> None:
    """Send chunks of frames and None at the end, or what was raised; `shape` is that of all frames together."""
    try:
        import decord

        reader = decord.VideoReader(str(path), num_threads=1)
        found = (len(reader), *reader[0].shape)
        if found != shape:
            raise UnreadableVideo(path, f"decord finds frames {list(found)}, and there are {list(shape)}")
        for start in range(0, len(reader), chunk):
            sender.send(reader.get_batch(range(start, min(start + chunk, len(reader)))).asnumpy())
        sender.send(None)
    except UnreadableVideo as error:
        sender.send(error)
    except Exception as error:  # decord raises its own kinds, and bare RuntimeError
        sender.send(UnreadableVideo(path, f"decord: {str(error).strip().splitlines()[0]}"))
