"""The figures of pictures at fault: on real photos, changed by computation."""

from __future__ import annotations

import shutil

from edge_fgr_bench.quality_check import quality_check
from edge_fgr_train.dataset import scan


def test_good_and_bad_pictures(clf, photos, tmp_path):
    for photo in photos[::4]:
        place = tmp_path.joinpath("val", *photo.stem.split("_")[:-1])
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    rows = quality_check(clf, scan(tmp_path, ("val",)))
    assert rows["as it is"]["images"] == 8 and rows["as it is"]["faults"] == 0
    assert rows["blur 6 px"]["faults"] == rows["-8 stops"]["faults"] == 1
    assert rows["as it is"]["top1"] > rows["blur 6 px"]["top1"]
