"""Near-duplicates: what counts as one, in great numbers too; hold-out lists that keep them."""

from __future__ import annotations

import io
from hashlib import sha256

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from scipy.fft import dctn, idctn
from trees import place

from edge_fgr.contract import Geometry
from edge_fgr.errors import ImageError, InputMissingError
from edge_fgr.image import read
from edge_fgr_train.dataset import Sample, read_list, scan
from edge_fgr_train.duplicates import groups_of, hold_out, main
from edge_fgr_train.fingerprint import Prints, prints_of
from edge_fgr_train.links import link, near, unite
from pictures import opened


def jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cut(picture, share):
    width, height = picture.size
    return picture.crop((width * share, height * share, width * (1 - share), height * (1 - share)))


CHANGES = {
    "recompressed": lambda picture: jpeg(picture, 40),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.4),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
    "gray": lambda picture: picture.convert("L"),
    "small": lambda picture: picture.resize((96, 96)),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(3)),
    "cut": lambda picture: cut(picture, 0.01),
    "turned": lambda picture: picture.rotate(1),
}


def samples_of(folder, label=("a",)):
    return [Sample(path.name, path, label) for path in sorted(folder.iterdir())]


def linked(samples, classes=None, splits=None):
    none = [0] * len(samples)
    return link(prints_of(samples), classes or none, splits or none)


def made(hashes, details):
    return Prints(np.array(hashes, np.uint64), details, np.arange(len(hashes)), {})


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_even_in_another_class(tmp_path, photos, change):
    for photo in photos:
        place(photo, tmp_path, photo.name)
    for photo in photos[::4]:
        CHANGES[change](opened(photo)).save(tmp_path / f"{photo.stem}-changed.jpg", quality=90)
    samples = samples_of(tmp_path)
    links = linked(samples, classes=list(range(len(samples))))
    twins = {
        (samples[i].path.stem, samples[j].path.stem)
        for i, j in enumerate(links.conflicts.tolist())
        if j >= 0
    }
    assert {frozenset(pair) for pair in twins} == {
        frozenset((photo.stem, f"{photo.stem}-changed")) for photo in photos[::4]
    }


def test_prints_hold_one_hash_and_one_detail_a_picture(tmp_path, photos):
    place(photos[0], tmp_path, "1.jpg")
    place(photos[0], tmp_path, "2.jpg")
    (tmp_path / "3.jpg").write_bytes(photos[0].read_bytes()[:-2000])
    Image.new("RGB", (80, 80), "gray").save(tmp_path / "4.png")
    samples = [*samples_of(tmp_path), Sample("5.jpg", tmp_path / "5.jpg", ("a",))]
    prints = prints_of(samples)
    same = imagehash.phash(read(photos[0], Geometry(size=64)))
    assert int(prints.hashes[0]) == int(str(same), 16) == int(prints.hashes[1])
    assert prints.contents[0] == prints.contents[1]
    assert len(set(prints.contents.tolist())) == 4
    assert isinstance(prints.failures[2], ImageError) and str(tmp_path) in str(prints.failures[2])
    assert isinstance(prints.failures[4], InputMissingError) and set(prints.failures) == {2, 4}
    assert np.abs(prints.details[0]).max() == 127 and not prints.details[2:].any()


def test_flat_pictures_are_alike_only_by_their_bytes(tmp_path):
    for i, gray in enumerate((10, 10, 200)):
        Image.new("L", (80, 80), gray).save(tmp_path / f"{i}.png")
    assert linked(samples_of(tmp_path)).groups.tolist() == [0, 0, 2]
    details = np.zeros((3, 256), np.int8)
    details[::2, :5] = 7
    assert link(made([0, 0, 0], details), [0] * 3, [0] * 3).groups.tolist() == [0, 1, 0]


def test_what_agrees_in_its_coarse_light_alone_is_refused(tmp_path, photos):
    def waves(photo):
        return dctn(np.asarray(opened(photo).convert("L").resize((64, 64)), float), norm="ortho")

    for i in (9, 15):  # two pictures that share all that the hash sees
        mixed = waves(photos[i])
        mixed[:8, :8] = waves(photos[0])[:8, :8]
        pixels = idctn(mixed, norm="ortho").clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    samples = samples_of(tmp_path)
    hashes = prints_of(samples).hashes
    assert int(np.bitwise_count(hashes[0] ^ hashes[1])) <= 10
    for classes in ([0, 1], [0, 0]):
        assert linked(samples, classes=classes).groups.tolist() == [0, 1]


def test_near_is_what_comparing_all_bits_gives():
    hashes = np.random.default_rng(0).integers(0, 1 << 20, 300, dtype=np.uint64)
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    distances = (bits[:, None] != bits).sum(2)
    wanted = {(i, j) for i, j in zip(*np.nonzero(distances <= 10), strict=True) if i < j}
    found = {(i, j): d for i, js, ds in near(hashes) for j, d in zip(js, ds, strict=True)}
    assert 0 < len(wanted) < 300 * 299 / 2 and set(found) == wanted
    assert all(distance == distances[pair] for pair, distance in found.items())


def test_groups_are_named_by_their_first():
    root = np.arange(6)
    for i, others in ((3, [5]), (1, [4]), (4, [5])):
        unite(root, i, np.array(others))
    assert root.tolist() == [0, 1, 2, 1, 1, 1]


def test_thousands_of_equal_pictures_are_one_group():
    count = 3000
    noise = np.random.default_rng(0)
    detail = noise.integers(-100, 100, 256)
    prints = Prints(
        hashes=np.uint64(1) << noise.integers(0, 64, count, dtype=np.uint64),
        details=(detail + noise.integers(-20, 20, (count, 256))).astype(np.int8),
        contents=np.arange(count),
        failures={},
    )
    splits = noise.integers(0, 3, count)
    links = link(prints, [0] * count, splits.tolist())
    assert len(set(links.groups.tolist())) == 1
    assert ((links.leaks >= 0) == (splits > 0)).all()
    later = np.flatnonzero(splits)
    assert (splits[links.leaks[later]] < splits[later]).all()
    assert (links.conflicts < 0).all()


def test_a_conflict_inside_a_known_group_is_still_seen():
    """The last is joined by its own class before its twin in the other has its turn."""
    details = np.tile(np.arange(-128, 128).astype(np.int8), (4, 1))
    prints = made([0, (1 << 8) - 1, (1 << 12) - 1, (1 << 16) - 1], details)
    links = link(prints, [0, 1, 0, 1], [0] * 4)
    assert links.groups.tolist() == [0] * 4
    assert links.conflicts.tolist() == [-1, 0, 1, 2]


def test_of_very_many_candidates_the_nearest_are_looked_at():
    noise = np.random.default_rng(0)
    details = noise.integers(-100, 100, (601, 256)).astype(np.int8)
    details[300] = details[0]
    hashes = [(1 << distance) - 1 for distance in (0, *[10] * 299, 2, *[9] * 300)]
    assert set(link(made(hashes, details), [0] * 601, [0] * 601).groups.tolist()) == {
        *range(601)
    } - {300}


def test_copies_are_linked_with_every_other_class(tmp_path):
    for i in range(3):
        Image.new("L", (80, 80), 50).save(tmp_path / f"{i}.png")
    assert linked(samples_of(tmp_path), classes=[0, 1, 0]).conflicts.tolist() == [-1, 0, 1]


def test_links_across_classes_and_splits(tmp_path, photos):
    opened(photos[0]).save(tmp_path / "0.jpg", quality=60)  # first by name, last by split
    place(photos[0], tmp_path, "1.jpg")
    place(photos[1], tmp_path, "2.jpg")
    place(photos[0], tmp_path, "3.jpg")
    (tmp_path / "4.jpg").write_bytes(b"damaged")
    links = linked(samples_of(tmp_path), classes=[0, 0, 0, 1, 0], splits=[2, 0, 0, 1, 0])
    assert links.leaks.tolist() == [1, -1, -1, 1, -1]
    assert links.conflicts[3] == 1 and links.conflicts[0] in (3, -1)
    assert links.groups.tolist() == [1, 1, 2, 1, 4]


def test_near_duplicates_stay_together(tmp_path, photos):
    for i, photo in enumerate(photos[:12]):
        place(photo, tmp_path, "a", f"{i}.jpg")
    opened(photos[0]).resize((200, 200)).save(tmp_path / "a" / "0-small.jpg", quality=60)
    place(photos[0], tmp_path, "b", "0.jpg")
    samples = scan(tmp_path)
    groups = dict(zip([sample.name for sample in samples], groups_of(samples), strict=True))
    assert groups["a/0.jpg"] == groups["a/0-small.jpg"] != groups["b/0.jpg"]
    assert len(set(groups.values())) == 13
    chosen = {sample.path.stem for sample in hold_out(samples[:-1], 3)}
    assert len(chosen) in (3, 4) and ("0" in chosen) == ("0-small" in chosen)
    assert hold_out(samples, 3) == hold_out(samples, 3)
    (tmp_path / "a" / "0.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"0\.jpg: empty file"):
        groups_of(samples)


def test_hold_out_of_one_class_does_not_depend_on_another(tmp_path, photos):
    for i, photo in enumerate(photos[:16]):
        place(photo, tmp_path, "ab"[i % 2], f"{i}.jpg")
    samples = scan(tmp_path)
    chosen = hold_out(samples, 2)
    fewer = [sample for sample in samples if sample.name != "b/1.jpg"]
    of_a = [sample for sample in chosen if sample.label == ("a",)]
    names = sorted(
        (s.name for s in samples if s.label == ("a",)),
        key=lambda name: sha256(name.encode()).digest(),
    )
    assert [sample.name for sample in of_a] == sorted(names[:2])
    assert [s for s in hold_out(fewer, 2) if s.label == ("a",)] == of_a


def test_list_is_written_and_read(tmp_path, photos):
    for i, photo in enumerate(photos[:8]):
        place(photo, tmp_path, "data", "train", f"class {i % 2}", f"{i}.jpg")
    main([str(tmp_path / "data"), "-o", str(tmp_path / "list.txt"), "--per-class", "1"])
    names = read_list(tmp_path / "list.txt")
    assert len(names) == 2 and all((tmp_path / "data" / name).exists() for name in names)
    with pytest.raises(InputMissingError):
        read_list(tmp_path / "absent.txt")
