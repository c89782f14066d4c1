"""The face of the package: predictions, bits, threads."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_fgr import Classifier, image
from edge_fgr.errors import ImageError, UsageError
from edge_fgr.model import open_model


def test_prediction(clf, photos):
    prediction = clf(photos[0], top_k=3)
    assert prediction.label == prediction.top_k[0].label
    assert prediction.probability == prediction.top_k[0].probability
    assert len(prediction.top_k) == 3
    values = [rank.probability for rank in prediction.top_k]
    assert values == sorted(values, reverse=True) and 0 < sum(values) <= 1
    assert prediction.device == "cpu"
    assert prediction.model.name == "grocery81" and len(prediction.model.digest) == 64
    assert prediction.ms.total >= prediction.ms.decode > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.probability = 1.0


def test_top_k_is_bounded_by_the_classes(clf, photos):
    everything = clf(photos[0], top_k=500).top_k
    assert len(everything) == len(clf.contract.labels) == 81
    assert sum(rank.probability for rank in everything) == pytest.approx(1)
    with pytest.raises(UsageError):
        clf(photos[0], top_k=0)


def test_threads_and_batch_give_the_same_bits(photos):
    one, two = (open_model(device="cpu", threads=n) for n in (1, 2))
    pixels = np.stack([image.load(photo, one.contract.geometry) for photo in photos[:8]])
    single = np.concatenate([one.run(row[None]) for row in pixels])
    for model in (one, two):
        assert model.run(pixels).tobytes() == single.tobytes()
        rows = np.concatenate([model.run(row[None]) for row in pixels])
        assert rows.tobytes() == single.tobytes()


def test_outputs_have_the_promised_shapes(photos):
    model = open_model(device="cpu")
    pixels = image.load(photos[0], model.contract.geometry)[None].repeat(2, axis=0)
    logits, embedding, features = model.outputs(pixels, "logits", "embedding", "features")
    assert logits.shape == (2, 81) and embedding.shape == (2, 1280)
    assert features.shape[:2] == (2, 1280) and features.shape[2] == features.shape[3]
    assert {logits.dtype, embedding.dtype, features.dtype} == {np.dtype(np.float32)}
    assert (
        len(np.unique(open_model(device="cpu").run(pixels))) > 60
    )  # logits are not rounded to 8 bits
    np.testing.assert_allclose(features.mean((2, 3)), embedding, atol=0.05)


def test_one_classifier_serves_many_threads(clf, photos):
    expected = [clf(photo).probability for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            assert list(pool.map(lambda photo: clf(photo).probability, photos)) == expected


def test_many_come_in_order_and_lazily(clf, photos):
    taken = []

    def source():
        for photo in photos:
            taken.append(photo)
            yield photo

    results = clf.classify_many(source(), workers=2)
    first = next(results)
    assert len(taken) <= 1 + 8  # bounded: at most 4 * workers ahead
    labels = [first.label, *(prediction.label for prediction in results)]
    assert labels == [clf(photo).label for photo in photos]


def test_many_raise_where_the_prediction_would_have_come(clf, photos):
    results = clf.classify_many([photos[0], b"broken", photos[1]], workers=2)
    assert next(results).label
    with pytest.raises(ImageError):
        next(results)


def test_region_changes_the_answer(clf, photos):
    whole = clf(photos[0])
    corner = clf(photos[0], roi=(0.0, 0.0, 0.2, 0.2))
    assert corner.probability != whole.probability


def test_load_by_name_and_path(clf):
    by_name = Classifier.load("grocery81", device="cpu")
    assert by_name.model == clf.model
