"""Video files: found, opened, read wholly or refused by name, written."""

from stg_eval.storage.video.find import find_videos
from stg_eval.storage.video.info import Reader, UnreadableVideo, VideoInfo, check_reader
from stg_eval.storage.video.opening import VIDEO_SUFFIXES
from stg_eval.storage.video.read import open_video, probe, read_frames, read_video
from stg_eval.storage.video.write import ENCODINGS, check_format, encode, write_video

__all__ = [
    "ENCODINGS",
    "VIDEO_SUFFIXES",
    "Reader",
    "UnreadableVideo",
    "VideoInfo",
    "check_format",
    "check_reader",
    "encode",
    "find_videos",
    "open_video",
    "probe",
    "read_frames",
    "read_video",
    "write_video",
]
