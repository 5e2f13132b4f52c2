"""Video files: write frames, read them back. One decode serves every metric.

Reading is PyAV with one reused reformatter; on 8-bit video the pixels equal OpenCV's and decord's bit for bit. What
would be read differently by different tools (10-bit, rotated) or not wholly (truncated, corrupt) is refused by name.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, cast, get_args

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from stg_eval.storage.walk import Found, find
from stg_eval.types import StgEvalError

Reader = Literal["pyav", "decord"]
CHUNK_BYTES = 64 * 2**20
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v"),
        *(".mkv", ".webm", ".avi", ".divx", ".gif", ".wmv", ".asf", ".flv", ".ogv"),
        *(".mpg", ".mpeg", ".mpe", ".vob", ".ts", ".m2ts", ".mts"),
    }
)
ENCODINGS = {
    "vp9-lossless": "VP9, lossless RGB, in mp4: what is read is what was written; plays in browsers",
    "h264-crf<N>": "H.264 4:2:0 at constant quality N (0 best, 51 worst; 17 looks lossless), in mp4: plays everywhere",
}
"""How clips are stored. Lossy encodings move FVD and IS, so the encoding is part of a request."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip before its frames: from the header, checked against the frames when they are read."""

    path: Path
    num_frames: int | None
    """None where the container has no count (Matroska often has none)."""
    height: int
    width: int
    fps: float
    codec: str
    """Codec and pixel format, e.g. "h264 yuv420p"."""
    bit_rate: float = 0.0
    """Bits of the whole file per second of video: the only trace of the encoder's quality that a file keeps."""


class UnreadableVideo(StgEvalError):
    """A file that cannot be read whole, with the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return UnreadableVideo, (self.path, self.reason)


def write_video(path: Path, frames: np.ndarray, fps: float, encoding: str) -> None:
    """Encode uint8 frames [T, H, W, 3] (RGB) and put the file in place at once: readers see all of it or nothing.

    Raises StgEvalError for an unknown encoding, frames that are not uint8 RGB, a size that the codec would change,
    and a disk that is full or cannot be written.
    """
    data = encode(frames, fps, encoding)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StgEvalError(f"cannot write {path}: {error.strerror}") from error


def encode(frames: np.ndarray, fps: float, encoding: str) -> bytes:
    """An mp4 file in memory; the same input gives the same bytes on any number of cores. See `write_video`."""
    codec, pixel_format, options = _encoder(encoding)
    _check_frames(frames)
    check_format(encoding, fps, *frames.shape[1:3])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace = 0 if pixel_format == "gbrp" else 6  # AVCOL_SPC_RGB, AVCOL_SPC_SMPTE170M
        for array in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def check_format(encoding: str, fps: float, height: int, width: int) -> None:
    """Raises StgEvalError for what `encode` refuses whatever the frames show, so that a plan can refuse it at once."""
    _, pixel_format, _ = _encoder(encoding)
    if not 0 < fps <= 1000:
        raise StgEvalError(f"fps must lie between 0 and 1000, not {fps}")
    if pixel_format == "yuv420p" and (height % 2 or width % 2):
        raise StgEvalError(f"H.264 4:2:0 cannot hold {width}x{height} (odd sides) unchanged; use vp9-lossless")


def check_reader(name: str) -> Reader:
    """`name`, if it is a reader that is installed. Raises StgEvalError."""
    if name not in get_args(Reader):
        raise StgEvalError(f"unknown reader {name!r} (known: {', '.join(get_args(Reader))})")
    if name == "decord" and importlib.util.find_spec("decord") is None:
        raise StgEvalError("the reader decord is not installed; `pip install decord`, or leave --reader out")
    return cast(Reader, name)


def probe(path: Path) -> VideoInfo:
    """Header of a video, with its first frame decoded. Raises UnreadableVideo."""
    return open_video(path)[0]


def read_frames(path: Path, chunk: int = 32, reader: Reader = "pyav") -> Iterator[np.ndarray]:
    """Frames in order, uint8 [t, H, W, 3] (RGB), 1 <= t <= chunk, at most 64 MiB: memory does not grow with the video.

    Each chunk is an array of its own, which may be kept. Raises UnreadableVideo, at the latest behind the last frame:
    the count is compared with the header's.
    """
    return open_video(path, chunk, reader)[1]


def read_video(path: Path, reader: Reader = "pyav") -> np.ndarray:
    """All frames, uint8 [T, H, W, 3] (RGB). Raises UnreadableVideo."""
    return np.concatenate(list(read_frames(path, reader=reader)))


def open_video(path: Path, chunk: int = 32, reader: Reader = "pyav") -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """`probe` and `read_frames` of one opening."""
    source = _decode_in_child(path, chunk, 60.0) if reader == "decord" else _decode(path, chunk)
    info: VideoInfo = next(source)
    return info, source


def count_frames(path: Path) -> int:
    """Pictures in the file, counted without decoding them: for containers whose header has no count."""
    with av.open(str(path)) as container:
        return sum(packet.size > 0 and not packet.is_discard for packet in container.demux(container.streams.video[0]))


def find_videos(place: Path) -> Found:
    """The videos of a folder and its sub-folders, sorted by path, or the one file that `place` is.

    Raises StgEvalError where there are none, and for a name of a video behind which no readable file is.
    """
    if place.is_file():
        return Found([place], "")
    if not place.is_dir():
        raise StgEvalError(f"{place} is not a folder, nor a video")
    found = find(place, VIDEO_SUFFIXES, "a video")
    if not found.files:
        others = f"; there is {found.left_out}" if found.left_out else ""
        raise StgEvalError(f"no videos in {place} (looked for {', '.join(sorted(VIDEO_SUFFIXES))}){others}")
    return found


def _encoder(encoding: str) -> tuple[str, str, dict[str, str]]:
    if encoding == "vp9-lossless":
        return "libvpx-vp9", "gbrp", {"lossless": "1", "deadline": "good", "cpu-used": "4"}
    if (match := re.fullmatch(r"h264-crf(\d+)", encoding)) and int(match[1]) <= 51:
        return "libx264", "yuv420p", {"crf": match[1], "preset": "medium"}
    raise StgEvalError(f"unknown encoding {encoding!r} (known: {', '.join(ENCODINGS)}, for example h264-crf17)")


def _check_frames(frames: np.ndarray) -> None:
    if np.issubdtype(frames.dtype, np.floating) and not np.isfinite(frames).all():
        raise StgEvalError("the frames hold NaN or infinite values; the generator failed, nothing was written")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise StgEvalError(f"frames must be uint8 [T, H, W, 3], not {frames.dtype} {list(frames.shape)}")


def _decode(path: Path, chunk: int) -> Iterator[Any]:
    """First the VideoInfo, then chunks of frames: of the first video stream, as OpenCV."""
    if not path.is_file():
        raise UnreadableVideo(path, "no such file")
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "empty file (0 bytes)")
    seen = packets = skipped = filled = 0
    info: VideoInfo | None = None
    buffer = np.empty(0, np.uint8)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableVideo(path, "holds no video stream")
            stream = container.streams.video[0]
            if stream.width * stream.height < 640 * 360:
                stream.codec_context.thread_count = 1  # starting threads costs more than a small clip
            else:
                stream.thread_type = "AUTO"
            reformatter = VideoReformatter()
            for packet in container.demux(stream):
                packets += packet.size > 0
                skipped += packet.is_discard
                for frame in packet.decode():
                    if info is None:
                        info = _inspect(path, container, stream, frame)
                        yield info
                        chunk = _bounded(chunk, info)
                    if (frame.height, frame.width) != (info.height, info.width):
                        raise UnreadableVideo(path, f"frame size changes at frame {seen}")
                    if frame.is_corrupt:
                        raise UnreadableVideo(path, f"frame {seen} is damaged")
                    if filled == 0:
                        buffer = np.empty((chunk, info.height, info.width, 3), np.uint8)
                    plane: Any = reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
                    rows = np.frombuffer(plane, np.uint8).reshape(info.height, plane.line_size)
                    buffer[filled] = rows[:, : info.width * 3].reshape(info.height, info.width, 3)
                    seen, filled = seen + 1, filled + 1
                    if filled == chunk:
                        yield buffer
                        filled = 0
            expected = stream.frames
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(path, f"damaged: cannot be decoded behind frame {seen} ({error.strerror})") from error
    if info is None:
        raise UnreadableVideo(path, "holds no frames")
    if filled:
        yield buffer[:filled]
    # An edit list discards frames on purpose; MPEG-4 in AVI has packets for pictures that were never coded.
    found = packets if info.codec.startswith("mpeg4") else seen + skipped
    if found < expected:
        raise UnreadableVideo(path, f"truncated: {found} of {expected} frames could be decoded")


def _bounded(chunk: int, info: VideoInfo) -> int:
    return max(1, min(chunk, CHUNK_BYTES // (info.height * info.width * 3)))


def _inspect(path: Path, container: Any, stream: Any, frame: Any) -> VideoInfo:
    if bits := max((c.bits for c in frame.format.components), default=8) - 8:
        raise UnreadableVideo(path, f"{bits + 8}-bit video ({frame.format.name}): tools disagree on it; re-encode to 8")
    if frame.rotation:
        raise UnreadableVideo(path, f"rotated by {frame.rotation} degrees in the header: tools disagree; re-encode it")
    seconds = (container.duration or 0) / av.time_base
    return VideoInfo(
        path=path,
        num_frames=stream.frames or None,
        height=frame.height,
        width=frame.width,
        fps=float(stream.average_rate or stream.guessed_rate or 0),
        codec=f"{stream.codec_context.codec.canonical_name} {frame.format.name}",
        bit_rate=round(8 * path.stat().st_size / seconds) if seconds else 0.0,
    )


def _decode_in_child(path: Path, chunk: int, timeout: float) -> Iterator[Any]:
    """As `_decode`, by decord in a process of its own: decord is known to hang, and only a process can be ended."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_serve_decord, args=(path, chunk, sender), daemon=True)
    child.start()
    sender.close()
    try:
        while True:
            if not receiver.poll(timeout):
                raise UnreadableVideo(path, f"decord gave no frame within {timeout:g} s; try the reader pyav")
            try:
                item = receiver.recv()
            except EOFError:
                raise UnreadableVideo(path, "decord ended without a word; try the reader pyav") from None
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item
    finally:
        child.kill()
        child.join()


def _serve_decord(path: Path, chunk: int, sender: Connection) -> None:
    try:
        import decord

        info = probe(path)
        reader = decord.VideoReader(str(path), num_threads=1)
        if reader[0].shape != (info.height, info.width, 3):
            raise UnreadableVideo(path, "has several video streams and decord takes another than the first")
        sender.send(info)
        chunk = _bounded(chunk, info)
        for start in range(0, len(reader), chunk):
            sender.send(reader.get_batch(range(start, min(start + chunk, len(reader)))).asnumpy())
        sender.send(None)
    except UnreadableVideo as error:
        sender.send(error)
    except Exception as error:  # decord raises its own kinds, and bare RuntimeError
        sender.send(UnreadableVideo(path, f"decord: {str(error).strip().splitlines()[0]}"))
