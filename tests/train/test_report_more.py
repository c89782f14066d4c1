"""The report's calibration, evidence maps, environment and recipe."""

from __future__ import annotations

import platform
import tomllib
from dataclasses import asdict, replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from test_report import MISTAKES, NOTHING, Page, report_of, write

from edge_fgr.contract import Geometry, build
from edge_fgr.decision import probabilities
from edge_fgr.image import load
from edge_fgr_train.backbones import TEACHING
from edge_fgr_train.environment import environment
from edge_fgr_train.evidence import class_maps
from edge_fgr_train.network import build_network
from edge_fgr_train.plots import reliability_plot
from edge_fgr_train.recipe import Chain, Model, Recipe, load_recipe
from edge_fgr_train.recipe_lines import recipe_lines
from edge_fgr_train.reliability import brier, crossed, ece, gaps, reliability
from edge_fgr_train.report_pairs import add_maps
from edge_fgr_train.temperature import fit_temperature

SIZE, CLASSES = 96, 16
TRAINED = Recipe(name="trained", geometry=Geometry(size=SIZE))
NO_CHAIN = {
    "recipe": TRAINED, "scores": NOTHING, "kept": NOTHING.astype(bool), "chance": None,
    "path": (), "c": None,
}  # fmt: skip


def network_of(size=SIZE, *, pretrained=True, **model):
    torch.manual_seed(0)
    network = build_network(Model(**model), CLASSES, pretrained=pretrained, size=size).eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    torch.nn.init.normal_(network.head.bias)
    return network


@pytest.fixture(scope="module")
def network():
    return network_of()


@pytest.fixture(scope="module")
def pixels(photos):
    return np.stack([load(photo, Geometry(size=SIZE)) for photo in photos[:3]])


def above_mean(logits, classes):
    return logits[np.arange(len(classes)), classes] - logits.mean(1)


@torch.inference_mode()
def outputs_of(network, pixels):
    return [part.numpy().astype(np.float64) for part in network(torch.from_numpy(pixels))]


@pytest.mark.parametrize(("l2", "mirrors"), [(False, 1), (True, 1), (False, 4)])
def test_maps_are_class_activation_maps(pixels, network, l2, mirrors):
    """What ``edge_fgr.saliency`` computes from the weights, for means and a linear head."""
    network = network_of(l2=l2, mirrors=mirrors) if l2 or mirrors > 1 else network
    classes = [3, 0, 15]
    maps = class_maps(network, pixels, classes)
    logits, embedding, features = outputs_of(network, pixels)
    weight, bias = (p.detach().numpy().astype(float) for p in network.head.parameters())
    for i, place in enumerate(classes):
        length = np.linalg.norm(embedding[i]) if l2 else 1.0
        by_weights = np.tensordot((weight[place] - weight.mean(0)) / length, features[i], 1)
        assert maps[i].shape == by_weights.shape == (3, 3)
        np.testing.assert_allclose(maps[i], by_weights, atol=1e-5 * np.abs(by_weights).max())
    total = maps.mean((1, 2)) + bias[classes] - bias.mean()
    np.testing.assert_allclose(total, above_mean(logits, classes), atol=1e-4)
    assert maps.dtype == np.float32


@pytest.mark.parametrize(("pool", "near"), [("mean", 1e-4), ("gem", 0.1)])
def test_what_places_add_is_the_logit(pixels, pool, near):
    """The generalised mean grows as its argument does, but for the number that keeps it from 0."""
    network, classes = network_of(pool=pool), [1, 2, 3]
    maps = class_maps(network, pixels, classes)
    logits, _, _ = outputs_of(network, pixels)
    bias = network.head.bias.detach().numpy()
    total = maps.mean((1, 2)) + bias[classes] - bias.mean()
    np.testing.assert_allclose(total, above_mean(logits, classes), atol=near)
    assert np.abs(maps).max() > 0.1


def test_maps_of_levels_are_those_of_the_last_one(pixels):
    network = network_of(pool="levels")
    maps = class_maps(network, pixels, [1, 2, 3])
    assert maps.shape == (3, 3, 3) and np.abs(maps).max() > 0
    with torch.no_grad():
        network.head.weight[:, -1280:] = 0
    assert not class_maps(network, pixels, [1, 2, 3]).any()


def test_maps_of_a_grid(photos):
    small = np.stack([load(photo, Geometry(size=32)) for photo in photos[:2]])
    network = network_of(32, pretrained=False, backbone=TEACHING)
    maps = class_maps(network, small, [0, 5])
    _, _, features = outputs_of(network, small)
    weight = network.head.weight.detach().numpy().reshape(CLASSES, *features.shape[1:])
    by_weights = ((weight[[0, 5]] - weight.mean(0)) * features).sum(1)
    np.testing.assert_allclose(maps, by_weights * 64, rtol=1e-3, atol=1e-3)


def test_maps_leave_the_network_as_it_was(pixels, network):
    before = outputs_of(network, pixels)
    class_maps(network, pixels, [0, 1, 2])
    assert all((a == b).all() for a, b in zip(before, outputs_of(network, pixels), strict=True))
    assert all(part.grad is None for part in network.parameters())
    frozen = network_of().requires_grad_(False)
    assert (class_maps(frozen, pixels, [0, 1, 2]) == class_maps(network, pixels, [0, 1, 2])).all()


@pytest.fixture(scope="module")
def report(photos, network):
    return report_of(photos, mistakes=MISTAKES, network=network, commit="c0ffee", **NO_CHAIN)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    return write(tmp_path_factory.mktemp("more"), report)


def test_each_mistake_has_a_map_for_the_answer_and_one_for_the_truth(page, report, network):
    scale, *images = page.all("img")
    assert scale["alt"] == "blue is against, orange is for"
    assert len(images) == 4 * len(MISTAKES)
    assert images[2]["alt"] == "Golden-Delicious, evidence for Granny-Smith"
    assert images[3]["alt"] == "Golden-Delicious, evidence for Golden-Delicious"
    assert len({image["src"] for image in images}) == len(images)
    mistaken = np.stack([load(report.judged[0].path, TRAINED.geometry)])
    sums = [class_maps(network, mistaken, [place]).mean() for place in (1, 0)]
    words = page.text("figcaption")[:2]
    assert [word.rpartition(": ")[0] for word in words] == ["for the answer", "for the true class"]
    assert [float(word.rpartition(": ")[2]) for word in words] == pytest.approx(sums, abs=0.011)


def test_without_a_network_there_are_no_maps(photos, tmp_path):
    page = write(tmp_path, report_of(photos, mistakes=MISTAKES))
    assert not page.text("figcaption") and len(page.all("img")) == 2 * len(MISTAKES)
    assert "orange" not in page.source


def test_maps_need_pictures_and_places(photos, network, tmp_path):
    assert not add_maps([{"mistake": None}], network)
    page = write(tmp_path, report_of(photos, network=network, **NO_CHAIN))
    assert "every judged image got its own class" in page.words and not page.all("img")


def test_equal_reports_give_equal_bytes(page, report, tmp_path):
    assert write(tmp_path, report).source == page.source


VALUES = np.array([[0.7, 0.3], [0.7, 0.3], [0.2, 0.8], [0.01, 0.99]])
TARGETS = np.array([0, 1, 1, 1])


def test_reliability_that_can_be_told_by_hand():
    found = reliability(VALUES, TARGETS)
    assert [(b.place, b.images, b.right) for b in found.bins] == [
        (10, 2, 1),
        (12, 1, 1),
        (14, 1, 1),
    ]
    assert [b.probability for b in found.bins] == pytest.approx([0.7, 0.8, 0.99])
    assert found.ece == pytest.approx((2 * 0.2 + 0.2 + 0.01) / 4)
    assert found.brier == pytest.approx((0.18 + 0.98 + 0.08 + 0.0002) / 4)
    assert (found.right, found.said) == pytest.approx((0.75, 0.7975))
    top, right = VALUES.max(1), VALUES.argmax(1) == TARGETS
    assert ece(top, right) == found.ece and brier(VALUES, TARGETS) == found.brier
    assert gaps(top, right).shape == (4, 15)
    assert ece(np.ones(3), np.ones(3, bool)) == 0


def test_a_half_has_no_part_in_its_own_temperature():
    random = np.random.default_rng(0)
    logits = random.normal(size=(60, 4)).astype(np.float32)
    truth = np.where(random.random(60) < 0.8, logits.argmax(1), random.integers(0, 4, 60)).tolist()
    values, (even, odd) = crossed(logits, truth)
    assert even == fit_temperature(logits[1::2], truth[1::2]) != odd
    assert np.allclose(values[::2], probabilities(logits[::2], even))
    assert np.allclose(values[1::2], probabilities(logits[1::2], odd))
    other = [(t + 1) % 4 if i % 2 == 0 else t for i, t in enumerate(truth)]
    changed, _ = crossed(logits, other)
    assert (changed[::2] == values[::2]).all() and (changed[1::2] != values[1::2]).any()


def test_a_diagram_shows_its_bins():
    plot = reliability_plot(reliability(VALUES, TARGETS), "by hand")
    assert 'aria-label="Curve: right answers over their probability, by hand"' in plot
    less = reliability_plot(reliability(VALUES[:3], TARGETS[:3]), "by hand")
    assert plot.count("<use") == less.count("<use") + 3  # a point and both ends of its interval
    assert "right answers" in plot and "images" in plot


def many_judged(photos, **changes):
    """Two classes, 60 images to judge; every tenth answer is wrong."""
    paths = [photos[i % 32] for i in range(120)]
    made = report_of(paths, lambda i: (("no", "yes")[i % 2],), **changes)
    truth = np.arange(60) % 2
    answers = np.where(np.arange(60) % 10 == 0, 1 - truth, truth)
    logits = (np.eye(2)[answers] * (1 + np.arange(60)[:, None] % 4)).astype(np.float32)
    return replace(made, logits=logits), truth


def diagrams(page):
    return [e for e in page.all("svg") if "over their probability" in e["aria-label"]]


def shown(found):
    return f"ECE {100 * found.ece:.1f} %, Brier score {found.brier:.3f}"


def test_a_network_is_shown_as_trained_and_with_the_temperature_of_others(photos, tmp_path):
    report, truth = many_judged(photos, **NO_CHAIN)
    page = write(tmp_path, report)
    words = " ".join(page.words.replace("\N{NO-BREAK SPACE}", " ").split())
    assert len(diagrams(page)) == 2
    assert shown(reliability(probabilities(report.logits), truth)) in words
    assert shown(reliability(crossed(report.logits, truth.tolist())[0], truth)) in words
    assert "not calibrated yet" in words


def test_a_chain_is_shown_with_its_temperature(photos, tmp_path):
    report, truth = many_judged(photos, temperature=0.5, judged_by="cross-validation")
    page = write(tmp_path, report)
    words = " ".join(page.words.replace("\N{NO-BREAK SPACE}", " ").split())
    assert len(diagrams(page)) == 1
    assert shown(reliability(probabilities(report.logits, 0.5), truth)) in words
    assert "fitted on these very answers" in words and "not calibrated" not in words


def test_images_that_were_fitted_on_calibrate_nothing(photos, tmp_path):
    report, _ = many_judged(photos, judged_by="the images it was fitted on", **NO_CHAIN)
    page = write(tmp_path, report)
    assert len(diagrams(page)) == 1 and "right less often at the same probability" in page.words


HOSTILE = '</pre><script>"1"</script> \\ \x00 \u202e \u2028 {{ 7 * 7 }} # default: 果物 🍏'


@pytest.mark.parametrize(
    "recipe",
    [
        load_recipe("default"),
        load_recipe("grocery81"),
        load_recipe("teaching"),
        replace(load_recipe("chain"), chain=Chain(c=(1e-5, 0.1)), notes="two\nlines"),
        replace(TRAINED, name=HOSTILE, model=Model(dropout=0.0)),
        replace(TRAINED, geometry=Geometry(size=SIZE, roi=(0.0, 0.25, 1.0, 1.0))),
    ],
    ids=lambda recipe: recipe.name[:10],
)
def test_the_recipe_of_the_page_is_the_recipe(photos, tmp_path, recipe):
    page = write(tmp_path, replace(report_of(photos), recipe=recipe))
    (text,) = [e["text"] for e in page.all("pre")]
    assert build(Recipe, tomllib.loads(text), "recipe") == recipe
    assert not set(text) & set("\x00\u202e\u2028")
    (details,) = page.all("details")
    assert "open" not in details


def test_what_differs_from_the_default_is_marked(photos, tmp_path):
    recipe = load_recipe("default", ["optimise.lr=0.01", "augment.flip=0", 'notes="mine"'])
    plain = {line.text for line in recipe_lines(load_recipe("default")) if line.differs}
    marked = {line.text for line in recipe_lines(recipe) if line.differs} - plain
    assert marked == {
        "lr = 0.01  # default: 0.0005",
        "flip = 0.0  # default: 0.5",
        'notes = "mine"  # default: ""',
    }
    page = write(tmp_path, replace(report_of(photos), recipe=recipe))
    assert {" ".join(line.split()) for line in marked} <= set(page.text("b"))
    keys = [line.text.partition(" = ")[0] for line in recipe_lines(recipe)]
    assert set(asdict(recipe.optimise)) | set(asdict(recipe.augment)) <= set(keys)


def test_the_geometry_is_compared_with_the_backbones():
    recipe = load_recipe("default", ['model.backbone="efficientnet_lite0"'])
    own = [line for line in recipe_lines(recipe) if line.text.startswith("size = 224")]
    assert not own[0].differs
    unknown = replace(TRAINED, model=Model(backbone="what a chain stands on"))
    assert "size = 96" in {line.text for line in recipe_lines(unknown)}


def test_environment(page, photos, tmp_path):
    facts = environment(torch.device("cpu"))
    assert facts["torch"] == version("torch") and facts["pillow"] == version("pillow")
    assert facts["Python"] == platform.python_version() and facts["Device"] == "cpu"
    assert facts["Processor"] and int(facts["Cores"].split()[0]) >= 1
    assert "Device" not in environment()
    assert platform.node() not in facts.values()
    assert f"timm {version('timm')}" in " ".join(page.words.split())
    assert "Commit of the code c0ffee" in " ".join(page.words.split())
    assert "Commit" not in write(tmp_path, report_of(photos)).words


def test_the_report_of_a_run_has_it_all(tiny):
    page = Page(tiny / "run" / "report.html")
    words = " ".join(page.words.split())
    assert "Device cpu" in words and 'name = "tiny"' in words
    assert len(page.text("figcaption")) == 2 * len(page.all("article", "pair"))
