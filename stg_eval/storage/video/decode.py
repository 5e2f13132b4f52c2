"""One pass over a file: first what it is, then its frames, then whether all of them came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from stg_eval.storage.video.h264 import starts_between
from stg_eval.storage.video.info import UnreadableVideo, VideoInfo
from stg_eval.storage.video.opening import complaints, count_frames, opened
from stg_eval.storage.video.pixels import Conversion

CHUNK_BYTES = 64 * 2**20
SMALL_FRAME = 640 * 360
"""Pixels; starting threads costs more than decoding a small clip."""
ONLY_LOGGED = ("gif", "ffv1")
"""Decoders that find damage, and say so in the log alone: they run in one thread, where we hear it."""


def decode(path: Path, chunk: int) -> Iterator[Any]:
    """Yield first the VideoInfo, then chunks of frames: of the first video stream, as OpenCV. Raises
    UnreadableVideo."""
    seen = packets = skipped = lost = filled = 0
    convert: Conversion | None = None
    buffer = np.empty(0, np.uint8)
    with opened(path) as (container, stream):
        expected, counted, notes = count_frames(path, stream)
        codec = stream.codec_context.name
        listen = complaints if codec in ONLY_LOGGED else partial(nullcontext, ())
        source = container.demux(stream)
        first = next(source)
        open_start = codec == "h264" and starts_between(first, stream.codec_context.extradata or b"")
        if open_start or codec in ONLY_LOGGED or stream.width * stream.height < SMALL_FRAME:
            stream.codec_context.thread_count = 1  # threads tell of an error late, and at another packet
        else:
            stream.thread_type = "AUTO"
        for packet in chain((first,), source):
            packets += packet.size > 0
            skipped += packet.is_discard
            leading = open_start and (packet.pts or 0) < (first.pts or 0)
            lost += leading and not packet.is_discard
            if packet.is_corrupt:
                raise UnreadableVideo(path, f"damaged behind frame {seen}")
            try:
                with listen() as logged:
                    frames = packet.decode()
                if logged:
                    raise UnreadableVideo(path, f"damaged behind frame {seen} ({logged[0][2].strip()})")
            except av.FFmpegError as error:
                between = seen == 0 and (open_start or not (packet.is_keyframe or counted))
                if not leading and not between:
                    raise UnreadableVideo(path, f"damaged behind frame {seen} ({error.strerror})") from error
                lost += not leading and not packet.is_discard
                continue
            for frame in frames:
                if convert is None:
                    convert = Conversion(path, frame)
                    if lost:
                        notes.append(
                            f"starts between key frames: its first {lost} pictures need some that are not there"
                        )
                    size = frame.height, frame.width
                    info = _info(path, container, stream, frame, convert, expected - lost, notes)
                    chunk = max(1, min(chunk, CHUNK_BYTES // (info.height * info.width * 3)))
                    yield info
                if (frame.height, frame.width) != size:
                    raise UnreadableVideo(path, f"frame size changes at frame {seen}")
                if frame.is_corrupt:
                    raise UnreadableVideo(path, f"frame {seen} is damaged")
                if filled == 0:
                    buffer = np.empty((chunk, info.height, info.width, 3), np.uint8)
                convert(frame, buffer[filled])
                seen, filled = seen + 1, filled + 1
                if filled == chunk:
                    yield buffer
                    filled = 0
    if convert is None:
        raise UnreadableVideo(path, "none of its pictures can be decoded" if packets else "holds no pictures")
    if filled:
        yield buffer[:filled]
    # An edit list discards frames on purpose; MPEG-4 in AVI has packets for pictures that were never coded.
    found = packets if info.codec.startswith("mpeg4") else seen + skipped + lost
    if counted and found < expected:
        raise UnreadableVideo(path, f"truncated: {found} of {expected} frames could be decoded")


def _info(
    path: Path, container: Any, stream: Any, frame: Any, convert: Conversion, num_frames: int, notes: list[str]
) -> VideoInfo:
    seconds = (container.duration or 0) / av.time_base
    return VideoInfo(
        path=path,
        num_frames=num_frames,
        height=convert.height,
        width=convert.width,
        fps=float(stream.average_rate or stream.guessed_rate or 0),
        codec=f"{stream.codec_context.codec.canonical_name} {frame.format.name}",
        bit_rate=round(8 * path.stat().st_size / seconds) if seconds else 0.0,
        notes=(*convert.notes, *notes),
    )
