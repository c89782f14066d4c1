"""Pictures at fault are told from good ones: real photographs, darkened, blurred, overexposed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from edge_fgr.quality import Inspector, Limits, blur_of
from pictures import opened


def exposed(photo: Image.Image, stops: float) -> Image.Image:
    """As the photo would be with so many stops more light, clipped like a sensor's."""
    light = (np.asarray(photo, np.float32) / 255) ** 2.2 * 2**stops
    return Image.fromarray((np.clip(light, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8))


def blurred(photo: Image.Image, radius: float) -> Image.Image:
    """Gaussian, the radius in pixels of a picture whose short side is 256."""
    return photo.filter(ImageFilter.GaussianBlur(radius * min(photo.size) / 256))


def faults(pictures) -> set[str | None]:
    return {Inspector().inspect(picture).fault for picture in pictures}


@pytest.fixture(scope="module")
def pictures(photos) -> list[Image.Image]:
    return [opened(photo).convert("RGB") for photo in photos]


def test_good_photos_are_good(pictures):
    assert faults(pictures) == {None}


def test_blurred(pictures):
    assert faults(blurred(picture, 3.5) for picture in pictures) == {"blurred"}


def test_black(pictures):
    assert faults(exposed(picture, -7) for picture in pictures) == {"black"}


def test_saturated(pictures):
    assert faults(exposed(picture, 10) for picture in pictures) == {"saturated"}


def test_the_size_of_a_picture_does_not_matter(pictures):
    for picture in pictures[:4]:
        large = picture.resize((picture.width * 4, picture.height * 4), Image.Resampling.BICUBIC)
        small, big = (Inspector().inspect(size) for size in (picture, large))
        assert abs(small.blur - big.blur) < 0.05
        assert Inspector().inspect(blurred(large, 3.5)).fault == "blurred"


def test_only_the_region_counts(pictures):
    wide = Image.new("RGB", (pictures[0].width * 2, pictures[0].height))
    wide.paste(pictures[0], (0, 0))
    assert Inspector(region=(0.0, 0.0, 0.5, 1.0)).inspect(wide).fault is None
    assert Inspector(region=(0.5, 0.0, 1.0, 1.0)).inspect(wide).fault == "black"


def test_a_plain_surface_has_no_detail():
    assert blur_of(np.full((256, 256), 128, np.uint8)) == 1.0
    assert Inspector().inspect(Image.new("RGB", (640, 480), "gray")).fault == "blurred"


def test_a_ribbon_and_a_single_pixel_are_judged():
    for size in ((1, 1), (4000, 2)):
        assert Inspector().inspect(Image.new("RGB", size, "gray")).blur == 1.0


def noisy(picture: Image.Image, sigma: float, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, sigma, (picture.height, picture.width, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).round().astype(np.uint8))


def test_the_same_picture_for_long_is_frozen(pictures):
    eye = Inspector()
    found = [eye.inspect(pictures[0], i / 10).fault for i in range(40)]
    assert found[:20] == [None] * 20 and set(found[20:]) == {"frozen"}


def test_a_still_scene_with_noise_is_not_frozen(pictures):
    eye = Inspector()
    found = [eye.inspect(noisy(pictures[0], 0.5, i), i / 10) for i in range(40)]
    assert {one.fault for one in found} == {None}
    assert all(one.change is not None and one.change > 0.1 for one in found[1:])


def test_a_change_begins_anew_and_so_does_a_camera_that_came_back(pictures):
    eye = Inspector(limits=Limits(still_frames=3, still_seconds=0.0))
    order = [0, 0, 0, 1, 1, 1, 0]
    found = [eye.inspect(pictures[which], float(i)).fault for i, which in enumerate(order)]
    assert found == [None, None, "frozen", None, None, "frozen", None]
    eye.forget()
    assert eye.inspect(pictures[0], 9.0).change is None


def test_pictures_that_do_not_follow_each_other_are_never_frozen(pictures):
    eye = Inspector(limits=Limits(still_frames=1, still_seconds=0.0))
    assert {eye.inspect(pictures[0]).fault for _ in range(5)} == {None}


def test_record(pictures):
    record = Inspector().inspect(blurred(pictures[0], 4)).as_record()
    assert record["fault"] == "blurred" and "blur 0." in str(record["reason"])
    assert list(record) == ["fault", "reason", "brightness", "saturated", "blur", "change"]
