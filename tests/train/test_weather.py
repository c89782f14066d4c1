"""Bad light and poor cameras in training: drawn from the picture's own generator, and as said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from edge_fgr.contract import Geometry
from edge_fgr.errors import UsageError
from edge_fgr.image import load
from edge_fgr_train import weather
from edge_fgr_train.augment import TrainingSet
from edge_fgr_train.dataset import Sample
from edge_fgr_train.policies import augmix
from edge_fgr_train.recipe import load_recipe
from edge_fgr_train.settings_steps import Augment
from edge_fgr_train.weather import weathered

KINDS = ("augmix", "camera", "both")


@pytest.fixture(scope="module")
def photo(photos):
    return load(photos[3], Geometry(size=96))


def pictures(photos, **rules):
    samples = [Sample(one.name, one, (one.name,)) for one in photos[:6]]
    return TrainingSet(samples, list(range(6)), Augment(size=64, **rules), Geometry(size=64), 0)


def drawn(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_draws_give_equal_pictures(photo, kind):
    before = photo.copy()
    made = [weathered(photo, kind, drawn(seed)) for seed in range(8)]
    again = [weathered(photo, kind, drawn(seed)) for seed in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert np.array_equal(photo, before)
    assert all(one.dtype == np.uint8 and one.shape == photo.shape for one in made)
    assert all(one.flags.writeable and one.flags.owndata for one in made)
    assert sum(not np.array_equal(one, photo) for one in made) >= 6
    assert len({one.tobytes() for one in made}) >= 6


@pytest.mark.parametrize("shape", [(16, 16), (17, 64), (33, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_shape(kind, shape):
    plain = drawn(0).integers(0, 256, (*shape, 3), np.uint8)
    for seed in range(12):
        assert weathered(plain, kind, drawn(seed)).shape == plain.shape


def test_none_leaves_every_draw_as_it_was(photos):
    """Also where the share is set: nothing may be drawn for what is not wanted."""
    plain, other = pictures(photos, erase=0.5), pictures(photos, erase=0.5, weathered=1.0)
    for i in range(6):
        assert np.array_equal(plain[i][0], other[i][0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_share_is_kept(photos, kind):
    plain = pictures(photos)
    changed = {0.0: 0, 0.5: 0, 1.0: 0}
    for share in changed:
        some = pictures(photos, weather=kind, weathered=share)
        for epoch in range(6):
            plain.epoch = some.epoch = epoch
            changed[share] += sum(not np.array_equal(plain[i][0], some[i][0]) for i in range(6))
    assert changed[0.0] == 0
    assert 6 < changed[0.5] < 28 < changed[1.0]
    assert np.array_equal(some[2][0], some[2][0])  # asked twice, by any thread


def test_recipes_refuse():
    for change, says in (
        ("augment.weather=rain", "none of"),
        ("augment.weathered=1.5", "weathered must be in 0 to 1"),
    ):
        with pytest.raises(UsageError, match=says):
            load_recipe("default", [change])
    assert load_recipe("default", ["augment.weather=both"]).augment.weather == "both"
    assert load_recipe("default").augment.weather == "none"


def test_augmix_mixes_little_or_much_and_stays_a_picture(photo):
    picture = Image.fromarray(photo)
    apart = [
        np.abs(np.asarray(augmix(picture, drawn(seed)), float) - photo).mean() for seed in range(24)
    ]
    assert min(apart) < 4 and 12 < max(apart) < 90
    flat = Image.new("RGB", (32, 32), (90, 90, 90))
    middle = np.asarray(augmix(flat, drawn(1)))[12:20, 12:20]
    assert np.ptp(middle) <= 1  # a convex mixture of flat pictures


def test_exposure_and_cast(photo):
    means = np.array([weather._exposed(photo, drawn(s)).mean((0, 1)) for s in range(40)])
    plain = photo.mean((0, 1))
    assert (means.mean(1) < 0.75 * plain.mean()).any() and (
        means.mean(1) > 1.25 * plain.mean()
    ).any()
    casts = np.log(means[:, 0] / means[:, 2]) - np.log(plain[0] / plain[2])
    assert casts.min() < -0.05 and casts.max() > 0.05
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    for seed in range(8):  # brighter stays brighter
        assert (
            np.diff(weather._exposed(ramp, drawn(seed)).reshape(256, 3).astype(int), axis=0) >= 0
        ).all()


def test_blurs_lose_detail_and_keep_light(photo):
    def detail(pixels):
        gray = Image.fromarray(pixels).convert("L")
        return float(
            np.asarray(gray, float).std()
            if pixels is None
            else np.abs(
                np.asarray(gray, float) - np.asarray(gray.filter(ImageFilter.BoxBlur(1)), float)
            ).mean()
        )

    for blur in (weather._shaken, weather._unfocused):
        made = [blur(photo, drawn(seed)) for seed in range(8)]
        assert all(detail(one) < 0.95 * detail(photo) for one in made)
        assert all(abs(one.mean() - photo.mean()) < 1.5 for one in made)
    point = np.zeros((96, 96, 3), np.uint8)
    point[48, 48] = 255
    streak = weather._shaken(point, drawn(0))[..., 0]
    rows, columns = np.nonzero(streak)
    assert len(rows) >= 3 and abs(rows.mean() - 48) < 1 and abs(columns.mean() - 48) < 1


def test_noise_grows_with_light_and_with_its_draw():
    dark, light = (np.full((64, 64, 3), value, np.uint8) for value in (30, 200))
    spread = [
        [float(weather._noisy(one, drawn(s)).astype(float).std()) for one in (dark, light)]
        for s in range(30)
    ]
    assert sum(b >= a for a, b in spread) >= 25
    assert min(b for _, b in spread) < 5 and max(b for _, b in spread) > 25


def test_jpeg_leaves_its_blocks(photo):
    made = weather._packed(photo, drawn(0))
    apart = np.abs(made.astype(float) - photo).mean()
    assert 1 < apart < 20
    steps = np.abs(np.diff(made.astype(float), axis=1)).mean((0, 2))
    edges = steps[7::8].mean() / np.delete(steps, np.s_[7::8]).mean()
    plain = np.abs(np.diff(photo.astype(float), axis=1)).mean((0, 2))
    assert edges > 1.05 * plain[7::8].mean() / np.delete(plain, np.s_[7::8]).mean()
