"""Corruptions do what their names say, stronger at higher severities, and the same every time."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from edge_fgr.errors import UsageError
from edge_fgr.image import load
from edge_fgr.model import open_model
from edge_fgr_bench import corruptions
from edge_fgr_bench.corrupt_camera import to_light, to_srgb
from edge_fgr_bench.corrupt_frost import PLATES, plate
from edge_fgr_bench.corruptions import CORRUPTIONS, SEVERITIES, corrupt

NAMES = [each.name for each in CORRUPTIONS]
SETTLED = {
    "brightness", "contrast", "defocus_blur", "exposure_over", "exposure_under",
    "jpeg_compression", "pixelate", "zoom_blur",
}  # fmt: skip
"""Nothing of these is left to chance."""

# As published, the first two strengths of elastic_transform move the whole object, and fog and
# frost that get denser also darken; a hand's longer path may curl up. So not every step is further.
UNEVEN = {"elastic_transform", "fog", "frost", "hand_shake"}

by_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def pictures(photos):
    """Four photographs as the embedded model sees them, read-only."""
    geometry = open_model(device="cpu").contract.geometry
    found = [load(photo, geometry).copy() for photo in photos[::8]]
    for pixels in found:
        pixels.setflags(write=False)
    return found


def grey(value=128, side=224):
    return np.full((side, side, 3), value, np.uint8)


def apart(one, other):
    return np.abs(one.astype(int) - other).mean()


def spread(name, side, severity, seed):
    """Standard deviation in pixels of the places that the light of a small patch reaches."""
    pixels = grey(0, side)
    half, patch = side // 2, side // 56
    pixels[half - patch : half + patch, half - patch : half + patch] = 255
    light = corrupt(pixels, name, severity, seed)[:, :, 0].astype(float)
    return np.sqrt(sum(np.var(np.repeat(np.arange(side), light.sum(axis).astype(int)))
                       for axis in (0, 1)))  # fmt: skip


def test_the_list():
    assert len(set(NAMES)) == len(NAMES) == 23
    assert [each.group for each in CORRUPTIONS].count("camera") == len(NAMES) - 15
    assert all(each.says for each in CORRUPTIONS)


@by_name
@pytest.mark.parametrize("severity", SEVERITIES)
def test_equal_arguments_give_equal_bits(pictures, name, severity):
    pixels = pictures[0]
    before = pixels.copy()
    found = corrupt(pixels, name, severity, 3)
    assert found.shape == pixels.shape and found.dtype == np.uint8
    assert found.flags.c_contiguous and found.flags.writeable
    assert not np.shares_memory(found, pixels) and np.array_equal(pixels, before)
    assert not np.array_equal(found, pixels)
    assert np.array_equal(found, corrupt(before[:, ::-1][:, ::-1], name, severity, 3))
    others = [corrupt(pixels, name, severity, seed) for seed in range(4, 12)]
    assert all(np.array_equal(found, other) for other in others) == (name in SETTLED)


def test_severities_draw_anew():
    one, other = (corrupt(grey(), "gaussian_noise", severity, 0).ravel() for severity in (1, 2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


@by_name
def test_higher_severity_is_further_away(pictures, name):
    far = [
        np.mean([apart(corrupt(x, name, severity, seed), x) for x in pictures for seed in range(2)])
        for severity in SEVERITIES
    ]
    if name != "elastic_transform":
        assert far[4] > far[0]
    if name not in UNEVEN:
        assert far == sorted(far)


@by_name
@pytest.mark.parametrize("shape", [(8, 8), (8, 61), (97, 8), (180, 301)])
def test_every_shape(pictures, name, shape):
    pixels = np.asarray(Image.fromarray(pictures[0]).resize(shape[::-1]))
    for severity in (1, 5):
        assert corrupt(pixels, name, severity, 0).shape == (*shape, 3)


def test_threads_give_the_same_bits(pictures):
    jobs = [(x, name, 1 + i % 5, i) for i, x in enumerate(pictures[:2]) for name in NAMES]
    plate.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        side_by_side = list(pool.map(lambda job: corrupt(*job), jobs))
    plate.cache_clear()
    assert all(
        np.array_equal(corrupt(*job), found) for job, found in zip(jobs, side_by_side, strict=True)
    )


def test_the_global_generator_is_left_alone(pictures):
    np.random.seed(1)
    corrupt(pictures[0], "gaussian_noise", 1, 0)
    left = np.random.random()
    np.random.seed(1)
    assert np.random.random() == left


@pytest.mark.parametrize(
    ("pixels", "name", "severity", "seed", "says"),
    [
        (grey(), "rain", 1, 0, "no such corruption"),
        (grey(), "fog", 0, 0, "severity"),
        (grey(), "fog", 6, 0, "severity"),
        (grey(), "fog", 1, -1, "seed"),
        (grey(side=7), "fog", 1, 0, "too small"),
        (grey()[:, :, 0], "fog", 1, 0, "uint8"),
        (grey().astype(float), "fog", 1, 0, "uint8"),
    ],
)
def test_what_cannot_be_meant(pixels, name, severity, seed, says):
    with pytest.raises(UsageError, match=says):
        corrupt(pixels, name, severity, seed)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.08), (2, 0.12), (3, 0.18)])
def test_gaussian_noise_is_as_strong_as_published(severity, share):
    noisy = corrupt(grey(), "gaussian_noise", severity, 0).astype(float)
    assert noisy.std() == pytest.approx(share * 255, rel=0.1)
    assert noisy.mean() == pytest.approx(128, abs=0.5)


def test_shot_noise_is_poisson():
    counts = corrupt(grey(), "shot_noise", 1, 0) / 255 * 60
    assert counts.mean() == pytest.approx(60 * 128 / 255, rel=0.01)
    assert counts.var() == pytest.approx(60 * 128 / 255, rel=0.05)
    assert not corrupt(grey(0), "shot_noise", 5, 0).any()


def test_impulse_noise_hits_a_share():
    values, counts = np.unique(corrupt(grey(), "impulse_noise", 5, 0), return_counts=True)
    assert values.tolist() == [0, 128, 255]
    assert counts / counts.sum() == pytest.approx([0.135, 0.73, 0.135], abs=0.01)


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur"])
def test_blur_keeps_the_mean_and_loses_edges(pictures, name):
    for pixels in pictures:
        blurred = corrupt(pixels, name, 3, 0)
        assert blurred.mean() == pytest.approx(pixels.mean(), abs=1.5)
        assert apart(blurred[1:], blurred[:-1]) < 0.7 * apart(pixels[1:], pixels[:-1])


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "hand_shake"])
def test_nothing_is_blurred_to_something_else(name):
    assert apart(corrupt(grey(90), name, 5, 0), grey(90)) < 0.51


def test_lengths_grow_with_the_picture():
    for name, severity in (("defocus_blur", 5), ("motion_blur", 5)):
        # A direction is drawn alike for both sizes.
        small, large = spread(name, 224, severity, 1), spread(name, 448, severity, 1)
        assert large == pytest.approx(2 * small, rel=0.06)
    assert spread("defocus_blur", 224, 5, 0) > 1.5 * spread("defocus_blur", 224, 1, 0)


def test_defocus_spreads_over_a_disc():
    # A disc of radius r has a variance of r^2 / 2 over both axes; the patch has its own.
    patch = 2 * (8**2 - 1) / 12
    assert spread("defocus_blur", 224, 5, 0) == pytest.approx(np.sqrt(50 + patch), rel=0.05)


def test_zoom_blur_keeps_the_centre_sharp():
    pixels = np.tile(np.kron([[0, 255], [255, 0]], np.ones((4, 4))), (28, 28)).astype(np.uint8)
    blurred = corrupt(np.repeat(pixels[..., None], 3, 2), "zoom_blur", 3, 0).astype(float)
    assert blurred[104:120, 104:120].std() > 1.5 * blurred[:32, :32].std()


def test_snow_falls_and_whitens(pictures):
    for pixels in pictures:
        assert corrupt(pixels, "snow", 3, 0).mean() > pixels.mean() + 30


def test_fog_takes_contrast_away(pictures):
    for pixels in pictures:
        foggy = corrupt(pixels, "fog", 3, 0)
        assert foggy.std() < 0.9 * pixels.std()
    clouds = corrupt(grey(), "fog", 5, 0).astype(float)
    # Clouds: neighbours are alike, far places are not.
    assert clouds.std() > 8 and apart(clouds[1:], clouds[:-1]) < 0.4 * clouds.std()


def test_frost_is_made_of_different_bright_plates():
    plates = [plate(i) for i in range(PLATES)]
    for ice in plates:
        assert ice.min() >= 0 and ice.max() <= 1 and not ice.flags.writeable
        assert 0.35 < ice.mean() < 0.5 and ice.std() > 0.15
    assert len({ice.tobytes() for ice in plates}) == PLATES
    dark = corrupt(grey(0), "frost", 5, 0)  # the pane alone, three quarters of it
    assert dark.max() > 150 and dark[..., 2].mean() > dark[..., 0].mean()


def test_brightness_raises_value_and_keeps_hue(pictures):
    pixels = np.full((16, 16, 3), (100, 50, 20), np.uint8)
    assert corrupt(pixels, "brightness", 2, 0)[0, 0].tolist() == [151, 76, 30]
    assert corrupt(grey(0), "brightness", 1, 0)[0, 0].tolist() == [26, 26, 26]
    for pixels in pictures:
        assert corrupt(pixels, "brightness", 1, 0).mean() > pixels.mean() + 10


def test_contrast_pulls_towards_the_mean(pictures):
    for severity, share in zip(SEVERITIES, (0.4, 0.3, 0.2, 0.1, 0.05), strict=True):
        flat = corrupt(pictures[0], "contrast", severity, 0)
        assert flat.std(axis=(0, 1)) == pytest.approx(share * pictures[0].std(axis=(0, 1)), abs=0.3)
        assert flat.mean(axis=(0, 1)) == pytest.approx(pictures[0].mean(axis=(0, 1)), abs=0.5)


def test_elastic_transform_crumples_more():
    """How far an edge is from straight: two thirds of a picture are one side of it."""
    pixels = grey(0)
    pixels[:, 112:] = 255

    def rough(severity, seed):
        edge = corrupt(pixels, "elastic_transform", severity, seed)[60:164, :, 0].sum(axis=1) / 255
        place = np.arange(len(edge))
        return np.std(edge - np.polyval(np.polyfit(place, edge, 2), place))

    found = [np.median([rough(severity, seed) for seed in range(9)]) for severity in (1, 3, 4, 5)]
    assert found == sorted(found) and found[-1] > 1


@pytest.mark.parametrize(("severity", "blocks"), [(1, 134), (5, 56)])
def test_pixelate_counts_blocks(pictures, severity, blocks):
    for side in (224, 256):
        pixels = np.asarray(Image.fromarray(pictures[0]).resize((side, side)))
        found = corrupt(pixels, "pixelate", severity, 0).astype(int)
        changes = np.any(found[:, 1:] != found[:, :-1], axis=(0, 2)).sum() + 1
        # A pixel that two blocks share is a mixture: one change more where it lies.
        assert blocks <= changes <= (side if side % blocks else blocks)


@pytest.mark.parametrize(("severity", "quality"), [(1, 25), (2, 18), (3, 15), (4, 10), (5, 7)])
def test_jpeg_is_pillows(pictures, severity, quality):
    file = io.BytesIO()
    Image.fromarray(pictures[1]).save(file, "JPEG", quality=quality)
    with Image.open(file) as picture:
        assert np.array_equal(corrupt(pictures[1], "jpeg_compression", severity, 0), picture)


def test_light_and_back():
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_srgb(to_light(codes)), codes)
    assert to_light(np.uint8(188)) == pytest.approx(0.5029, abs=1e-3)


def test_exposure_is_in_stops():
    assert to_light(corrupt(grey(60), "exposure_over", 2, 0)).mean() == pytest.approx(
        2 * to_light(np.uint8(60)), rel=0.02
    )
    assert to_light(corrupt(grey(200), "exposure_under", 1, 0)).mean() == pytest.approx(
        to_light(np.uint8(200)) / 2, rel=0.02
    )
    assert (corrupt(grey(200), "exposure_over", 5, 0) == 255).all()


def test_white_balance_is_warm_or_cold_at_the_same_luminance(pictures):
    weights = np.array([0.2126, 0.7152, 0.0722])
    for pixels in pictures:
        before = (to_light(pixels) @ weights).mean()
        after = (to_light(corrupt(pixels, "white_balance", 3, 1)) @ weights).mean()
        assert after == pytest.approx(before, rel=0.08)
    orange = np.full((16, 16, 3), (120, 60, 15), np.uint8)  # nothing clips: to a code, the same
    for severity in SEVERITIES:
        after = (to_light(corrupt(orange, "white_balance", severity, 1)) @ weights).mean()
        assert after == pytest.approx((to_light(orange) @ weights).mean(), rel=0.02)
    casts = [corrupt(grey(), "white_balance", 3, seed)[0, 0].astype(int) for seed in range(20)]
    warm = [bool(red > green > blue) for red, green, blue in casts]
    cold = [bool(red < green < blue) for red, green, blue in casts]
    assert 4 < sum(warm) < 16 and sum(warm) + sum(cold) == 20


def test_sensor_noise_grows_as_the_root_of_light():
    for value in (60, 120, 180):
        light = float(to_light(np.uint8(value)))
        noisy = to_light(corrupt(grey(value), "sensor_noise", 1, 0)).astype(float)
        assert noisy.mean() == pytest.approx(light, rel=0.02)
        assert noisy.std() == pytest.approx(np.sqrt(light * 400 + 4) / 400, rel=0.06)
        left, right = noisy[:, :-1].ravel(), noisy[:, 1:].ravel()
        assert np.corrcoef(left, right)[0, 1] == pytest.approx(2 / 3, abs=0.05)  # of 1 2 1


def test_hand_shake_bends_and_keeps_light(pictures):
    for pixels in pictures:
        shaken = corrupt(pixels, "hand_shake", 4, 2)
        assert to_light(shaken).mean() == pytest.approx(to_light(pixels).mean(), rel=0.03)
    point = grey(0)
    point[110:114, 110:114] = 255
    light = to_light(corrupt(point, "hand_shake", 5, 0))[..., 0]
    rows, columns = np.nonzero(light > 0.02)
    assert 8 < max(np.ptp(rows), np.ptp(columns)) < 30
    assert abs(np.average(rows, weights=light[rows, columns]) - 111.5) < 2


def test_low_light_is_dark_and_noisy():
    found = corrupt(grey(160), "low_light", 2, 0)
    assert to_light(found).mean() == pytest.approx(to_light(np.uint8(160)) / 2**1.5, rel=0.05)
    assert found.std() > 5


def test_vignette_darkens_corners():
    found = corrupt(grey(200), "vignette", 3, 0)[..., 0].astype(int)
    corners = found[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert found.max() == 200 and corners.max() < 130 and found[112, 112] > 190


def test_a_lamp_is_added(pictures):
    for pixels in pictures:
        found = corrupt(pixels, "lens_flare", 3, 0)
        assert (found >= pixels).all() and (found == 255).mean() > 0.01


def test_the_command(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["corruptions"])
    assert corruptions.main() == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == NAMES
    monkeypatch.setattr("sys.argv", ["corruptions", "--time", "--side", "64", "--json"])
    assert corruptions.main() == 0
    document = json.loads(capsys.readouterr().out)
    assert document["side"] == 64 and list(document["figures"]) == NAMES
    assert all(took > 0 for took in document["figures"].values())
