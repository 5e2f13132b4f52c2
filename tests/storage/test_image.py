"""First frames are read as a viewer shows them, whatever the file; an ordinary image is read as ever."""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from stg_eval.storage.image import image_digest, read_image
from stg_eval.types import StgEvalError

RGB = arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def read(data: bytes) -> tuple[np.ndarray, tuple[str, ...], str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        picture = read_image(path)
        return np.asarray(picture.pixels), picture.changes, image_digest(path)


def refusal(data: bytes) -> str:
    with pytest.raises(StgEvalError, match="does not decode as an image") as error:
        read(data)
    assert "\n" not in str(error.value)
    return str(error.value)


@given(RGB, st.sampled_from(["PNG", "BMP", "TIFF", "WEBP"]))
def test_an_ordinary_image_keeps_its_pixels_and_is_identified_by_its_file(pixels: np.ndarray, kind: str) -> None:
    data = saved(Image.fromarray(pixels), kind, **({"lossless": True} if kind == "WEBP" else {}))
    found, changes, digest = read(data)
    assert (found == pixels).all()
    assert (changes, digest) == ((), hashlib.sha256(data).hexdigest())


@given(RGB, st.integers(1, 8))
def test_an_image_is_turned_upright_as_opencv_turns_it(pixels: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)), "JPEG", quality=100, exif=exif, subsampling=0)
    found, changes, digest = read(data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # turns by EXIF itself
    assert found.shape == decoded.shape
    assert np.abs(found.astype(int) - decoded[..., ::-1]).max() <= 2
    assert changes == (() if orientation == 1 else ("turned upright",))
    assert (digest == hashlib.sha256(data).hexdigest()) == (orientation == 1)


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_16_bits_become_the_8_upper_ones_in_grey_and_in_colour(pixels: np.ndarray) -> None:
    grey = cv2.imencode(".png", pixels)[1].tobytes()
    colour = cv2.imencode(".png", np.stack([pixels] * 3, -1))[1].tobytes()
    for data in (grey, colour):
        assert (read(data)[0] == (pixels >> 8)[..., None]).all()
    assert read(grey)[1] == ("brought from 16 to 8 bit",)


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(4))))
def test_what_is_transparent_lies_on_white(pixels: np.ndarray) -> None:
    found, changes, _ = read(saved(Image.fromarray(pixels)))
    alpha = pixels[..., 3:] / 255
    assert np.abs(found - (pixels[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1
    assert changes == (("laid on white",) if alpha.min() < 1 else ())


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_opaque_images_of_other_modes_are_read_as_ever(mode: str) -> None:
    image = Image.effect_noise((8, 6), 50).convert("RGB").convert(mode)
    data = saved(image, "TIFF" if mode == "CMYK" else "PNG")
    found, changes, digest = read(data)
    assert (found == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert (changes, digest) == ((), hashlib.sha256(data).hexdigest())


def test_a_transparent_colour_of_a_palette_lies_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found, changes, _ = read(saved(image, "PNG", transparency=0))
    assert found.tolist() == [[[255] * 3, [40, 50, 60]]]
    assert changes == ("laid on white",)


def test_a_phone_s_jpeg_with_other_views_behind_the_picture_is_the_picture() -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    found, changes, _ = read(saved(first, "MPO", save_all=True, append_images=[second]))
    assert found[0, 0, 0] > 200
    assert changes == ()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_what_has_no_one_right_picture_is_refused() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        assert "holds 2 pictures" in refusal(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert "32 bits a channel" in refusal(saved(Image.new("F", (4, 4)), "TIFF"))
    assert "32 bits a channel" in refusal(saved(Image.new("I", (4, 4)), "TIFF"))
    huge = png((b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    assert "pixels" in refusal(huge), "a bomb is refused before it is unpacked"


@settings(max_examples=60)
@given(st.data())
def test_a_cut_or_damaged_image_is_an_image_or_one_line(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    whole = bytearray(saved(Image.fromarray(pixels), kind))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        refusal(bytes(whole[: at // 2]))
        return
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        read(bytes(whole))
    except StgEvalError:
        refusal(bytes(whole))
