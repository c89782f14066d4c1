"""Evidence maps add up to the logits, lie over what the network saw, and land in own files."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

from edge_fgr import Classifier
from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.errors import ContractError, OutputError, UsageError
from edge_fgr.head import HEAD_KEY
from edge_fgr.image import load
from edge_fgr.model import embedded, open_model
from edge_fgr.saliency import NEAR_TIE, explain, overlay, write_evidence
from edge_fgr.tint import scale_bar, tint
from edge_fgr_export.command import stamp
from edge_fgr_export.rehead import rehead
from pictures import opened

APPLE = ("Fruit", "Apple", "Granny-Smith")
OTHER = ("Fruit", "Apple", "Golden-Delicious")


def contract_of(model):
    (text,) = (prop.value for prop in model.metadata_props if prop.key == METADATA_KEY)
    return Contract.from_json(text)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The embedded model with its head, whether or not it was exported with it."""
    model = onnx.load(embedded()["grocery81"])
    path = tmp_path_factory.mktemp("model") / "headed.onnx"
    path.write_bytes(stamp(model, contract_of(model)))
    return path


@pytest.fixture(scope="module")
def model(path):
    return open_model(path, device="cpu")


@pytest.fixture(scope="module")
def apple(photos):
    return next(photo for photo in photos if "Granny-Smith" in photo.name)


def test_a_map_adds_up_to_its_logit(model, photos):
    for photo in photos:
        pixels = load(photo, model.contract.geometry)[None]
        logits = model.run(pixels)[0]
        order = np.argsort(-logits)
        evidence = explain(model, photo, against=int(order[1]))
        assert evidence.chosen.label == model.contract.labels[order[0]]
        assert evidence.map.total == pytest.approx(logits[order[0]] - logits.mean(), abs=1e-5)
        assert evidence.difference.total == pytest.approx(logits[order[0]] - logits[order[1]])
        for shown in (evidence.map, evidence.difference):
            assert shown.values.dtype == np.float32 and shown.values.ndim == 2
            # The embedding is rounded to 8 bits after the mean: that much is not in the map.
            assert shown.values.mean() + shown.bias == pytest.approx(shown.total, abs=0.1)


@pytest.mark.parametrize(("l2", "factor"), [(True, 1.0), (False, 0.1)])
def test_heads_on_directions_and_plain_ones_add_up(l2, factor, path, model, photos, tmp_path):
    head = model.head()
    bias = np.linspace(-1, 1, len(head.bias), dtype=np.float32)
    changed = rehead(onnx.load(path), factor * head.weight, bias, l2=l2)
    file = tmp_path / "changed.onnx"
    file.write_bytes(stamp(changed, model.contract))
    other = open_model(file, device="cpu")
    assert other.head().l2 is l2
    for photo in photos[::4]:
        evidence = explain(other, photo, APPLE, against=OTHER)
        for shown in (evidence.map, evidence.difference):
            assert shown.values.mean() + shown.bias == pytest.approx(shown.total, abs=0.05)
            assert abs(shown.bias) > 1e-3


def test_the_picture_is_what_the_network_saw(model, apple, tmp_path):
    turned = tmp_path / "turned.jpg"
    picture = opened(apple).resize((900, 1200)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(turned, exif=exif)
    roi = (0.1, 0.3, 0.8, 0.9)
    size = model.contract.geometry.size
    seen = explain(model, turned, roi=roi).picture
    assert seen.size[0] == seen.size[1] >= 2 * size
    small = np.asarray(seen.resize((size, size), Image.Resampling.BOX), np.float32)
    pixels = load(turned, model.contract.geometry, roi=roi).astype(np.float32)
    assert np.abs(small - pixels).mean() < 4
    assert np.abs(small[:, ::-1] - pixels).mean() > 15


def test_all_kinds_of_source_give_one_map(model, apple):
    wanted = explain(model, apple).map.values
    data = apple.read_bytes()
    with Image.open(apple) as unread:
        sources = (str(apple), data, unread)
        for source in sources:
            assert np.array_equal(explain(model, source).map.values, wanted)
    array = np.asarray(opened(apple))
    bgr = explain(model, np.ascontiguousarray(array[..., ::-1]), channels="bgr")
    assert np.array_equal(bgr.map.values, explain(model, array, channels="rgb").map.values)


def test_evidence_follows_the_thing(model, photos):
    """A photograph of apples on the left and of milk on the right, then mirrored."""
    milk = next(photo for photo in photos if "Standard-Milk" in photo.name)
    apples = next(photo for photo in photos if "Granny-Smith" in photo.name)
    half = [opened(photo).resize((300, 300)) for photo in (apples, milk)]
    label = next(label for label in model.contract.labels if label[-1] == "Arla-Standard-Milk")
    for on_the_right in (True, False):
        page = Image.new("RGB", (600, 300))
        for place, part in enumerate(half if on_the_right else half[::-1]):
            page.paste(part, (300 * place, 0))
        page = page.resize((300, 300))
        shown = explain(model, page, APPLE, against=label).difference.values
        left, right = shown[:, : shown.shape[1] // 2], shown[:, -(shown.shape[1] // 2) :]
        assert (left.mean() > right.mean()) == on_the_right


def test_only_a_near_runner_up_is_compared(model, photos):
    clf = Classifier(model)
    for photo in photos:
        first, second, *_ = clf(photo).top_k
        evidence = explain(model, photo)
        near = second.probability >= NEAR_TIE * first.probability
        assert (evidence.difference is not None) == near == (evidence.against is not None)
        if near:
            assert evidence.against.label == second.label


def test_a_prediction_is_explained_with_its_verdict(model, apple):
    prediction = Classifier(model)(apple)
    evidence = explain(model, apple, prediction)
    assert evidence.chosen.label == prediction.label
    assert evidence.chosen.probability == pytest.approx(prediction.probability)
    assert "verdict: " in evidence.verdict


def test_an_enrolled_class_gives_way_to_the_model_s_own(model, apple):
    prediction = replace(Classifier(model)(apple), label=("Fruit", "Quince"))
    evidence = explain(model, apple, prediction)
    assert evidence.chosen.label == explain(model, apple).chosen.label
    assert "Quince is enrolled and has no map" in evidence.verdict


def test_another_class_has_another_map(model, apple):
    one, two = explain(model, apple, APPLE), explain(model, apple, OTHER)
    place = model.contract.labels.index(OTHER)
    assert np.array_equal(explain(model, apple, place).map.values, two.map.values)
    assert not np.allclose(one.map.values, two.map.values, atol=0.1)
    apart = explain(model, apple, APPLE, against=OTHER).difference.values
    assert np.allclose(apart, one.map.values - two.map.values, atol=1e-4)


def test_a_random_head_has_a_random_map(path, model, photos, tmp_path):
    """Sanity check of Adebayo et al. (NeurIPS 2018), section 3: no map without what was learnt."""
    head = model.head()
    weight = np.random.default_rng(0).permutation(head.weight, axis=1)
    changed = rehead(onnx.load(path), weight, head.bias, l2=head.l2)
    random = tmp_path / "random.onnx"
    random.write_bytes(stamp(changed, model.contract))
    other = open_model(random, device="cpu")
    likeness = []
    for photo in photos:
        place = model.contract.labels.index(explain(model, photo).chosen.label)
        maps = [explain(m, photo, place).map.values.ravel() for m in (model, other)]
        likeness.append(np.corrcoef(*maps)[0, 1])
    assert abs(np.mean(likeness)) < 0.5


def test_classes_that_cannot_be_meant(model, apple):
    with pytest.raises(UsageError, match="No-such: is no class"):
        explain(model, apple, ("No-such",))
    with pytest.raises(UsageError, match="0 to 80"):
        explain(model, apple, 81)
    with pytest.raises(UsageError, match="itself"):
        explain(model, apple, APPLE, against=APPLE)


def test_a_model_without_its_head(path, apple, tmp_path):
    model = onnx.load(path)
    (entry,) = (prop for prop in model.metadata_props if prop.key == HEAD_KEY)
    model.metadata_props.remove(entry)
    older = tmp_path / "older.onnx"
    onnx.save(model, older)
    with pytest.raises(ContractError, match="export it again"):
        explain(open_model(older, device="cpu"), apple)


def test_files_of_one_name_do_not_meet(model, photos, tmp_path):
    written = set()
    for i, photo in enumerate(photos[:4]):
        copy = tmp_path / str(i) / "1.jpg"
        copy.parent.mkdir()
        shutil.copy(photo, copy)
        evidence = explain(model, copy)
        written.add(write_evidence(evidence, tmp_path / "maps", str(copy)))
        written.add(write_evidence(evidence, tmp_path / "maps", str(copy)))  # the same again
    assert len(written) == 4
    assert sorted((tmp_path / "maps").iterdir()) == sorted(written)
    for file in written:
        picture = opened(file)
        assert picture.format == "JPEG" and file.name.startswith("1-")


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("standard input", "standard_input-"),
        ("../../etc/passwd", "passwd-"),
        (".hidden.png", "hidden-"),
        ("", "photo-"),
        ("a:b*c?\0\n\udcff.jpg", "a_b_c-"),
        ("木" * 300, "木" * 40 + "-"),
    ],
)
def test_names_are_safe(model, apple, tmp_path, name, begins):
    written = write_evidence(explain(model, apple), tmp_path, name)
    assert written.parent == tmp_path and written.is_file()
    assert written.name.startswith(begins)


def test_a_folder_that_cannot_be_made(model, apple, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_evidence(explain(model, apple), tmp_path / "file" / "maps", "a.jpg")


def test_a_page_has_a_panel_for_each_map(model, apple):
    two = overlay(explain(model, apple, APPLE, against=OTHER))
    one = explain(model, apple, APPLE)
    assert one.difference is None
    single = overlay(one)
    assert two.height == single.height
    assert two.width > single.width > 2 * one.picture.width


def test_long_names_are_cut_not_drawn_over_their_neighbours(model, apple):
    evidence = explain(model, apple, APPLE, against=OTHER)
    plain = overlay(evidence)
    long = replace(evidence.chosen, label=("Very-" * 80,))
    assert overlay(replace(evidence, chosen=long)).size == plain.size


def test_colours_say_the_sign_and_keep_the_lightness():
    grey = Image.new("L", (60, 30), 128)
    values = np.array([[-1.0, 0.0, 1.0]], np.float32)
    pixels = np.asarray(tint(grey, values, 1.0)).astype(int)
    left, middle, right = pixels[15, 3], pixels[15, 30], pixels[15, 56]
    assert left[2] > left[0] + 60 and right[0] > right[2] + 60
    assert np.ptp(middle) < 12
    bar = np.asarray(scale_bar(101, 4).convert("RGB")).astype(int)
    assert bar.shape == (4, 101, 3) and np.ptp(bar[0, 50]) < 4
    luma = bar[0] @ (0.2126, 0.7152, 0.0722)
    assert np.ptp(luma) < 45


def test_the_line_runs_at_half_of_the_limit():
    values = np.zeros((4, 4), np.float32)
    values[1:3, 1:3] = 1
    pixels = np.asarray(tint(Image.new("L", (80, 80), 60), values, 1.0))
    white = (pixels == 255).all(-1)
    assert white.any() and not white[:8].any() and not white[36:44, 36:44].any()
    assert not (np.asarray(tint(Image.new("L", (80, 80), 60), -values, 1.0)) == 255).all(-1).any()


def test_no_evidence_at_all_is_drawn():
    from edge_fgr.prediction import Ranked
    from edge_fgr.saliency import Evidence, Map

    nothing = Map(np.zeros((3, 3), np.float32), 0.0, 0.0)
    picture = Image.new("RGB", (128, 128), "gray")
    page = overlay(Evidence(Ranked(("a",), 0.5), nothing, None, None, picture))
    assert page.width > 256
