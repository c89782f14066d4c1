"""What is said of an image, and why: classes, coarser names, unknown ones, sets of labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from edge_fgr import Classifier
from edge_fgr.confidence import BackOff, Confidence, Conformal, Unknown
from edge_fgr.contract import Contract, Geometry, OperatingPoint
from edge_fgr.decision import back_off, conformal_set, probabilities, unknown_score
from edge_fgr.errors import ContractError, UsageError
from edge_fgr.familiar import FAMILIAR_KEY, Familiar, familiar_from_json
from edge_fgr.model import embedded, open_model
from edge_fgr.verdict import Decider
from edge_fgr_export.familiar_fit import fit_familiar
from edge_fgr_export.metadata import stamp
from edge_fgr_export.parity import answers_of

LABELS = (("Fruit", "Apple", "Gala"), ("Fruit", "Apple", "Granny"), ("Fruit", "Kiwi"), ("Veg",))
FITTED = Confidence(
    unknown=Unknown("max_minus_mean", 1.0, 0.05),
    conformal=Conformal("lac", ((0.8, 0.3), (0.95, 0.7))),
    back_off=BackOff(0.95, 0.95, (0.9, 0.8, 0.6)),
    images=300,
    fitted_on="calibration",
)


def decider(confidence=FITTED, labels=LABELS, **more) -> Decider:
    return Decider(Contract("x", 1, labels, Geometry(64), confidence=confidence), **more)


def logits_for(*values: float):
    return np.log(np.array(values)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "kind", "label", "reason"),
    [
        ((0.9, 0.05, 0.03, 0.02), "class", LABELS[0], "Gala has 90 % and needs 60 %"),
        ((0.5, 0.4, 0.08, 0.02), "coarse", ("Fruit", "Apple"), "Gala has only 50 % of 60 % needed"),
        ((0.55, 0.2, 0.2, 0.05), "coarse", ("Fruit",), "Apple has only 75 % of 80 % needed"),
        ((0.02, 0.03, 0.7, 0.25), "class", LABELS[2], "Kiwi has 70 %"),
        ((0.3, 0.05, 0.15, 0.5), "uncertain", (), "no coarser name is left"),
        ((0.26, 0.25, 0.25, 0.24), "unknown", (), "below 1"),
    ],
)
def test_verdicts(values, kind, label, reason):
    verdict = decider()(logits_for(*values), None, 2).verdict
    assert (verdict.kind, verdict.label) == (kind, label)
    assert reason in verdict.reason and "\n" not in verdict.reason
    if kind in ("class", "coarse"):
        said = back_off(np.array(values), LABELS, FITTED.back_off.thresholds)
        assert (verdict.label, verdict.probability) == (said[0], pytest.approx(said[1]))
    else:
        assert verdict.probability == pytest.approx(max(values))


def test_a_share_just_below_the_least_does_not_read_as_if_it_reached_it():
    verdict = decider()(logits_for(0.59996, 0.3, 0.08, 0.02004), None, 1).verdict
    assert verdict.kind == "coarse" and "Gala has only 59.9 % of 60 % needed" in verdict.reason


def test_without_confidence_the_best_class_is_said():
    answer = decider(None)(logits_for(0.3, 0.3, 0.2, 0.2), None, 9)
    assert answer.verdict.kind == "class" and answer.verdict.label == LABELS[0]
    assert answer.verdict.reason == "no confidence was fitted"
    assert answer.unknown is answer.labels is None and len(answer.top_k) == 4
    only = decider(Confidence(0.5))(logits_for(0.3, 0.3, 0.2, 0.2), None, 1).verdict
    assert only.kind == "class" and only.reason == "no back-off was fitted"


def gated(threshold, confidence=FITTED, **more) -> Decider:
    point = OperatingPoint(LABELS[2], threshold, 0.05, 95, 5, 1, 99)
    contract = Contract("x", 1, LABELS, Geometry(64), confidence=confidence, operating=point)
    return Decider(contract, **more)


@pytest.mark.parametrize(
    ("values", "kind", "label", "accepted", "reason"),
    [
        ((0.02, 0.03, 0.7, 0.25), "class", LABELS[2], True, "Kiwi has 0.7 and needs 0.4 to be"),
        # Accepted though another class is more probable, and though back-off would not say it.
        ((0.02, 0.01, 0.45, 0.52), "class", LABELS[2], True, "Kiwi has 0.45 and needs 0.4"),
        ((0.9, 0.05, 0.03, 0.02), "rejected", LABELS[0], False, "Kiwi has only 0.03 of 0.4"),
        # Rejected though no class is more probable: the best of the others is said.
        ((0.35, 0.01, 0.39, 0.25), "rejected", LABELS[0], False, "Gala is the best with 0.35"),
        ((0.25, 0.24, 0.26, 0.25), "unknown", (), False, "below 1"),
    ],
)
def test_the_operating_point_is_obeyed(values, kind, label, accepted, reason):
    answer = gated(0.4)(logits_for(*values), None, 2)
    assert (answer.verdict.kind, answer.verdict.label) == (kind, label)
    assert reason in answer.verdict.reason and "\n" not in answer.verdict.reason
    assert (answer.gate.label, answer.gate.accepted) == (LABELS[2], accepted)
    assert answer.gate.probability == pytest.approx(values[2]) and answer.gate.threshold == 0.4
    assert answer.top_k[0].label == LABELS[int(np.argmax(values))]  # this keeps its meaning
    assert decider()(logits_for(*values), None, 2).gate is None


def test_an_unknown_image_is_not_accepted_however_probable():
    strict = replace(FITTED, unknown=Unknown("max_minus_mean", 1e9, 0.05))
    answer = gated(0.01, strict)(logits_for(0.01, 0.01, 0.97, 0.01), None, 1)
    assert answer.verdict.kind == "unknown" and not answer.gate.accepted
    assert gated(0.01, None)(logits_for(0.01, 0.01, 0.97, 0.01), None, 1).gate.accepted


def test_a_probability_that_equals_the_threshold_is_accepted():
    logits = logits_for(0.2, 0.2, 0.4, 0.2)
    exact = float(probabilities(logits)[2])
    assert gated(exact, None)(logits, None, 1).gate.accepted
    assert not gated(np.nextafter(exact, 1), None)(logits, None, 1).gate.accepted


def test_enrolled_classes_can_only_take_from_the_accepted_one():
    ask = gated(0.4, enrolled=(("Tool", "Saw"),))
    answer = ask(logits_for(0.02, 0.02, 0.3, 0.02, 0.64), None, 1)
    assert (answer.verdict.kind, answer.verdict.label) == ("rejected", ("Tool", "Saw"))


def test_sets_hold_what_the_quantile_lets_in():
    for values in ((0.5, 0.35, 0.1, 0.05), (0.9, 0.05, 0.03, 0.02), (0.26, 0.25, 0.25, 0.24)):
        found = decider(coverage=0.95)(logits_for(*values), None, 1).labels
        shares = probabilities(logits_for(*values))
        assert found.labels == tuple(LABELS[i] for i in conformal_set(shares, 0.7))
        assert found.coverage == 0.95 and "300 images, calibration" in found.reason
    alone = decider(coverage=0.8)(logits_for(0.5, 0.3, 0.1, 0.1), None, 1).labels
    assert alone.labels == LABELS[:1] and "no label has the 70 %" in alone.reason


@pytest.mark.parametrize(
    ("coverage", "says"),
    [(0.9, "for 0.8, 0.95; the next safer one is 0.95"), (0.99, "none of them is as safe")],
)
def test_a_coverage_that_was_not_fitted_is_refused(coverage, says):
    with pytest.raises(UsageError, match=says):
        decider(coverage=coverage)
    with pytest.raises(UsageError, match="no sets fitted"):
        decider(Confidence(), coverage=coverage)


def test_enrolled_classes_share_scale_and_levels():
    enrolled = (("Fruit", "Apple", "New"), ("Tool", "Saw", "Small", "Blue"))
    ask = decider(enrolled=enrolled)
    answer = ask(logits_for(0.3, 0.25, 0.02, 0.02, 0.4, 0.01), None, 1)
    assert answer.top_k[0].label == enrolled[0]
    assert answer.verdict.label == ("Fruit", "Apple")
    answer = ask(logits_for(0.05, 0.05, 0.02, 0.02, 0.01, 0.85), None, 1)
    assert (answer.verdict.kind, answer.verdict.label) == ("class", enrolled[1])
    plain = logits_for(0.3, 0.3, 0.2, 0.2)
    longer = np.append(plain, [-50.0, -50.0]).astype(np.float32)
    assert ask(longer, None, 1).unknown.score == pytest.approx(float(unknown_score(plain)))


@pytest.fixture(scope="module")
def stranger(photos, tmp_path_factory):
    """The embedded model with a score of its embedding, fitted on the photos of the tests."""
    model = open_model(embedded()["grocery81"], device="cpu")
    labels = model.contract.labels
    names = ["_".join(label) for label in labels]
    targets = [names.index(photo.stem.rpartition("_")[0]) for photo in photos]
    _, embeddings = answers_of(model, photos, model.contract.geometry)
    document = fit_familiar(embeddings, targets, len(labels))
    scores = [familiar_from_json(document).score(row) for row in embeddings]
    fitted = replace(FITTED, unknown=Unknown("whitened_cosine", min(scores), 0.05), back_off=None)
    path = tmp_path_factory.mktemp("stranger") / "model.onnx"
    graph = onnx.load(embedded()["grocery81"])
    path.write_bytes(stamp(graph, replace(model.contract, confidence=fitted), document))
    return path, document, scores


def test_a_picture_of_nothing_is_unknown_and_photos_are_not(stranger, photos):
    path, _, scores = stranger
    clf = Classifier.load(path, device="cpu", coverage=0.95)
    said = [clf(photo) for photo in photos]
    assert [p.unknown.score for p in said] == scores
    assert all(p.verdict.kind == "class" and p.unknown.method == "whitened_cosine" for p in said)
    nothing = clf(np.full((300, 300, 3), 128, np.uint8), channels="rgb")
    assert nothing.verdict.kind == "unknown" and nothing.verdict.label == ()
    assert nothing.unknown.score < nothing.unknown.threshold
    assert f"{nothing.unknown.score:.6g}" in nothing.verdict.reason
    assert nothing.label and nothing.labels.labels[0] == nothing.label  # these keep their meaning


def test_the_score_sees_no_length_and_no_order(stranger):
    _, document, _ = stranger
    familiar = familiar_from_json(document)
    rows = np.abs(np.random.default_rng(0).normal(size=(20, 1280))).astype(np.float32)
    for row in rows:
        assert familiar.score(row) == familiar.score(row * 4) == familiar.score(row.astype("f8"))
        assert -1 <= familiar.score(row) <= 1
    assert -1 <= familiar.score(np.zeros(1280, np.float32)) <= 1
    # Sums of whole numbers below 2^24: exact in float32, in whatever order a machine adds them.
    longest = np.linalg.norm(familiar.basis.astype(np.float64), axis=1).max()
    assert longest * (8192 + np.sqrt(1280) / 2) < 2**24
    order = np.random.default_rng(1).permutation(1280)
    mixed = Familiar(
        np.ascontiguousarray(familiar.basis[:, order]),
        familiar.scale,
        familiar.whiten,
        familiar.centre,
        familiar.classes,
        familiar.rest,
    )
    assert [mixed.score(row[order]) for row in rows] == [familiar.score(row) for row in rows]


def test_a_file_without_what_its_score_needs_is_refused(stranger, tmp_path):
    path, document, _ = stranger
    graph = onnx.load(path)
    assert stamp(graph, open_model(path).contract) == path.read_bytes()  # it stays in the file
    changes = {
        "lacks": None,
        "cannot be read": document.replace('"basis":"', '"basis":"!'),
        "schema must be 1": document.replace('"schema":1', '"schema":2'),
        "unknown key": document.replace('"rest"', '"best"'),
        "not finite": document[: document.rindex(":")] + ":-1.0}",
    }
    for says, text in changes.items():
        changed = onnx.load(path)
        keep = [p for p in changed.metadata_props if p.key != FAMILIAR_KEY]
        del changed.metadata_props[:]
        changed.metadata_props.extend(keep)
        if text is not None:
            entry = changed.metadata_props.add()
            entry.key, entry.value = FAMILIAR_KEY, text
        other = tmp_path / "other.onnx"
        other.write_bytes(changed.SerializeToString())
        with pytest.raises(ContractError, match=says):
            Classifier.load(other, device="cpu", cache=False)
