"""Answers compared: counted by hand through the classifier, and through what verify says."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from small_models import changed, failing, labelled_folder, linear, truth_of

from edge_fgr import Classifier
from edge_fgr.image import load
from edge_fgr.model import open_model
from edge_fgr_bench.bench_images import find_images
from edge_fgr_bench.candidates import plans_of
from edge_fgr_bench.compared import compare
from edge_fgr_bench.corruptions import CORRUPTIONS, SEVERITIES
from edge_fgr_bench.robust import CLEAN, corrupted
from edge_fgr_bench.seats import open_seat
from edge_fgr_bench.summary import wilson
from edge_fgr_export.verify import verdict_of


def seats_of(*models):
    return [open_seat(plan) for plan in plans_of([str(model) for model in models], ["cpu"], {})]


@pytest.fixture(scope="module")
def models(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return SimpleNamespace(
        changed=changed(folder / "changed.onnx", spread=2.0),
        turned=changed(folder / "turned.onnx", order=range(80, -1, -1)),
        linear=linear(folder / "linear.onnx", photos),
        half=linear(folder / "half.onnx", photos[::2]),
        fails=failing(folder / "fails.onnx", sorted({*map(truth_of, photos)}), photos[9]),
    )


@pytest.fixture(scope="module")
def pool(photos, tmp_path_factory):
    return find_images(str(labelled_folder(photos, tmp_path_factory.mktemp("data"))))


@pytest.fixture(scope="module")
def found(models, pool):
    """The embedded model, its changed copy, and one with the labels in another order."""
    return compare(seats_of("grocery81", models.changed, models.turned), pool)


def test_the_pool_is_what_the_folders_say(pool, photos):
    assert sorted(path.name for path in pool.paths) == [photo.name for photo in photos]
    assert [truth_of(path) for path in pool.paths] == list(pool.truths)
    assert pool.images.count == pool.images.labelled == 32 and not pool.images.broken


@pytest.mark.parametrize("place", [0, 1])
def test_figures_are_those_counted_by_hand(found, models, pool, place):
    classifier = Classifier.load(("grocery81", models.changed)[place], device="cpu")
    answers = list(classifier.classify_many(pool.paths, top_k=5))
    judged, labels = found.judged[place], classifier.contract.labels
    right = [a.label == truth for a, truth in zip(answers, pool.truths, strict=True)]
    five = [
        truth in [ranked.label for ranked in answer.top_k]
        for answer, truth in zip(answers, pool.truths, strict=True)
    ]
    assert (judged.key, judged.images, judged.left_out) == ("AB"[place], 32, 0)
    assert judged.top1 == wilson(sum(right), 32) and judged.top5 == wilson(sum(five), 32)
    assert [labels[i] for i in judged.best] == [answer.label for answer in answers]
    assert judged.probability == pytest.approx([a.top_k[0].probability for a in answers], abs=6e-5)
    strange = [i for i, answer in enumerate(answers) if answer.verdict.kind == "unknown"]
    assert list(judged.strange) == strange and judged.unknown == wilson(len(strange), 32)

    coarse = 0
    for path, truth in zip(pool.paths, pool.truths, strict=True):
        sums = Counter()
        for ranked in classifier(path, top_k=len(labels)).top_k:
            sums[ranked.label[:2]] += ranked.probability
        coarse += max(sums, key=sums.__getitem__) == truth[:2]
    assert judged.coarse == wilson(coarse, 32)

    share = {}
    for truth in sorted(set(pool.truths)):
        hits = [hit for hit, other in zip(right, pool.truths, strict=True) if other == truth]
        share[truth] = sum(hits) / len(hits)
    assert judged.macro.value == pytest.approx(np.mean(list(share.values())))
    assert judged.worst.share.value == min(share.values()) == share[judged.worst.label]
    assert judged.worst.images == 2 and judged.error is None


def test_pairs_are_those_of_verify(found, models, pool):
    first, second = open_model(device="cpu"), open_model(models.changed, device="cpu")
    pixels = np.stack([load(path, first.contract.geometry) for path in pool.paths])
    labels = list(first.contract.labels)
    targets = [labels.index(truth) for truth in pool.truths]
    verdict = verdict_of(first.run(pixels), second.run(pixels), targets)
    pair = found.pairs[0]
    assert (pair.a, pair.b, pair.images, pair.labelled) == ("A", "B", 32, 32)
    assert (pair.lost, pair.won, pair.p) == (verdict.lost, verdict.won, verdict.p)
    assert pair.lost and pair.agreement == wilson(verdict.same, 32)
    assert pair.drop.value == verdict.drop and pair.drop.low < pair.drop.value < pair.drop.high
    assert pair.largest == pytest.approx(verdict.largest)
    assert [flip.image for flip in pair.flips] == [flip.row for flip in verdict.flips]


def test_flips_are_shown_the_most_certain_first(found, pool):
    pair = found.pairs[0]
    assert len(pair.flips) == pair.images - round(pair.agreement.value * pair.images) >= 4
    outcomes = Counter(flip.outcome for flip in pair.flips)
    assert (outcomes["lost"], outcomes["won"]) == (pair.lost, pair.won)
    for flip in pair.flips:
        truth = pool.truths[flip.image]
        assert flip.a != flip.b and flip.outcome
        assert (flip.outcome == "lost") == (flip.a == truth)
        assert (flip.outcome == "won") == (flip.b == truth)
        assert flip.picture.startswith("data:image/jpeg;base64,")
        assert flip.a_probability == found.judged[0].probability[flip.image]
        assert flip.b_probability == found.judged[1].probability[flip.image]


def test_labels_in_another_order_are_aligned(found):
    _, pair, _ = found.pairs
    assert (pair.a, pair.b) == ("A", "C") and pair.agreement.value == 1
    assert pair.largest == 0 and not pair.flips and (pair.lost, pair.won, pair.p) == (0, 0, 1)
    one, other = found.judged[0], found.judged[2]
    assert other.best == tuple(80 - place for place in one.best)
    assert (other.top1, other.top5, other.coarse, other.worst, other.unknown) == (
        one.top1, one.top5, one.coarse, one.worst, one.unknown,
    )  # fmt: skip


def test_other_classes_are_not_paired_and_other_images_are_left_out(models, pool, photos):
    few = linear(models.linear.parent / "few.onnx", photos[:10])
    found = compare(seats_of("grocery81", few, models.linear), pool)
    assert found.pairs == ()
    _, judged, whole = found.judged
    assert (judged.images, judged.left_out) == (10, 22) and len(judged.best) == 32
    assert judged.top1.value == 1 and whole.top1 == wilson(32, 32)
    assert judged.unknown is None and judged.strange == ()


def test_without_labels_agreement_alone_is_said(models, photos):
    found = compare(seats_of(models.linear, models.half), find_images(str(photos[0].parent)))
    for judged in found.judged:
        assert judged.images == judged.left_out == 0 and len(judged.best) == 32
        assert (judged.top1, judged.macro, judged.coarse, judged.worst) == (None,) * 4
    (pair,) = found.pairs
    assert pair.labelled == 0 and pair.p is None and pair.drop is None
    assert 0.3 < pair.agreement.value < 1 and {flip.outcome for flip in pair.flips} == {""}


def test_one_that_fails_says_so_and_the_others_are_judged(models, pool):
    seats = seats_of(models.linear, models.fails, models.half)
    found = compare(seats, pool)
    one, failed, other = found.judged
    assert "fails.onnx: inference failed" in failed.error and failed.top1 is None
    assert one.error is None and other.error is None and one.top1.value == 1
    assert [(pair.a, pair.b) for pair in found.pairs] == [("A", "C")]
    robust = corrupted(seats, pool, 1, 0)  # it is not asked again
    assert {cell.key for cell in robust.cells} == {"A", "C"}


def test_logits_that_are_no_numbers_are_a_failure_of_their_model(models, pool, photos):
    labels = sorted({*map(truth_of, photos)})
    strange = failing(models.linear.parent / "nan.onnx", labels, photos[9], nan=True)
    seats = seats_of(models.linear, strange, models.half)
    found = compare(seats, pool)
    one, failed, other = found.judged
    assert failed.error and failed.top1 is None
    assert one.top1.value == 1 and other.top1 is not None
    assert [(pair.a, pair.b) for pair in found.pairs] == [("A", "C")]


STEPS = 1 + len(CORRUPTIONS) * len(SEVERITIES)


@pytest.fixture(scope="module")
def robust(models, pool):
    return corrupted(seats_of(models.linear, models.half, "grocery81"), pool, 2, 5)


def test_each_corruption_and_severity_is_asked_once(robust):
    assert robust.images == 2 and list(robust.groups) == [c.name for c in CORRUPTIONS]
    counted = Counter((cell.corruption, cell.severity) for cell in robust.cells)
    assert len(counted) == STEPS and set(counted.values()) == {3}
    assert all(cell.images == 2 and 0 <= cell.right <= 2 for cell in robust.cells)
    assert {cell.key for cell in robust.cells if cell.unknown is None} == {"A", "B"}
    assert [cell for cell in robust.cells if not cell.severity] == [
        cell for cell in robust.cells if cell.corruption == CLEAN
    ]


def test_severity_zero_is_what_the_models_say_to_the_images(robust, models, pool):
    for key, name in (("A", models.linear), ("B", models.half), ("C", "grocery81")):
        classifier = Classifier.load(name, device="cpu")
        answers = [classifier(pool.paths[place]) for place in (0, 31)]
        right = sum(
            answer.label == pool.truths[place]
            for answer, place in zip(answers, (0, 31), strict=True)
        )
        (cell,) = [c for c in robust.cells if c.key == key and not c.severity]
        assert cell.right == right
        if key == "C":
            assert cell.unknown == sum(answer.verdict.kind == "unknown" for answer in answers)


def test_models_of_one_list_of_classes_are_compared(robust):
    assert {(same.a, same.b) for same in robust.same} == {("A", "B")}
    assert len(robust.same) == STEPS and all(
        0 <= one.same <= one.images == 2 for one in robust.same
    )


def test_a_seed_repeats_and_another_differs(robust, models, pool):
    seats = seats_of(models.linear, models.half)
    again = corrupted(seats, pool, 2, 5)
    assert list(again.cells) == [cell for cell in robust.cells if cell.key != "C"]
    assert again.same == robust.same
    assert corrupted(seats, pool, 2, 6).cells != again.cells
