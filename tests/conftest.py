"""Real photographs and the real embedded model: what most tests stand on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_fgr import Classifier
from pictures import opened

# Small networks are trained in tests, and sums depend on the number of threads: it must not depend
# on the machine, nor on what else that does.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "2"
os.environ["MKL_DYNAMIC"] = "FALSE"
# Files are tested side by side: who waits for a thread must not keep it from working.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

ROOT = Path(__file__).parent.parent
PHOTOS = sorted((ROOT / "tests" / "golden" / "images").glob("*.jpg"))

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache folder out of the tests, and them out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_FGR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """The 32 golden photographs, in the order of their names."""
    assert len(PHOTOS) == 32
    return PHOTOS


@pytest.fixture(scope="session")
def clf() -> Classifier:
    return Classifier.load(device="cpu")


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run the command line in a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_fgr", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    return run


CLASSES = ("Fruit_Apple_Granny-Smith", "Fruit_Banana", "Vegetables_Ginger")

RECIPE = """
name = "tiny"
[data]
fit = ["train"]
evaluate = "val"
calibration = "held.txt"
[geometry]
size = 64
[augment]
size = 64
mixup = 0.2
[optimise]
epochs = 2
batch = 4
warmup_epochs = 0.5
ema = 0.5
lr = 1e-3
"""


def make_data(photos: list[Path], folder: Path) -> Path:
    """Two photos and two cuts of each of three classes; one cut is evaluated, one held out."""
    held = []
    for name in CLASSES:
        chosen = [photo for photo in photos if photo.name.startswith(name)]
        place = folder / "data" / "train" / name.replace("_", "/")
        place.mkdir(parents=True)
        other = folder / "data" / "val" / name.replace("_", "/")
        other.mkdir(parents=True)
        for i, photo in enumerate(chosen):
            shutil.copy(photo, place / f"{i}.jpg")
            cut = opened(photo).crop((30, 30, 300, 300))
            cut.save(place / f"{i}-cut.jpg")
            cut.rotate(90).save(other / f"{i}.jpg")
        held.append((place / "1-cut.jpg").relative_to(folder / "data").as_posix())
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "held.txt").write_text("# kept out\n" + "\n".join(held) + "\n")
    return folder / "data"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, photos):
    """Folder with ``data/``, ``tiny.toml`` and a finished ``run/``."""
    from edge_fgr_train.command import run

    folder = tmp_path_factory.mktemp("tiny")
    data = make_data(photos, folder)
    run(data, folder / "run", str(folder / "tiny.toml"), [], "cpu")
    return folder
