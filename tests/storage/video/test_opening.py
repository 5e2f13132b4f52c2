"""What is opened as a video: files of known containers, by their content, and nothing that leads elsewhere."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from stg_eval.storage.video import UnreadableVideo, probe, read_video, write_video

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{clip}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {clip}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{clip}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.fixture
def clip(tmp_path: Path, noise) -> Path:
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "vp9-lossless")
    return path


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_playlists_open_no_other_file(clip, kind, suffix):
    path = clip.with_name(f"list{suffix}")
    path.write_text(PLAYLISTS[kind].format(clip=clip.name))
    with pytest.raises(UnreadableVideo, match=rf"list\{suffix}: (damaged|no video in one of the containers)"):
        probe(path)


@pytest.mark.parametrize("name", ["concat:a|b.mp4", "http:x.mp4", "x%03d.mp4", "data:,x.mp4", "pipe:0", "-"])
def test_a_name_that_looks_like_an_address_is_a_file(clip, noise, monkeypatch, name):
    monkeypatch.chdir(clip.parent)
    clip.rename(name)
    assert np.array_equal(read_video(Path(name)), noise())


def test_a_cover_picture_is_no_video(tmp_path, noise):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 50, 34, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(noise(1)[0], format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(UnreadableVideo, match="holds no video, only a cover picture"):
        probe(path)


def test_a_bad_byte_in_the_metadata_costs_nothing(tmp_path, noise, encode_with):
    path = encode_with(tmp_path / "clip.mp4", noise(), "libx264", "yuv420p")
    data = path.read_bytes()
    at = data.index(b"Lavf")
    path.write_bytes(data[:at] + b"\xff\xfe\x80\xc3" + data[at + 4 :])
    assert len(read_video(path)) == 9


def test_a_header_that_asks_for_too_large_frames_is_refused(tmp_path, noise):
    from PIL import Image

    path = tmp_path / "clip.gif"
    Image.fromarray(noise(1)[0]).save(path)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", 12_000, 12_000)
    path.write_bytes(data)
    with pytest.raises(UnreadableVideo, match="its header asks for frames of 12000x12000"):
        probe(path)


def test_pictures_are_counted_where_the_header_does_not(tmp_path, noise, encode_with):
    path = encode_with(tmp_path / "clip.mkv", noise(), "libx264", "yuv420p")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert probe(path).num_frames == len(read_video(path)) == 9


def test_vp8_pictures_that_are_never_shown_are_not_counted(tmp_path, noise, encode_with):
    plain, path = encode_with(tmp_path / "plain.webm", noise(), "libvpx", "yuv420p"), tmp_path / "clip.webm"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                hidden = av.Packet(bytes([bytes(packet)[0] & ~16]) + bytes(packet)[1:])
                for one in (hidden, packet) if packet.pts else (packet,):
                    one.pts, one.dts, one.time_base = packet.pts, packet.dts, packet.time_base
                    one.stream = stream
                    target.mux_one(one)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux()) == 17
    assert probe(path).num_frames == len(read_video(path)) == 9
