"""Every example photo gets the label that its name says."""

from __future__ import annotations

from pathlib import Path

import pytest

PHOTOS = sorted((Path(__file__).parents[2] / "examples").glob("*.jpg"))


def test_there_are_examples():
    assert 3 <= len(PHOTOS) <= 4


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.stem)
def test_label_is_right(clf, photo):
    assert clf(photo).label[-1].lower() == photo.stem
