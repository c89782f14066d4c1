"""torchvision's own loaders, on small trees in the layouts and formats that they demand."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pytest
from trees import place

from edge_fgr.errors import InputMissingError, MissingExtraError
from edge_fgr_train import named
from edge_fgr_train.catalog import open_dataset


def facts(dataset):
    return [(s.name, s.label, s.split) for s in dataset.samples]


@pytest.fixture
def flowers(tmp_path, photos, monkeypatch):
    """Flowers102; torchvision knows the MD5 of the two real tables, so it is told ours."""
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    base = tmp_path / "flowers-102"
    for i in range(1, 5):
        place(photos[i], base, "jpg", f"image_{i:05d}.jpg")
    savemat(base / "imagelabels.mat", {"labels": np.array([[1, 2, 102, 1]], np.uint8)})
    ids = {"trnid": [[1, 3]], "valid": [[2, 4]], "tstid": [[4, 1]]}
    savemat(base / "setid.mat", {key: np.array(value, np.uint16) for key, value in ids.items()})
    known = dict(Flowers102._file_dict)
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        digest = hashlib.md5((base / name).read_bytes(), usedforsecurity=False).hexdigest()
        known[key] = (name, digest)
    monkeypatch.setattr(Flowers102, "_file_dict", known)
    return base


def test_flowers(flowers, tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    ids = {"trnid": [[1, 3]], "valid": [[2, 0]], "tstid": [[4, 0]]}
    with pytest.raises(Exception, match="stands in both"):
        open_dataset(f"Flowers102:{tmp_path}")
    ids = {"trnid": [[1, 3]], "valid": [[2, 2]], "tstid": [[4, 4]]}
    savemat(flowers / "setid.mat", {key: np.array(value, np.uint16) for key, value in ids.items()})
    digest = hashlib.md5((flowers / "setid.mat").read_bytes(), usedforsecurity=False).hexdigest()
    known = {**Flowers102._file_dict, "setid": ("setid.mat", digest)}
    monkeypatch.setattr(Flowers102, "_file_dict", known)
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("flowers102:.")
    assert dataset.origin == f"Flowers102:{tmp_path}"
    assert facts(dataset) == [
        ("flowers-102/jpg/image_00001.jpg", ("pink primrose",), "train"),
        ("flowers-102/jpg/image_00003.jpg", ("blackberry lily",), "train"),
        ("flowers-102/jpg/image_00002.jpg", ("hard-leaved pocket orchid",), "val"),
        ("flowers-102/jpg/image_00004.jpg", ("pink primrose",), "test"),
    ]
    assert open_dataset(dataset.origin, ("val",)).splits == ("val",)
    (flowers / "jpg" / "image_00003.jpg").unlink()
    with pytest.raises(InputMissingError, match=r"image_00003\.jpg: no such file"):
        open_dataset(dataset.origin)


def test_aircraft(tmp_path, photos):
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    for i in range(3):
        place(photos[i], data, "images", f"000{i}.jpg")
    (data / "variants.txt").write_text("737-700\nF/A-18\n")
    for i, split in enumerate(("train", "val", "test")):
        variant = ("737-700", "F/A-18")[i % 2]
        (data / f"images_variant_{split}.txt").write_text(f"000{i} {variant}\n")
    dataset = open_dataset(f"FGVCAircraft:{tmp_path}")
    assert [(s.label, s.split) for s in dataset.samples] == [
        (("737-700",), "train"),
        (("F/A-18",), "val"),
        (("737-700",), "test"),
    ]
    (data / "images_variant_val.txt").unlink()
    with pytest.raises(InputMissingError, match=r"incomplete in val \(FileNotFoundError"):
        open_dataset(f"FGVCAircraft:{tmp_path}")


def test_cars(tmp_path, photos, capsys):
    from scipy.io import savemat

    def annotate(path, rows):
        kinds = [("fname", "O"), ("class", "O")]
        savemat(path, {"annotations": np.array([rows], dtype=kinds)})

    base = tmp_path / "stanford_cars"
    place(photos[0], base, "cars_train", "00001.jpg")
    place(photos[1], base, "cars_train", "00002.jpg")
    (base / "devkit").mkdir()
    annotate(base / "devkit" / "cars_train_annos.mat", [("00001.jpg", 2), ("00002.jpg", 1)])
    words = np.array([["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]], dtype=object)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": words})
    dataset = open_dataset(f"StanfordCars:{tmp_path}")
    assert dataset.splits == ("train",)
    assert "test is left out (Dataset not found.)" in capsys.readouterr().err
    place(photos[2], base, "cars_test", "00001.jpg")
    place(photos[3], base, "cars_test", "00002.jpg")
    rows = [("00001.jpg", 1), ("00002.jpg", 2)]
    annotate(base / "cars_test_annos_withlabels.mat", rows)
    assert facts(open_dataset(f"stanfordcars:{tmp_path}")) == [
        ("stanford_cars/cars_train/00001.jpg", ("Acura RL Sedan 2012",), "train"),
        ("stanford_cars/cars_train/00002.jpg", ("AM General Hummer SUV 2000",), "train"),
        ("stanford_cars/cars_test/00001.jpg", ("AM General Hummer SUV 2000",), "test"),
        ("stanford_cars/cars_test/00002.jpg", ("Acura RL Sedan 2012",), "test"),
    ]


def test_pets(tmp_path, photos):
    base = tmp_path / "oxford-iiit-pet"
    rows = {"trainval": ["Abyssinian_1 1 1 1", "american_bulldog_2 2 2 1"],
            "test": ["Abyssinian_3 1 1 1", "american_bulldog_4 2 2 1"]}  # fmt: skip
    for split, wanted in rows.items():
        for row in wanted:
            place(photos[len(row)], base, "images", f"{row.split()[0]}.jpg")
        (base / "annotations").mkdir(exist_ok=True)
        (base / "annotations" / f"{split}.txt").write_text("\n".join(wanted) + "\n")
    (base / "images" / "Abyssinian_1.jpg").write_bytes(b"not opened here")
    assert facts(open_dataset(f"OxfordIIITPet:{tmp_path}")) == [
        ("oxford-iiit-pet/images/Abyssinian_1.jpg", ("Abyssinian",), "trainval"),
        ("oxford-iiit-pet/images/american_bulldog_2.jpg", ("American Bulldog",), "trainval"),
        ("oxford-iiit-pet/images/Abyssinian_3.jpg", ("Abyssinian",), "test"),
        ("oxford-iiit-pet/images/american_bulldog_4.jpg", ("American Bulldog",), "test"),
    ]


def test_food(tmp_path, photos):
    base = tmp_path / "food-101"
    (base / "meta").mkdir(parents=True)
    for split, numbers in (("train", (1, 2)), ("test", (3, 4))):
        listed = {"pizza": [f"pizza/{numbers[0]}"], "apple_pie": [f"apple_pie/{numbers[1]}"]}
        (base / "meta" / f"{split}.json").write_text(json.dumps(listed))
        for names in listed.values():
            place(photos[numbers[0]], base, "images", *f"{names[0]}.jpg".split("/"))
    assert facts(open_dataset(f"Food101:{tmp_path}")) == [
        ("food-101/images/pizza/1.jpg", ("pizza",), "train"),
        ("food-101/images/apple_pie/2.jpg", ("apple_pie",), "train"),
        ("food-101/images/pizza/3.jpg", ("pizza",), "test"),
        ("food-101/images/apple_pie/4.jpg", ("apple_pie",), "test"),
    ]


def test_imagenet(tmp_path, photos, capsys):
    import torch

    words = {
        "n02012849": ("crane",),
        "n03126707": ("crane",),
        "n01440764": ("tench", "Tinca tinca"),
    }
    torch.save((words, []), tmp_path / "meta.bin")
    for i, wnid in enumerate(words):
        place(photos[i], tmp_path, "val", wnid, f"ILSVRC2012_val_{i}.JPEG")
    dataset = open_dataset(f"ImageNet:{tmp_path}")
    assert dataset.splits == ("val",)
    assert [s.label for s in dataset.samples] == [
        ("tench",), ("crane (n02012849)",), ("crane (n03126707)",)
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "train is left out" in said and "ILSVRC2012_img_train.tar" in said
    for i, wnid in enumerate(words):
        place(photos[i], tmp_path, "train", wnid, f"{wnid}_{i}.JPEG")
    assert open_dataset(f"ImageNet:{tmp_path}").splits == ("train", "val")
    (tmp_path / "train" / "n00000000").mkdir()
    with pytest.raises(InputMissingError, match="incomplete in train"):
        open_dataset(f"ImageNet:{tmp_path}")


@pytest.mark.parametrize("name", named.NAMES)
def test_absent_data_says_where_it_is_expected(tmp_path, name):
    with pytest.raises(InputMissingError) as caught:
        open_dataset(f"{name}:{tmp_path}")
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path) in message
    assert any(
        word in message for word in ("download=True) puts it there", "put ILSV", "must hold")
    )
    assert not list(tmp_path.iterdir())


def test_absent_packages(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"scipy is missing; pip install 'edge-fgr\[train"):
        open_dataset(f"StanfordCars:{tmp_path}")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtraError, match="torchvision is missing"):
        open_dataset(f"Food101:{tmp_path}")
