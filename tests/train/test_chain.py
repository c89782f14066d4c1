"""The classical chain: selection, cross-validation, folding; on embeddings of real photographs."""

from __future__ import annotations

import numpy as np
import pytest

from edge_fgr import image
from edge_fgr.errors import UsageError
from edge_fgr.model import open_model
from edge_fgr_train.chain import decisions, fit_chain, fold
from edge_fgr_train.recipe import Chain
from edge_fgr_train.selection import Selection, parse_selection, scores_of, transformer_of
from edge_fgr_train.temperature import fit_temperature
from pictures import opened

SELECTIONS = ("none", "pca:6", "pca:0.9", "mic:40", "lda:7")


@pytest.fixture(scope="module")
def rows(photos):
    """Embeddings of eight classes: two photos of each, and three cuts of each photo."""
    model = open_model(device="cpu")
    pixels, targets, groups = [], [], []
    for i, photo in enumerate(photos[:16]):
        picture = opened(photo)
        for box in ((0, 0, 348, 348), (20, 10, 300, 290), (40, 40, 320, 330), (5, 60, 280, 340)):
            pixels.append(image.load(picture.crop(box), model.contract.geometry))
            targets.append(i // 2)
            groups.append(i)
    embedding = model.outputs(np.stack(pixels), "embedding")[0]
    return embedding[:, ::8], targets, groups  # 160 features: eigenvectors of 1280 take seconds


@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("head", ["svm", "logreg", "cosine"])
def test_the_fold_repeats_scikit_learn(rows, head, select):
    embedding, targets, groups = rows
    rules = Chain(head=head, select=select, c=(0.01, 1.0), folds=2)
    fitted = fit_chain(embedding, targets, groups, rules)
    weight, bias = fold(fitted.pipeline)
    assert weight.shape == (8, embedding.shape[1])
    exact = decisions(fitted.pipeline, embedding)
    folded = embedding @ weight.astype(np.float32).T + bias.astype(np.float32)
    np.testing.assert_allclose(folded, exact, atol=1e-4)
    np.testing.assert_array_equal(folded.argmax(1), fitted.pipeline.predict(embedding))
    assert (folded.argmax(1) == targets).mean() > 0.9
    assert fitted.temperature > 0


def test_one_scale_for_all(rows):
    embedding, targets, groups = rows
    fitted = fit_chain(embedding, targets, groups, Chain(scale="all", c=(0.01,), folds=2))
    scaled = fitted.pipeline[:2].transform(embedding)
    assert scaled.var() == pytest.approx(1, rel=1e-6)
    spread = scaled.std(0) / embedding.std(0)
    np.testing.assert_allclose(spread, spread[0], rtol=1e-4)
    weight, bias = fold(fitted.pipeline)
    exact = decisions(fitted.pipeline, embedding)
    np.testing.assert_allclose(embedding @ weight.T + bias, exact, atol=1e-6)


def test_cosine_is_the_nearest_mean_by_angle(rows):
    embedding, targets, groups = rows
    fitted = fit_chain(embedding, targets, groups, Chain("cosine", folds=2))
    assert fitted.c == 1
    seen = fitted.pipeline[:2].transform(embedding)
    means = np.stack([seen[np.array(targets) == c].mean(0) for c in range(8)])
    around = means.mean(0)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (seen - around, means - around)]
    answers = (unit[0] @ unit[1].T).argmax(1)
    np.testing.assert_array_equal(answers, decisions(fitted.pipeline, embedding).argmax(1))


def test_two_classes_fold_to_two_logits(rows):
    embedding, targets, groups = (part[:16] for part in rows)
    for head in ("svm", "logreg"):
        fitted = fit_chain(embedding, targets, groups, Chain(head=head, c=(1.0,), folds=2))
        weight, bias = fold(fitted.pipeline)
        logits = embedding @ weight.T + bias
        assert logits.shape == (16, 2)
        np.testing.assert_allclose(logits, decisions(fitted.pipeline, embedding), atol=1e-6)
        np.testing.assert_array_equal(logits.argmax(1), fitted.pipeline.predict(embedding))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, fitted.pipeline.predict_proba(embedding), atol=1e-6)


def test_near_duplicates_never_stand_on_both_sides(rows):
    """Every photo's class is drawn: with groups apart, nothing can be learned about the others."""
    embedding, _, groups = rows
    drawn = np.random.default_rng(5).permutation(16) % 4
    targets = [int(drawn[group]) for group in groups]
    apart = fit_chain(embedding, targets, groups, Chain(c=(1.0,), folds=4))
    mixed = fit_chain(embedding, targets, range(len(groups)), Chain(c=(1.0,), folds=4))
    assert mixed.path[0].top1 > 0.9  # cuts of one photo know each other
    assert apart.path[0].top1 < 0.6


def test_the_strength_is_chosen_by_cross_validation(rows):
    """The smallest of those that are not clearly worse than the best."""
    embedding, targets, groups = rows
    strengths = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    fitted = fit_chain(embedding, targets, groups, Chain("logreg", c=strengths, folds=4))
    assert [point.c for point in fitted.path] == [*strengths]
    tops = [point.top1 for point in fitted.path]
    chosen = strengths.index(fitted.c)
    noise = [(abs(max(tops) - top) / 64) ** 0.5 for top in tops]  # if nothing was won back
    assert max(tops) - tops[chosen] <= noise[chosen] + 1e-3
    assert all(max(tops) - top > 0 for top in tops[:chosen])


def test_left_out_images_are_judged_by_classifiers_that_did_not_see_them(rows):
    embedding, targets, groups = rows
    fitted = fit_chain(embedding, targets, groups, Chain(c=(0.01,), folds=4))
    assert sorted(fitted.left_out) == list(range(64))
    hits = fitted.logits.argmax(1) == np.array(targets)[fitted.left_out]
    assert hits.mean() == pytest.approx(fitted.path[0].top1, abs=1e-4)
    assert hits.mean() < (decisions(fitted.pipeline, embedding).argmax(1) == targets).mean()


def test_a_class_of_one_image_is_learned(rows):
    embedding, targets, groups = rows
    few = [0, *range(4, 64)]
    fitted = fit_chain(
        embedding[few], [targets[i] for i in few], [groups[i] for i in few], Chain(folds=3)
    )
    assert len(fitted.pipeline["head"].classes_) == 8


def test_what_is_right_everywhere_is_not_infinitely_sure():
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]] * 4
    few, many = (fit_temperature(np.tile(logits, (n, 1)), [0, 1, 2, 0, 1, 2] * n) for n in (1, 100))
    assert 0.1 < many < few < 4
    logits[0, 1] = -np.inf  # a class that a fold never saw
    assert fit_temperature(logits, [0, 1, 2, 0, 1, 2]) == pytest.approx(few, rel=0.05)


def test_constant_features_do_no_harm(rows):
    embedding, targets, groups = rows
    dead = embedding.copy()
    dead[:, ::2] = 0.25
    for select in SELECTIONS:
        fitted = fit_chain(dead, targets, groups, Chain(select=select, folds=2, c=(0.1,)))
        weight, bias = fold(fitted.pipeline)
        assert np.isfinite(weight).all()
        np.testing.assert_allclose(
            dead @ weight.T + bias, decisions(fitted.pipeline, dead), atol=1e-4
        )


def test_selection_keeps_what_it_says(rows):
    embedding, targets, _ = rows
    for text, count in (("mic:40", 40), ("pca:6", 6), ("lda:7", 7)):
        fitted = transformer_of(parse_selection(text), images=64, width=160, classes=8)
        assert fitted.fit_transform(embedding, targets).shape == (64, count)
        scores, kept = scores_of(fitted)
        assert kept.sum() == count
        assert len(scores) == (160 if text.startswith("mic") else count)
    kept_least = np.sort(scores_of(_mic(embedding, targets))[0])[-40]
    scores, kept = scores_of(_mic(embedding, targets))
    assert scores[kept].min() == kept_least


def test_permuted_class_numbers_select_the_same(rows):
    embedding, targets, _ = rows
    other = np.random.default_rng(0).permutation(8)[targets]
    np.testing.assert_array_equal(
        scores_of(_mic(embedding, targets))[1], scores_of(_mic(embedding, other))[1]
    )


def _mic(embedding, targets):
    fitted = transformer_of(Selection("mic", 40), images=64, width=160, classes=8)
    return fitted.fit(embedding, targets)


@pytest.mark.parametrize(
    "text", ["", "pca", "none:3", "pca:0", "pca:-1", "mic:0.5", "mic:2.5", "lda:x", "svd:3"]
)
def test_selections_that_cannot_be_meant(text):
    with pytest.raises(UsageError, match="is none of"):
        parse_selection(text)


@pytest.mark.parametrize(("text", "limit"), [("pca:64", 63), ("lda:8", 7), ("mic:161", 160)])
def test_more_than_the_data_can_give(text, limit):
    with pytest.raises(UsageError, match=f"at most {limit} with 64 images of 8 classes"):
        transformer_of(parse_selection(text), images=64, width=160, classes=8)


@pytest.mark.parametrize("select", ["pca:30", "lda:2", "none"])
def test_more_components_than_the_rank(rows, select):
    """Ten pictures many times over: most components are rounding noise, and must not be heard."""
    embedding, targets, _ = rows
    few = np.tile(np.arange(0, 40, 4), 6)
    x, y = embedding[few], [targets[i] // 2 for i in few]
    fitted = fit_chain(x, y, [int(i) for i in few], Chain(select=select, c=(0.1,), folds=2))
    weight, bias = (part.astype(np.float32) for part in fold(fitted.pipeline))
    np.testing.assert_allclose(x @ weight.T + bias, decisions(fitted.pipeline, x), atol=1e-4)
