"""One way from file to pixels: whatever holds the same picture gives the same pixels."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from edge_fgr import image
from edge_fgr.contract import Geometry
from edge_fgr.errors import ImageError, UsageError
from golden.make_golden import pixel_digest
from pictures import opened

GEOMETRY = Geometry(size=64, short_side=72)
ORIENTATION = 0x0112


def large_jpeg(photo: Path, tmp_path: Path) -> Path:
    """Enlarge a photo so that scaled decoding has something to do."""
    path = tmp_path / "large.jpg"
    opened(photo).resize((1600, 1200)).save(path, quality=92)
    return path


def test_path_bytes_and_unread_picture_agree(photos, tmp_path):
    for path in (*photos[:4], large_jpeg(photos[0], tmp_path)):
        expected = image.load(path, GEOMETRY)
        assert expected.shape == (64, 64, 3) and expected.dtype == np.uint8
        assert expected.flags.c_contiguous
        np.testing.assert_array_equal(image.load(str(path), GEOMETRY), expected)
        np.testing.assert_array_equal(image.load(path.read_bytes(), GEOMETRY), expected)
        with Image.open(path) as unread:
            np.testing.assert_array_equal(image.load(unread, GEOMETRY), expected)
        with Image.open(io.BytesIO(path.read_bytes())) as unread:
            np.testing.assert_array_equal(image.load(unread, GEOMETRY), expected)


def test_loaded_picture_and_arrays_only_skip_scaled_decoding(photos, tmp_path):
    whole = Geometry(size=64, short_side=72, scaled_decode=0)
    path = large_jpeg(photos[0], tmp_path)
    expected = image.load(path, whole)
    with Image.open(path) as picture:
        picture.load()
        np.testing.assert_array_equal(image.load(picture, GEOMETRY), expected)
        array = np.asarray(picture)
    np.testing.assert_array_equal(image.load(array, GEOMETRY, channels="rgb"), expected)
    np.testing.assert_array_equal(image.load(array[:, :, ::-1], GEOMETRY, channels="bgr"), expected)


def test_changes_to_a_read_picture_are_seen(photos):
    with Image.open(photos[0]) as picture:
        picture.load()
        picture.paste("red", (0, 0, *picture.size))
        assert (image.load(picture, GEOMETRY) == (255, 0, 0)).all()


def test_scaled_decoding_is_used_and_close(photos, tmp_path):
    path = large_jpeg(photos[0], tmp_path)
    assert min(image.read(path, GEOMETRY).size) == 150  # 1200 / 8 >= 2 * 72
    assert min(image.read(path, GEOMETRY, roi=(0.25, 0.25, 0.75, 0.75)).size) == 300
    assert min(image.read(path, Geometry(size=64, scaled_decode=0)).size) == 1200
    fast = image.load(path, GEOMETRY).astype(int)
    full = image.load(path, Geometry(size=64, short_side=72, scaled_decode=0)).astype(int)
    assert 0 < np.abs(fast - full).mean() < 2.0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured_for_all_that_carry_it(photos, tmp_path, orientation):
    upright = opened(photos[0])
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, 1)
    exif = Image.Exif()
    exif[ORIENTATION] = undo
    turned = upright.copy()
    turned.info.pop("exif", None)
    turned.getexif()[ORIENTATION] = undo
    turned = ImageOps.exif_transpose(turned)
    exif[ORIENTATION] = orientation
    path = tmp_path / "turned.png"
    turned.save(path, exif=exif)
    expected = image.load(np.asarray(upright), GEOMETRY, channels="rgb")
    np.testing.assert_array_equal(image.load(path, GEOMETRY), expected)
    np.testing.assert_array_equal(image.load(path.read_bytes(), GEOMETRY), expected)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(image.load(picture, GEOMETRY), expected)
        picture.load()
        np.testing.assert_array_equal(image.load(picture, GEOMETRY), expected)
    if orientation > 1:
        ignoring = image.load(path, Geometry(size=64, short_side=72, exif="ignore"))
        assert not np.array_equal(ignoring, expected)


def test_broken_exif_means_no_turn(photos):
    with Image.open(photos[0]) as picture:
        out = io.BytesIO()
        picture.save(out, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    plain = opened(photos[0])
    expected = image.load(np.asarray(plain), GEOMETRY, channels="rgb")
    np.testing.assert_array_equal(image.load(out.getvalue(), GEOMETRY), expected)


def test_mono_arrays_and_their_scaling(photos):
    gray8 = np.asarray(opened(photos[0]).convert("L"))
    expected = image.load(np.stack([gray8] * 3, axis=2), GEOMETRY, channels="rgb")
    np.testing.assert_array_equal(image.load(gray8, GEOMETRY), expected)
    np.testing.assert_array_equal(image.load(gray8[:, :, None], GEOMETRY), expected)
    gray16 = gray8.astype(np.uint16) * 257  # 65535 is to 16 bits what 255 is to 8
    np.testing.assert_array_equal(image.load(gray16, GEOMETRY), expected)
    between = gray16 + (gray8 < 255) * np.uint16(127)  # rounds down to the same step
    np.testing.assert_array_equal(image.load(between, GEOMETRY), expected)


def test_16_bit_png_is_scaled_like_the_array(photos, tmp_path):
    gray16 = np.asarray(opened(photos[0]).convert("L")).astype(np.uint16) * 257
    path = tmp_path / "sixteen.png"
    Image.fromarray(gray16).save(path)
    np.testing.assert_array_equal(image.load(path, GEOMETRY), image.load(gray16, GEOMETRY))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "1", "YCbCr"])
def test_other_modes(photos, mode):
    with Image.open(photos[0]) as picture:
        pixels = image.load(picture.convert(mode), GEOMETRY).astype(int)
        reference = image.load(picture.convert("L"), GEOMETRY).astype(int)
    assert np.corrcoef(pixels.ravel(), reference.ravel())[0, 1] > 0.4


def test_transparency_is_laid_over_white(photos, tmp_path):
    with Image.open(photos[0]) as picture:
        clear = picture.convert("RGBA")
    clear.putalpha(0)
    assert (image.load(clear, GEOMETRY) == 255).all()
    path = tmp_path / "palette.png"
    clear.convert("P").save(path, transparency=bytes(256))
    assert (image.load(path, GEOMETRY) == 255).all()


def test_region_of_interest_is_a_cut(photos):
    picture = opened(photos[0]).resize((400, 400))
    pixels = image.load(picture, GEOMETRY, roi=(0.25, 0.5, 0.75, 1.0))
    cut = np.asarray(picture)[200:400, 100:300]
    # The same filter at another offset: coefficients may round differently by one step.
    expected = image.load(cut, GEOMETRY, channels="rgb")
    np.testing.assert_allclose(pixels.astype(int), expected.astype(int), atol=1)
    fixed = Geometry(size=64, short_side=72, roi=(0.25, 0.5, 0.75, 1.0))
    np.testing.assert_array_equal(image.load(picture, fixed), pixels)
    whole = image.load(picture, fixed, roi=(0, 0, 1, 1))  # a call's region replaces the model's
    np.testing.assert_array_equal(whole, image.load(picture, GEOMETRY))


def test_stretch_and_short_side():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 255
    short = image.load(wide, Geometry(size=40), channels="rgb")
    stretched = image.load(wide, Geometry(size=40, resize="stretch"), channels="rgb")
    assert (short == 255).all()
    assert stretched[:, 0].max() == 0 and stretched[:, 20].min() == 255


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((8, 8, 3), np.uint8), UsageError),  # the order of the channels is not said
        (np.zeros((8, 8, 3), np.float32), ImageError),
        (np.zeros((8, 8, 2), np.uint8), ImageError),
        (np.zeros((0, 8), np.uint8), ImageError),
        (np.zeros(8, np.uint8), ImageError),
        (np.zeros((8, 8), np.int64), ImageError),
    ],
)
def test_arrays_that_cannot_be_meant(array, error):
    with pytest.raises(error):
        image.load(array, GEOMETRY)


@pytest.mark.parametrize("roi", [(0.5, 0, 0.5, 1), (0, 0, 1.1, 1), (-0.1, 0, 1, 1), (1, 1, 0, 0)])
def test_regions_that_cannot_be_meant(photos, roi):
    with pytest.raises(UsageError, match="roi"):
        image.load(photos[0], GEOMETRY, roi=roi)


def test_pixels_of_the_golden_photos(photos, clf):
    """File → pixels, to the bit, as on the machine that made the golden values."""
    golden = json.loads((Path(__file__).parent.parent / "golden" / "golden.json").read_text())
    for photo in photos:
        assert pixel_digest(photo, clf.contract.geometry) == golden["photos"][photo.name]["pixels"]
