"""Opening a video file: which containers, which stream, how many pictures, and whether its end is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from stg_eval.storage.video.ends import ending
from stg_eval.storage.video.info import UnreadableVideo
from stg_eval.storage.video.parts import Broken

SUFFIXES_OF = {
    "mov": (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v"),
    "matroska": (".mkv", ".webm"),
    "avi": (".avi", ".divx"),
    "gif": (".gif",),
    "asf": (".wmv", ".asf"),
    "flv": (".flv",),
    "mpegts": (".ts", ".m2ts", ".mts"),
    "mpeg": (".mpg", ".mpeg", ".mpe", ".vob"),
    "mpegvideo": (".m1v", ".m2v"),
    "ogg": (".ogv",),
}
"""libav's name of a container -> how its files are named. No other is opened, whatever its name: playlists (HLS,
ffconcat) would open further files."""
VIDEO_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)
MAX_PIXELS = 1 << 27
"""Of a frame, so that a damaged header cannot ask for any amount of memory: 16K video has as many."""
OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(SUFFIXES_OF),
    "err_detect": "crccheck",
}
# What a decoder notices is an error; otherwise most hide it behind pixels of their own making.
DECODER_OPTIONS = {"err_detect": "crccheck+bitstream+buffer+explode"}
_listening = RLock()
CANNOT_TELL = "nothing in the file shows where it ends, so it may have been cut"


@contextmanager
def complaints() -> Iterator[list[Any]]:
    """The errors that libav logs in this thread inside the block, (level, who, text): what it does not raise."""
    import av

    with _listening:  # one thread at a time: the level is that of all
        before, skipped = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)  # the second file with the same fault says the same
        try:
            with av.logging.Capture(True) as found:
                yield found
        finally:
            av.logging.set_skip_repeated(skipped)
            av.logging.set_level(before)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, cover pictures not counted. Raises UnreadableVideo, with the reason,
    for whatever is raised inside the block."""
    import av  # late: who plans or resumes a run opens no video

    try:
        if os.path.getsize(path) == 0:
            raise UnreadableVideo(path, "empty file (0 bytes)")
        with av.open(f"file:{path}", container_options=OPTIONS, metadata_errors="replace") as container:
            yield container, _first_stream(path, container)
    except UnreadableVideo:
        raise
    except FileNotFoundError as error:
        raise UnreadableVideo(path, "no such file") from error
    except av.ArgumentError as error:  # what libav says of a container that is not on the list
        kinds = ", ".join(SUFFIXES_OF)
        raise UnreadableVideo(path, f"no video in one of the containers read here ({kinds})") from error
    except Exception as error:  # on damaged files PyAV raises IndexError, AttributeError, UnicodeDecodeError, ..., too
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UnreadableVideo(path, f"damaged: cannot be decoded ({reason})") from error


def _first_stream(path: Path, container: Any) -> Any:
    import av

    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise UnreadableVideo(path, f"holds no video{', only a cover picture' if container.streams.video else ''}")
    if streams[0].codec_context is None:
        raise UnreadableVideo(path, "its codec is not known here; re-encode it")
    if streams[0].width * streams[0].height > MAX_PIXELS:
        raise UnreadableVideo(path, f"its header asks for frames of {streams[0].width}x{streams[0].height}")
    streams[0].codec_context.options = DECODER_OPTIONS
    return streams[0]


def count_frames(path: Path, stream: Any) -> tuple[int, bool, list[str]]:
    """Say how many pictures the file has, whether its header says so, and notes on it. Raises UnreadableVideo for a
    file that was cut."""
    try:
        end = ending(path)
    except Broken as broken:
        raise UnreadableVideo(path, str(broken)) from None
    if stream.frames and end.counted:
        indexed = len(stream.index_entries) if end.shown and stream.container.format.name == "avi" else 0
        # AVI counts the pictures, too, in whose place the one before is shown again; its index does not.
        return min(stream.frames, indexed or stream.frames), True, [] if end.shown else [CANNOT_TELL]
    pictures, seconds, picture = _survey(path, stream.index)
    if end.shown or end.seconds is None:
        return pictures, False, [] if end.shown else [CANNOT_TELL]
    if end.seconds - seconds > max(0.5, 3 * picture):
        raise UnreadableVideo(path, f"cut: its header says {end.seconds:.2f} s, and it ends at {seconds:.2f} s")
    return pictures, False, [] if end.seconds - seconds < picture / 2 else [CANNOT_TELL]


def _survey(path: Path, index: int) -> tuple[int, float, float]:
    """Return pictures in a stream, counted without decoding, where the last packet of all streams ends, and how long
    one picture is shown, in seconds. Raises UnreadableVideo for what the container's own checks find."""
    pictures, last, picture = 0, 0.0, 0.0
    with complaints() as found, opened(path) as (container, _):
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == index and packet.size > 0 and not packet.is_discard:
                pictures += not _is_hidden(packet)
                picture = float((packet.duration or 0) * packet.time_base)
        for _, who, text in found:
            if who == container.format.name:
                raise UnreadableVideo(path, f"damaged: {text.strip()}")
    return pictures, last, picture


def _is_hidden(packet: Any) -> bool:
    """VP8 keeps pictures that are only referred to in packets of their own (RFC 6386, 9.1)."""
    return packet.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 16
