"""Pixel rules: bit depth, sign, range, planes, frames, channels, transparency, profiles, each against arithmetic."""

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFilter

from cytolora.config.reading import Decoding
from cytolora.data.imaging.decode import Decoded, decode, decode_image
from cytolora.data.imaging.pixels import DecodeError


def tiff(values: np.ndarray, **options: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    buffer.seek(0)
    return buffer


def read(buffer: io.BytesIO, **choices: Any) -> Decoded:
    return decode_image(buffer, "cell", decoding=Decoding(**choices))


def scaled(values: np.ndarray, top: int) -> np.ndarray:
    """To the nearest of 0 to 255; a gray picture in three channels."""
    eight = np.floor(values.astype(float) * 255 / top + 0.5).astype(np.uint8)
    return eight if eight.ndim == 3 else np.repeat(eight[:, :, None], 3, axis=2)


def noise(*shape: int, dtype: str = "uint16", top: int = 65536, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(["uint8", "uint16"]),
    colour=st.sampled_from(["gray", "white", "rgb", "planar", "alpha"]),
    order=st.sampled_from("<>"),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    layout=st.sampled_from([{}, {"rowsperstrip": 3}, {"tile": (16, 16)}]),
    compression=st.sampled_from([None, "lzw", "deflate", "packbits"]),
    predictor=st.booleans(),
    is_big=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_tiff_decodes_to_its_own_values(dtype, colour, order, size, layout, compression, predictor, is_big, seed):
    top = np.iinfo(dtype).max
    channels = {"gray": (), "white": (), "rgb": (3,), "planar": (3,), "alpha": (4,)}[colour]
    values = noise(*size, *channels, dtype=dtype, top=top + 1, seed=seed)
    written, options = values, dict(layout, compression=compression, byteorder=order, bigtiff=is_big)
    if predictor and compression in ("lzw", "deflate"):
        options["predictor"] = True
    match colour:
        case "gray":
            options["photometric"], expected = "minisblack", scaled(values, top)
        case "white":
            options["photometric"], expected = "miniswhite", 255 - scaled(values, top)
        case "rgb":
            options["photometric"], expected = "rgb", scaled(values, top)
        case "planar":
            written = values.transpose(2, 0, 1)
            options |= {"photometric": "rgb", "planarconfig": "separate"}
            expected = scaled(values, top)
        case _:
            values[..., 3] = top
            options |= {"photometric": "rgb", "extrasamples": ["unassalpha"]}
            expected = scaled(values[..., :3], top)
    np.testing.assert_array_equal(read(tiff(written, **options)).pixels, expected)


@settings(max_examples=30)
@given(
    channels=st.sampled_from([1, 2, 3, 4]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    top=st.sampled_from([65535, 4095]),
    seed=st.integers(0, 2**31),
)
def test_a_png_of_16_bits_decodes_to_its_own_values(channels, size, top, seed):
    values = noise(*size, channels, top=top + 1, seed=seed)
    if channels in (2, 4):
        values[..., -1] = 65535
    written = values[..., 0] if channels == 1 else values
    decoded = read(io.BytesIO(imagecodecs.png_encode(np.ascontiguousarray(written))))
    colours = values[..., :1] if channels < 3 else values[..., :3]
    np.testing.assert_array_equal(decoded.pixels, np.broadcast_to(scaled(colours, 65535), decoded.pixels.shape))
    assert "16-bit" in decoded.conversion


@pytest.mark.parametrize("bits", [1, 2, 4, 9, 10, 12, 14, 16])
def test_every_bit_depth_is_scaled_by_its_own_highest_value(bits: int):
    top = 2**bits - 1
    values = noise(8, 16, dtype="uint8" if bits <= 8 else "uint16", top=top + 1)
    if bits <= 4:  # Pillow's and tifffile's packing of these is written by hand: the highest bits come first
        packed = np.packbits(
            np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - bits :].reshape(8, -1), axis=1
        ).tobytes()
        buffer = hand_written(16, 8, bits, packed)
    else:
        buffer = tiff(values, photometric="minisblack", **({"bitspersample": bits} if bits < 16 else {}))
    np.testing.assert_array_equal(read(buffer).pixels, scaled(values, top))


def hand_written(width: int, height: int, bits: int, strip: bytes, *tags: tuple[int, int]) -> io.BytesIO:
    """A gray TIFF of one strip, from the specification (TIFF 6.0, section 3)."""
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries = sorted([*entries, (279, len(strip)), *tags])
    directory = len(entries).to_bytes(2, "little") + b"".join(
        code.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for code, value in entries
    )
    at = 8 + len(strip) + len(strip) % 2
    body = strip + bytes(len(strip) % 2) + directory + bytes(4)
    return io.BytesIO(b"II*\0" + at.to_bytes(4, "little") + body)


@pytest.mark.parametrize(
    ("declared", "highest", "top"),
    [(4095, 4000, 4095), (1023, 1023, 1023), (4095, 5000, 65535), (3211, 3000, 65535), (65535, 4000, 65535)],
)
def test_max_sample_value_counts_where_it_is_that_of_a_bit_depth_and_true(declared: int, highest: int, top: int):
    values = noise(6, 5, top=highest)
    values[0, 0] = highest
    found = read(tiff(values, photometric="minisblack", extratags=[(281, "H", 1, declared, True)]))
    np.testing.assert_array_equal(found.pixels, scaled(values, top))


@pytest.mark.parametrize("top", [255, 1023, 4095, 16383])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_used_range_fills_what_a_camera_of_fewer_bits_left_dark(top: int, channels: int):
    values = noise(6, 5, channels, top=top + 1)
    values[0, 0] = top
    written = {"photometric": "rgb" if channels == 3 else "minisblack"}
    buffer = tiff(values if channels == 3 else values[..., 0], **written)
    full, used = read(buffer), read(buffer, value_range="used")
    assert full.used_share == pytest.approx(top / 65535)
    assert full.pixels.max() <= round(255 * top / 65535)
    np.testing.assert_array_equal(used.pixels, np.broadcast_to(scaled(values, top), used.pixels.shape))


def test_samples_with_a_sign_are_scaled_by_what_they_can_reach_and_refused_below_zero():
    values = noise(6, 5, dtype="int16", top=32768)
    np.testing.assert_array_equal(read(tiff(values, photometric="minisblack")).pixels, scaled(values, 32767))
    small = noise(6, 5, dtype="int8", top=128)
    np.testing.assert_array_equal(read(tiff(small, photometric="minisblack")).pixels, scaled(small, 127))
    for below in (-1 - values, -1 - small):
        with pytest.raises(DecodeError, match=r"signed samples down to -\d+"):
            read(tiff(below.astype(below.dtype), photometric="minisblack"))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_floating_point_is_refused_in_gray_and_in_colour(dtype: str):
    for shape, photometric in (((4, 5), "minisblack"), ((4, 5, 3), "rgb")):
        with pytest.raises(DecodeError, match="floating-point pixels have no fixed range"):
            read(tiff(np.ones(shape, dtype), photometric=photometric))


def blurred(planes: int, sharp: int, seed: int = 0) -> np.ndarray:
    """Focal planes of one drawn cell, with the noise of a camera; one is in focus."""
    random = np.random.default_rng(seed)
    yy, xx = np.mgrid[:48, :48]
    cell = np.full((48, 48, 3), 225, np.uint8)
    cell[(xx - 24) ** 2 + (yy - 24) ** 2 < 400] = (190, 150, 190)
    cell[(xx - 26) ** 2 + (yy - 22) ** 2 < 60] = (80, 50, 120)
    stack = []
    for plane in range(planes):
        radius = 3 * abs(plane - sharp)
        image = np.asarray(Image.fromarray(cell).filter(ImageFilter.GaussianBlur(radius))).astype(float)
        stack.append(np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8))
    return np.stack(stack)


@pytest.mark.parametrize("sharp", range(5))
def test_the_sharpest_frame_is_the_one_in_focus(sharp: int):
    planes = blurred(5, sharp, seed=sharp)
    found = read(tiff(planes, photometric="rgb"), frame="sharpest")
    np.testing.assert_array_equal(found.pixels, planes[sharp])
    assert found.conversion == "sharpest of 5 frames"


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("description", [{}, {"imagej": True}, {"ome": True}, {"metadata": None}])
def test_frames_are_read_by_number_middle_and_maximum(dtype: str, channels: int, description: dict):
    if description.get("imagej") and channels == 3 and dtype == "uint16":
        pytest.skip("ImageJ has no 16-bit RGB")
    top = np.iinfo(dtype).max
    planes = noise(4, 9, 8, *([3] * (channels == 3)), dtype=dtype, top=top + 1)
    axes = {} if "metadata" in description else {"metadata": {"axes": "ZYXS" if channels == 3 else "ZYX"}}
    buffer = tiff(planes, photometric="rgb" if channels == 3 else "minisblack", **description, **axes)
    for number in range(4):
        np.testing.assert_array_equal(read(buffer, frame=number).pixels, scaled(planes[number], top))
    np.testing.assert_array_equal(read(buffer, frame="middle").pixels, scaled(planes[2], top))
    np.testing.assert_array_equal(read(buffer, frame="max").pixels, scaled(planes.max(axis=0), top))
    with pytest.raises(DecodeError, match="4 frames, and frame 4 was chosen"):
        read(buffer, frame=4)
    with pytest.raises(DecodeError, match=r"it holds 4 f.*nothing says which is meant; choose with --frame") as caught:
        read(buffer)
    assert caught.value.code == "P104"


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("description", [{"imagej": True}, {"ome": True}, {}])
def test_three_declared_channels_are_one_colour_picture(dtype: str, description: dict):
    top = np.iinfo(dtype).max
    planes = noise(3, 9, 8, dtype=dtype, top=top + 1)
    found = read(tiff(planes, photometric="minisblack", metadata={"axes": "CYX"}, **description))
    np.testing.assert_array_equal(found.pixels, scaled(planes.transpose(1, 2, 0), top))
    assert "three channels merged as red, green and blue" in found.conversion


def test_channels_of_stains_are_no_colours():
    options = {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}
    with pytest.raises(DecodeError, match="3 channels"):
        read(tiff(noise(3, 9, 8), photometric="minisblack", ome=True, metadata=options))


@pytest.mark.parametrize("count", [2, 4, 5])
def test_other_numbers_of_channels_leave_a_choice(count: int):
    buffer = tiff(noise(count, 9, 8), photometric="minisblack", imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(DecodeError, match=f"it holds {count} channels"):
        read(buffer)
    np.testing.assert_array_equal(read(buffer, frame=1).pixels, scaled(noise(count, 9, 8)[1], 65535))


def test_thumbnails_and_pyramids_are_no_frames_wherever_they_stand():
    picture = blurred(1, 0)[0].repeat(4, axis=0).repeat(4, axis=1)
    small = np.asarray(Image.fromarray(picture).resize((48, 48), Image.Resampling.BOX))
    for order in ((picture, small), (small, picture), (small, picture, small[::2, ::2])):
        for flagged in (True, False):
            buffer = io.BytesIO()
            with tifffile.TiffWriter(buffer) as writer:
                for page in order:
                    kind = 1 if flagged and page is not picture else 0
                    writer.write(page, photometric="rgb", subfiletype=kind, metadata=None)
            buffer.seek(0)
            found = read(buffer)
            np.testing.assert_array_equal(found.pixels, picture)
            assert "reduced cop" in found.conversion


def test_smaller_pages_of_another_picture_are_frames():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(noise(64, 64, 3, dtype="uint8", top=256), photometric="rgb", metadata=None)
        writer.write(noise(32, 32, 3, dtype="uint8", top=256, seed=1), photometric="rgb", metadata=None)
    buffer.seek(0)
    with pytest.raises(DecodeError, match="2 frames"):
        read(buffer)
    with pytest.raises(DecodeError, match="frames of different sizes have no maximum"):
        read(buffer, frame="max")
    assert read(buffer, frame=1).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_animations_and_second_pictures_are_named_and_the_first_is_read(kind: str):
    pages = [Image.fromarray(blurred(1, 0, seed=seed)[0]) for seed in (0, 1)]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"webp": {"lossless": True}}.get(kind, {})
    pages[0].save(buffer, "MPO" if kind == "jpeg" else kind, save_all=True, append_images=pages[1:], **options)
    found = read(buffer)
    assert "first" in found.conversion
    assert np.abs(found.pixels.astype(int) - np.asarray(pages[0])).mean() < (8 if kind == "jpeg" else 0.01)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF 16", "PNG 16", "palette"])
def test_an_image_that_is_transparent_everywhere_is_refused(kind: str):
    values = noise(8, 9, 4, dtype="uint16" if "16" in kind else "uint8", top=256)
    values[..., 3] = 0
    buffer = io.BytesIO()
    match kind:
        case "TIFF 16":
            tifffile.imwrite(buffer, values, photometric="rgb", extrasamples=["unassalpha"])
        case "PNG 16":
            buffer.write(imagecodecs.png_encode(values))
        case "palette":
            image = Image.new("P", (9, 8))
            image.putpalette([10, 20, 30] * 4)
            image.putdata([number % 4 for number in range(72)])
            image.save(buffer, "PNG", transparency=bytes(4))
        case _:
            Image.fromarray(values).save(buffer, kind)
    buffer.seek(0)
    with pytest.raises(DecodeError, match="every pixel is transparent; save it without an alpha channel") as caught:
        read(buffer)
    assert caught.value.code == "P106"


def test_transparency_of_16_bits_lies_on_white():
    values = np.array([[[0, 257 * 20, 65535, 65535], [0, 0, 0, 0], [0, 0, 0, 257 * 128]]], np.uint16)
    expected = [[[0, 20, 255], [255, 255, 255], [127, 127, 127]]]
    assert read(tiff(values, photometric="rgb", extrasamples=["unassalpha"])).pixels.tolist() == expected
    assert read(io.BytesIO(imagecodecs.png_encode(values))).pixels.tolist() == expected


def wide_profile() -> bytes:
    """sRGB primaries turned round: red becomes what blue is."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 1], profile[blue : blue + 1] = b"b", b"r"
    return bytes(profile)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_colour_profile_is_named_and_applied_only_when_asked_for(kind: str):
    values = np.full((16, 16, 3), (200, 60, 40), np.uint8)
    buffer = io.BytesIO()
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    Image.fromarray(values).save(buffer, kind, icc_profile=wide_profile(), **options)
    ignored, converted = read(buffer), read(buffer, icc="srgb")
    assert ignored.has_profile
    assert np.abs(ignored.pixels.astype(int) - values).max() <= 2
    assert (converted.has_profile, converted.conversion) == (False, "colour profile, converted to sRGB")
    assert np.abs(converted.pixels.astype(int) - values[..., ::-1]).max() <= 3


def test_a_damaged_profile_is_an_error_only_when_it_is_to_be_applied():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (1, 2, 3)).save(buffer, "PNG", icc_profile=b"no profile at all")
    assert read(buffer).pixels[0, 0].tolist() == [1, 2, 3]
    with pytest.raises(DecodeError, match="its colour profile cannot be applied"):
        read(buffer, icc="srgb")


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
def test_deep_tiffs_are_upright(orientation: int, turn: int):
    values = noise(5, 7, 3)
    found = read(tiff(values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)]))
    np.testing.assert_array_equal(found.pixels, np.rot90(scaled(values, 65535), turn))


def test_sizes_are_looked_at_before_anything_is_allocated(tmp_path: Path):
    huge = hand_written(60_000, 60_000, 16, bytes(8))
    with pytest.raises(DecodeError, match="60000 x 60000 pixels, at most 89,478,485"):
        read(huge)
    with pytest.raises(DecodeError, match="at most 100 are read"):
        decode(tiff(noise(11, 10), photometric="minisblack"), "cell", max_pixels=100)


def test_frames_and_samples_count_towards_the_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cytolora.data.imaging.pixels.MAX_BYTES", 9 * 8 * 2 * 3)
    assert read(tiff(noise(3, 9, 8), photometric="minisblack"), frame=1).pixels.shape == (9, 8, 3)
    with pytest.raises(DecodeError, match="its frames and samples take 576 bytes, at most 432"):
        read(tiff(noise(4, 9, 8), photometric="minisblack"), frame=1)


def test_directories_that_follow_each_other_in_a_circle_are_refused_at_once():
    content = bytearray(tiff(noise(2, 9, 8), photometric="minisblack", byteorder="<").getvalue())
    first = int.from_bytes(content[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
    content[after : after + 4] = first.to_bytes(4, "little")
    with pytest.raises(DecodeError, match="as an image: "):
        read(io.BytesIO(bytes(content)))
