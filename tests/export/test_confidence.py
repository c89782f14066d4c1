"""What is fitted keeps its promises, and is left out where it could not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edge_fgr import Classifier
from edge_fgr.contract import Contract, Geometry
from edge_fgr.decision import back_off, conformal_set, probabilities, roll_up, unknown_score
from edge_fgr.errors import InputMissingError, ModelError, UsageError
from edge_fgr.model import embedded, open_model
from edge_fgr_export.command import Options, stamp
from edge_fgr_export.command import run as export_run
from edge_fgr_export.confidence import COVERAGES, fit_back_off, fit_confidence
from edge_fgr_export.outsiders import of_sibling
from edge_fgr_export.parity import logits_of
from edge_fgr_train.checkpoint import Run
from edge_fgr_train.command import run as train_run
from edge_fgr_train.dataset import targets_of
from edge_fgr_train.parts import split_again
from edge_fgr_train.temperature import fit_temperature

PATHS = tuple((f"c{i // 6}", f"b{i // 3}", f"a{i}") for i in range(12))
UNEVEN = (("a", "b", "c"), ("a", "b", "d"), ("a", "e"), ("f", "g"))
FLAT = tuple((f"k{i}",) for i in range(12))


def draw(count: int, seed: int, classes: int = 12, spread: float = 3.0):
    """Logits, and classes that are drawn from their softmax: as calibrated as can be."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(count, classes)) * spread).astype(np.float32)
    noise = rng.gumbel(size=logits.shape)
    return logits, (logits + noise).argmax(1).tolist()


def draw_hierarchy(count: int, seed: int):
    """The same for PATHS, with siblings that are confused most."""
    rng = np.random.default_rng(seed)
    coarse, middle = rng.normal(size=(count, 2)) * 6, rng.normal(size=(count, 4)) * 4
    logits = np.repeat(coarse, 6, 1) + np.repeat(middle, 3, 1) + rng.normal(size=(count, 12)) * 2
    logits = logits.astype(np.float32)
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(1).tolist()


def stands(labels, confidence) -> None:
    """It is stored and read again as it was."""
    contract = Contract("x", 1, labels, Geometry(64), confidence=confidence)
    assert Contract.from_json(contract.to_json()) == contract


def test_coverage_and_unknown_share_hold_on_new_draws():
    new, truth = draw(4000, seed=1)
    covered, unknown = {coverage: [] for coverage in COVERAGES}, []
    for seed in range(2, 42):
        logits, targets = draw(150, seed)
        fitted = fit_confidence(logits, targets, FLAT)
        values = probabilities(new, fitted.temperature)
        for coverage, quantile in fitted.conformal.quantiles:
            inside = 1 - values[np.arange(len(truth)), truth] <= quantile
            covered[coverage].append(inside.mean())
        unknown.append((unknown_score(new) < fitted.unknown.threshold).mean())
    for coverage, shares in covered.items():
        assert coverage - 0.01 < np.mean(shares) < coverage + 0.02
    assert 0.03 < np.mean(unknown) <= 0.055


def test_back_off_keeps_its_precision_at_every_level_on_new_draws():
    """A promise with certainty 0.95 may break in 1 of 20 fits, for every level."""
    new, truth = draw_hierarchy(20_000, seed=1)
    right, broken = {}, {1: [], 2: []}
    for depth in broken:
        coarse, sums = roll_up(probabilities(new), PATHS, depth)
        right[depth] = (
            np.array([PATHS[t][:depth] for t in truth]) == np.array(coarse)[sums.argmax(1)]
        )
    for seed in range(2, 32):
        logits, targets = draw_hierarchy(500, seed)
        temperature = fit_temperature(logits, targets)
        fitted = fit_back_off(probabilities(logits, temperature), targets, PATHS)
        values = probabilities(new, temperature)
        for depth, shares in broken.items():
            if (least := fitted.thresholds[depth - 1]) is not None:
                chosen = roll_up(values, PATHS, depth)[1].max(1) >= least
                shares.append(right[depth].all(axis=1)[chosen].mean() < 0.95)
    for shares in broken.values():
        assert len(shares) > 25 and np.mean(shares) <= 0.05


def test_a_coarse_answer_is_not_carried_by_sure_ones():
    """Siblings that cannot be told apart, and a coarse class that is right where it is answered."""
    labels = (("a", "x"), ("a", "y"), ("b", "z"))
    sure, torn, lost = [0.98, 0.01, 0.01], [0.4, 0.4, 0.2], [0.35, 0.25, 0.4]
    values = np.array([sure] * 300 + [torn] * 40 + [lost] * 20)
    targets = [0] * 300 + [0, 1] * 20 + [2, 0] * 10
    fitted = fit_back_off(values, targets, labels)
    assert back_off(values[310], labels, fitted.thresholds)[0] == ("a",)
    # The lost have 0.6 for "a" and are right half of the time: all together 97 % would be right.
    assert fitted.thresholds == (0.65, 0.5)
    assert back_off(values[-1], labels, fitted.thresholds)[0] == ()


@pytest.mark.parametrize(
    ("count", "largest"), [(3, 0), (8, 0.8), (18, 0.9), (98, 0.95), (99, 0.99)]
)
def test_a_coverage_without_enough_images_is_left_out(count, largest):
    logits, targets = draw(count, seed=5)
    fitted = fit_confidence(logits, targets, FLAT)
    quantiles = fitted.conformal.quantiles if fitted.conformal else ()
    assert [coverage for coverage, _ in quantiles] == [c for c in COVERAGES if c <= largest]
    assert (fitted.unknown is None) == (count < 19)
    assert fitted.images == count
    stands(FLAT, fitted)


def test_the_stated_share_holds_on_the_images_themselves():
    logits, targets = draw(246, seed=6)
    logits[:40] = logits[0]  # ties
    fitted = fit_confidence(logits, targets, FLAT, unknown_share=0.1)
    assert (unknown_score(logits) < fitted.unknown.threshold).mean() <= 0.1
    values = probabilities(logits, fitted.temperature)
    for coverage, quantile in fitted.conformal.quantiles:
        inside = [t in conformal_set(row, quantile) for t, row in zip(targets, values, strict=True)]
        assert np.mean(inside) >= coverage


@pytest.mark.parametrize("labels", [UNEVEN, tuple((c,) for c in "abcd")])
@pytest.mark.parametrize("count", [1, 4, 20, 200])
def test_all_right(labels, count):
    targets = [i % 4 for i in range(count)]
    logits = np.eye(4, dtype=np.float32)[targets] * 9
    fitted = fit_confidence(logits, targets, labels)
    assert (fitted.back_off is None) == (count < 200)
    if fitted.back_off:
        assert fitted.back_off.thresholds == (0.5,) * max(map(len, labels))
    stands(labels, fitted)


def test_all_wrong():
    targets = [i % 4 for i in range(200)]
    logits = np.eye(4, dtype=np.float32)[[(t + 2) % 4 for t in targets]] * 9
    fitted = fit_confidence(logits, targets, UNEVEN)
    assert fitted.back_off is None and fitted.temperature > 10
    values = probabilities(logits, fitted.temperature)
    quantile = dict(fitted.conformal.quantiles)[0.8]
    assert all(t in conformal_set(row, quantile) for t, row in zip(targets, values, strict=True))
    stands(UNEVEN, fitted)


def test_wrong_siblings_back_off_to_their_parent():
    targets = [0, 1] * 100
    logits = np.tile(np.array([[4, 4.001, -4, -4]], np.float32), (200, 1))
    fitted = fit_confidence(logits, targets, UNEVEN)
    assert fitted.back_off.thresholds[2] is None
    values = probabilities(logits[0], fitted.temperature)
    assert back_off(values, UNEVEN, fitted.back_off.thresholds)[0] == ("a", "b")
    stands(UNEVEN, fitted)


def test_two_classes():
    logits, targets = draw(400, seed=8, classes=2, spread=9)
    fitted = fit_confidence(logits, targets, (("good",), ("bad",)), fitted_on="val")
    assert len(fitted.back_off.thresholds) == 1 and fitted.fitted_on == "val"
    stands((("good",), ("bad",)), fitted)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers(bad):
    logits, targets = draw(30, seed=9)
    logits[3, 4] = bad
    with pytest.raises(ModelError, match="finite"):
        fit_confidence(logits, targets, FLAT)
    with pytest.raises(ModelError, match="no images"):
        fit_confidence(logits[:0], [], FLAT)


def test_fitted_on_photos_stored_and_shown(cli, photos, tmp_path):
    model = open_model(embedded()["grocery81"], device="cpu")
    labels = model.contract.labels
    logits = logits_of(model, photos, model.contract.geometry)
    names = ["_".join(label) for label in labels]
    targets = [names.index(photo.stem.rpartition("_")[0]) for photo in photos]
    fitted = fit_confidence(logits, targets, labels, fitted_on="golden photos")
    assert [coverage for coverage, _ in fitted.conformal.quantiles] == [0.8, 0.9, 0.95]
    assert fitted.back_off is None  # 32 photos show no precision of 0.95
    fitted = replace(
        fitted, back_off=fit_confidence(np.tile(logits, (4, 1)), targets * 4, labels).back_off
    )
    path = tmp_path / "model.onnx"
    contract = replace(model.contract, confidence=fitted)
    path.write_bytes(stamp(onnx.load(embedded()["grocery81"]), contract))
    assert Classifier.load(path).contract.confidence == fitted
    shown = cli("inspect", path).stdout
    assert "32 images, golden photos" in shown and "max_minus_mean below" in shown
    assert "0.95 right (certainty 0.95)" in shown and "coverage 0.8: " in shown
    facts = json.loads(cli("inspect", path, "--format", "json").stdout)
    assert facts["contract"]["schema"] == 4
    assert len(facts["contract"]["confidence"]["conformal"]["quantiles"]) == 3


def test_a_sibling_answers_for_images_that_a_run_saw_all_of(tiny, tmp_path):
    """The sibling is the tiny run itself; the run saw its calibration and evaluation images too."""
    changes = ['data.fit=["train", "val"]', 'data.evaluate=""', 'data.calibration=""']
    train_run(tiny / "data", tmp_path / "run", str(tiny / "tiny.toml"), changes, "cpu")
    with pytest.raises(InputMissingError, match="export the sibling first"):
        export_run(tmp_path / "run", None, None, Options(sibling=tiny / "run"))
    export_run(tiny / "run", tmp_path / "sibling.onnx", None, Options(target="fp32"))
    options = Options(target="fp32", sibling=tiny / "run", sibling_model=tmp_path / "sibling.onnx")
    export_run(tmp_path / "run", tmp_path / "out.onnx", None, options)
    fitted = Classifier.load(tmp_path / "out.onnx", device="cpu").contract.confidence
    assert fitted.fitted_on == "calibration and val of a sibling"
    sibling = open_model(tmp_path / "sibling.onnx", device="cpu")
    split = split_again(Run.read(tiny / "run"), None, "")
    held = sorted({*split.calibration, *split.evaluate})
    assert fitted.images == len(held) == 9
    logits = logits_of(sibling, [s.path for s in held], sibling.contract.geometry)
    expected = fit_confidence(
        logits, targets_of(held, sibling.contract.labels), sibling.contract.labels
    )
    assert fitted.temperature == expected.temperature
    assert fitted.conformal == expected.conformal
    outsiders = of_sibling(tiny / "run", tmp_path / "sibling.onnx", None, sibling.contract.labels)
    assert outsiders.scale(outsiders.paths[:5], 3 * logits[:5]) == pytest.approx(3)
    assert outsiders.scale([tmp_path / "other.jpg"], logits[:1]) == 1
    with pytest.raises(UsageError, match="--sibling must say"):
        Options(sibling_model=tmp_path / "sibling.onnx")
    with pytest.raises(InputMissingError, match="trained on all"):
        of_sibling(tmp_path / "run", tmp_path / "out.onnx", None, sibling.contract.labels)
    with pytest.raises(UsageError, match="other classes"):
        of_sibling(tiny / "run", tmp_path / "sibling.onnx", None, (("a",), ("b",)))
