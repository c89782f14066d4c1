"""Classes that are learned on the device: real photos, the shipped model, whole processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edge_fgr import Classifier
from edge_fgr.errors import (
    ContractError,
    GalleryError,
    ImageError,
    InputMissingError,
    OutputError,
    UsageError,
)
from edge_fgr.gallery import enroll, forget, label_of, read_gallery
from edge_fgr.gallery_store import MOST_PHOTOS, changing, read_store
from edge_fgr.image import load
from edge_fgr.model import embedded, open_model

ROOT = Path(__file__).parent.parent.parent
PHOTO = ROOT / "examples" / "tropicana-mandarin-morning.jpg"
NEW = ("Packages", "Juice", "Ours")


@pytest.fixture(scope="module")
def model():
    return open_model(embedded()["grocery81"], device="cpu")


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Photos of one thing that no class of the model is: tomatoes that are blue."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("views")
    found = []
    with Image.open(ROOT / "examples" / "vine-tomato.jpg") as photo:
        red, green, blue = photo.convert("RGB").split()
    picture = Image.merge("RGB", (blue, green, red))
    width, height = picture.size
    for i in range(8):
        left, top = (i % 4) * width // 40, (i // 4) * height // 40
        path = folder / f"view{i}.jpg"
        picture.crop((left, top, left + int(0.85 * width), top + int(0.85 * height))).save(path)
        found.append(str(path))
    return found


@pytest.fixture
def gallery(tmp_path, model, views):
    path = tmp_path / "ours.json"
    enroll(path, model, NEW, views[:5])
    return path


def test_an_enrolled_class_is_found_and_the_others_stay(gallery, model, views, photos):
    plain, taught = Classifier(model), Classifier(model, gallery=read_gallery(gallery, model))
    for view in views[5:]:
        assert plain(view).label != NEW
        answer = taught(view)
        assert answer.label == NEW
        assert answer.probability > 0.5
        assert answer.verdict.kind != "unknown"
    labels = [(taught(photo).label, plain(photo).label) for photo in photos]
    assert all(with_it != NEW for with_it, _ in labels)
    # Angles answer in place of the head, so a near tie may fall the other way.
    assert sum(with_it != without for with_it, without in labels) <= 2


def test_all_classes_share_one_scale(gallery, model, views):
    taught = Classifier(model, gallery=read_gallery(gallery, model))
    count = len(model.contract.labels) + 1
    answer = taught(views[6], top_k=count)
    assert len(answer.top_k) == count
    assert sum(rank.probability for rank in answer.top_k) == pytest.approx(1)


def test_the_same_photos_make_the_same_file(gallery, model, views, tmp_path):
    other = tmp_path / "again.json"
    enroll(other, model, NEW, views[:2])
    enroll(other, model, NEW, views[1:5])  # one twice: it counts once
    assert other.read_bytes() == gallery.read_bytes()


def test_few_photos_reach_less_far(model, views, tmp_path):
    """The mean of few photos is raised, so that the classes of many do not win by number."""
    path, lengths = tmp_path / "few.json", []
    for count in (1, 3, 8):
        enroll(path, model, NEW, views[:count])
        (direction,) = read_gallery(path, model).directions
        lengths.append(float(np.linalg.norm(direction)))
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] >= 1


def test_forget(gallery, model, views):
    enroll(gallery, model, ("Other",), [str(PHOTO)])
    assert [one.label for one in read_store(gallery).classes] == [NEW, ("Other",)]
    forget(gallery, NEW)
    assert [one.label for one in read_store(gallery).classes] == [("Other",)]
    with pytest.raises(UsageError, match="is not enrolled; enrolled: Other"):
        forget(gallery, NEW)
    forget(gallery, ("Other",))
    photo = views[0]
    plain = Classifier(model)(photo)
    assert Classifier(model, gallery=read_gallery(gallery, model))(photo).label == plain.label


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Fruit/Apple/Granny-Smith", "was trained on this class"),
        ("Fruit/Apple", "is a group of classes"),
        ("Fruit/Apple/Granny-Smith/Old", "at most 3 names"),
        ("Fruit//New", "a class is a name"),
        ("", "a class is a name"),
        ("a\x1b[2J", "a class is a name"),
    ],
)
def test_labels_that_cannot_be_meant(text, why, model, tmp_path):
    with pytest.raises(UsageError, match=why):
        enroll(tmp_path / "g.json", model, label_of(text), [str(PHOTO)])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_when_a_photo_fails(gallery, model, tmp_path):
    before = gallery.read_bytes()
    half = tmp_path / "half.jpg"
    half.write_bytes(PHOTO.read_bytes()[:3000])
    with pytest.raises(ImageError, match="truncated"):
        enroll(gallery, model, ("Other",), [str(PHOTO), str(half)])
    with pytest.raises(InputMissingError):
        enroll(gallery, model, ("Other",), [str(tmp_path / "none.jpg")])
    with pytest.raises(UsageError, match="at least one"):
        enroll(gallery, model, ("Other",), [])
    assert gallery.read_bytes() == before


def test_too_many_photos(gallery, model, views, tmp_path):
    with pytest.raises(UsageError, match="at most 20"):
        enroll(gallery, model, NEW, views * 3)
    many = []
    for i in range(MOST_PHOTOS - 4):
        many.append(str(tmp_path / f"{i}.jpg"))
        shutil.copy(PHOTO, many[-1])
        with open(many[-1], "ab") as file:  # another file of the same pixels
            file.write(bytes([1 + i]))
    with pytest.raises(UsageError, match="21 photos; at most 20"):
        enroll(gallery, model, NEW, many)


def test_one_photo_is_not_of_two_classes(gallery, model, views):
    with pytest.raises(UsageError, match="is enrolled as Packages/Juice/Ours"):
        enroll(gallery, model, ("Other",), views[:1])


def test_any_name_of_a_file_can_be_enrolled(model, tmp_path):
    odd = os.fsencode(tmp_path) + b"/cam\xff.jpg"
    try:
        shutil.copy(PHOTO, odd)
    except OSError:
        pytest.skip("this file system has no such names")
    enroll(tmp_path / "g.json", model, NEW, [os.fsdecode(odd)])
    enroll(tmp_path / "g.json", model, NEW, [str(ROOT / "examples" / "conference.jpg")])
    assert read_store(tmp_path / "g.json").classes[0].photos[0].name == "cam\udcff.jpg"
    listed = run("gallery", "list", "-g", tmp_path / "g.json", "--format", "json")
    (one,) = json.loads(listed.stdout)["classes"]
    assert len(one["photos"]) == 2


def test_a_link_to_a_gallery_stays_a_link(gallery, model, tmp_path):
    link = tmp_path / "elsewhere" / "link.json"
    link.parent.mkdir()
    link.symlink_to(gallery)
    enroll(link, model, ("Other",), [str(PHOTO)])
    assert link.is_symlink()
    assert [one.label for one in read_store(gallery).classes] == [NEW, ("Other",)]
    assert list(link.parent.iterdir()) == [link]


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders")
def test_what_is_no_file_is_refused_and_left_alone(model, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    before = sorted(tmp_path.iterdir())
    for name in ("folder", "pipe", "photo.jpg"):
        with pytest.raises(GalleryError, match="is no gallery"):
            enroll(tmp_path / name, model, NEW, [str(PHOTO)])
        with pytest.raises(GalleryError, match="is no gallery"):
            forget(tmp_path / name, NEW)
    with pytest.raises(OutputError, match="cannot be written"):
        enroll(tmp_path / "photo.jpg" / "g.json", model, NEW, [str(PHOTO)])
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "photo.jpg").read_bytes() == PHOTO.read_bytes()


def changed(path, change):
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), "no whole gallery"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00"), "is no gallery"),
        (lambda p: p.write_text("[]"), "no whole gallery"),
        (lambda p: p.write_text("[" * 100_000), "no whole gallery"),
        (lambda p: changed(p, lambda raw: raw.update(schema=2)), "schema must be 1, not 2"),
        (lambda p: changed(p, lambda raw: raw.update(more=1)), "unknown key 'more'"),
        (lambda p: changed(p, lambda raw: raw["classes"][0]["photos"].clear()), "without photos"),
        (
            lambda p: changed(p, lambda raw: raw["classes"].append(raw["classes"][0])),
            "stands twice",
        ),
        (
            lambda p: changed(p, lambda raw: raw["classes"][0]["photos"][0].update(embedding="AA")),
            "no whole gallery",
        ),
    ],
)
def test_damaged_galleries(gallery, model, damage, why):
    damage(gallery)
    with pytest.raises(GalleryError, match=why):
        read_gallery(gallery, model)
    with pytest.raises(GalleryError, match=why):
        enroll(gallery, model, NEW, [str(PHOTO)])


def test_a_gallery_of_another_model(gallery, model, tmp_path):
    copy = tmp_path / "other.onnx"
    other = onnx.load(model.path)
    other.doc_string = "another file"
    copy.write_bytes(other.SerializeToString())
    with pytest.raises(GalleryError, match=r"was made with grocery81 version .*enroll again"):
        read_gallery(gallery, open_model(copy, device="cpu"))


def test_a_model_that_lacks_what_enrolment_needs(model, tmp_path):
    bare = onnx.load(model.path)
    props = {p.key: p.value for p in bare.metadata_props if p.key == "edge_fgr"}
    document = json.loads(props["edge_fgr"])
    document["confidence"]["unknown"] = None
    helper.set_model_props(bare, {"edge_fgr": json.dumps(document)})
    path = tmp_path / "bare.onnx"
    path.write_bytes(bare.SerializeToString())
    with pytest.raises(ContractError, match="export it again"):
        enroll(tmp_path / "g.json", open_model(path, device="cpu"), NEW, [str(PHOTO)])
    assert not (tmp_path / "g.json").exists()


def test_processes_wait_for_each_other(gallery, views):
    """All of them enroll into one file at once, and none is lost."""
    code = (
        "import sys; from edge_fgr.gallery import enroll; from edge_fgr.model import open_model;"
        "enroll(sys.argv[1], open_model(device='cpu'), (sys.argv[2],), [sys.argv[3]])"
    )
    with changing(gallery):
        running = [
            subprocess.Popen([sys.executable, "-c", code, str(gallery), f"class{i}", views[5 + i]])
            for i in range(3)
        ]
        before = gallery.read_bytes()
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert gallery.read_bytes() != before
    found = {one.label for one in read_store(gallery).classes}
    assert found == {NEW, ("class0",), ("class1",), ("class2",)}


def run(*arguments, **options):
    command = [sys.executable, "-m", "edge_fgr", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_command_line(tmp_path, views):
    path = tmp_path / "ours.json"
    done = run("enroll", "Packages/Juice/Ours", *views[:5], "-g", path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Packages/Juice/Ours has 5 photos now" in done.stderr
    listed = run("gallery", "list", "-g", path, "--format", "json")
    facts = json.loads(listed.stdout)
    assert [one["label"] for one in facts["classes"]] == [list(NEW)]
    assert len(facts["classes"][0]["photos"]) == 5
    assert "Packages/Juice/Ours  5 photos" in run("gallery", "list", "-g", path).stdout
    answer = run("classify", views[6], "-g", path, "--format", "jsonl")
    assert json.loads(answer.stdout)["label"] == list(NEW)
    assert run("forget", "Packages/Juice/Ours", "-g", path).returncode == 0
    assert (
        json.loads(run("gallery", "list", "-g", path, "--format", "json").stdout)["classes"] == []
    )
    missing = run("classify", views[6], "-g", tmp_path / "none.json")
    assert (missing.returncode, missing.stderr.count("\n")) == (66, 1)
    unknown = run("forget", "Nothing", "-g", path)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)


def test_an_embedding_is_what_the_model_says(gallery, model, views):
    stored = read_store(gallery)
    pixels = load(views[0], model.contract.geometry)
    assert np.array_equal(
        stored.classes[0].photos[0].values(), model.outputs(pixels[None], "embedding")[0][0]
    )
