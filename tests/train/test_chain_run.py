"""A chain as its users run it: from a folder of photographs to a verdict, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import CLASSES
from edge_fgr import Classifier, image
from edge_fgr.contract import Contract
from edge_fgr.errors import ImageError, ModelError, UsageError
from edge_fgr_train.checkpoint import Run, load_head, load_network
from edge_fgr_train.command import run
from pictures import opened

FAST = ["chain.c=[0.001, 0.1]", "chain.folds=2", "geometry.size=64"]


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_FGR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def chain(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain") / "run"
    changes = [*FAST, 'chain.head="svm"', 'chain.select="mic:64"']
    run(tiny / "data", folder, "chain", changes, "cpu")
    return folder


def test_the_run_is_that_of_a_network(chain):
    assert {path.name for path in chain.iterdir()} == {
        "contract.json", "log.jsonl", "model.safetensors", "report.html", "run.json",
    }  # fmt: skip
    _, contract, made = load_network(chain)
    assert contract.geometry.size == 64
    assert contract.confidence is not None
    assert made.recipe.chain is not None
    assert made.recipe.chain.select == "mic:64"
    row = json.loads((chain / "log.jsonl").read_text())
    assert row["difference"] < 1e-4
    weight, _, _ = load_head(chain)
    assert weight.shape == (3, 1280)
    assert (np.abs(weight).max(axis=0) > 0).sum() == 64  # only what was kept has a weight


def test_it_knows_its_photos(chain, photos):
    import torch

    network, contract, _ = load_network(chain)
    known = [photo for photo in photos if photo.name.startswith(CLASSES)]
    pixels = np.stack([image.load(photo, contract.geometry) for photo in known])
    with torch.inference_mode():
        answers = network(torch.from_numpy(pixels)).logits.argmax(1).tolist()
    names = ["_".join(contract.labels[i]) for i in answers]
    assert all(photo.name.startswith(name) for photo, name in zip(known, names, strict=True))


def test_the_same_command_again_repeats_it(chain, tiny):
    before = (chain / "model.safetensors").read_bytes()
    changes = [*FAST, 'chain.head="svm"', 'chain.select="mic:64"']
    run(tiny / "data", chain, "chain", changes, "cpu")
    assert (chain / "model.safetensors").read_bytes() == before
    with pytest.raises(UsageError, match="another recipe or data"):
        run(tiny / "data", chain, "chain", FAST, "cpu")


def test_a_chain_on_a_run_and_on_an_exported_model(tiny, tmp_path):
    run(tiny / "data", tmp_path / "a", "chain", FAST[:2], "cpu", str(tiny / "run"))
    network, contract, _ = load_network(tmp_path / "a")
    trained, _, _ = load_network(tiny / "run")
    assert contract.geometry.size == 64
    for ours, theirs in zip(
        network.backbone.parameters(), trained.backbone.parameters(), strict=True
    ):
        assert ours.equal(theirs)
    run(tiny / "data", tmp_path / "b", "chain", FAST[:2], "cpu", "grocery81")
    assert Run.read(tmp_path / "b").base == "base.onnx"
    contract = Contract.from_json((tmp_path / "b" / "contract.json").read_text())
    assert contract.geometry == Classifier.load("grocery81").contract.geometry
    with pytest.raises(ModelError, match="stands on an exported model"):
        load_network(tmp_path / "b")


def test_the_geometry_and_the_copies_of_a_model_are_its_own(tiny, tmp_path):
    with pytest.raises(UsageError, match="has its own geometry"):
        run(tiny / "data", tmp_path / "b", "chain", FAST, "cpu", "grocery81")
    for source in "grocery81", str(tiny / "run"):
        with pytest.raises(UsageError, match=r"its own mirrors; leave --set model\.mirrors… out"):
            run(
                tiny / "data",
                tmp_path / "b",
                "chain",
                [*FAST[:2], "model.mirrors=2"],
                "cpu",
                source,
            )


def _photos(photos, folder, names, each=2):
    """Two photos of each class name; names may be any that a file system takes."""
    for i, name in enumerate(names):
        place = folder.joinpath(*name) if isinstance(name, tuple) else folder / name
        place.mkdir(parents=True)
        for photo in photos[2 * i : 2 * i + each]:
            shutil.copy(photo, place / photo.name)
            opened(photo).crop((20, 20, 300, 300)).save(place / f"cut-{photo.name}")
    return folder


HOSTILE = [
    "with space",
    "a,b",
    'say "hi"',
    "-rf",
    "Äpfel 苹果",
    "two\nlines",
    "<b>bold",
    "$x_1$",
]


def test_any_name_of_a_class(tmp_path, photos):
    data = _photos(photos, tmp_path / "data", HOSTILE)
    run(data, tmp_path / "run", "chain", FAST, "cpu")
    contract = Contract.from_json((tmp_path / "run" / "contract.json").read_text())
    assert {label[0] for label in contract.labels} == set(HOSTILE)


def test_two_classes_with_the_same_leaf_name(tmp_path, photos):
    data = _photos(photos, tmp_path / "data", [("Apple", "Green"), ("Pepper", "Green")])
    run(data, tmp_path / "run", "chain", FAST, "cpu")
    _, contract, _ = load_network(tmp_path / "run")
    assert contract.labels == (("Apple", "Green"), ("Pepper", "Green"))


def test_one_image_in_a_class(tmp_path, photos):
    data = _photos(photos, tmp_path / "data", ["a", "b", "c"])
    for path in sorted((data / "c").iterdir())[1:]:
        path.unlink()
    for select in ("none", "lda:2", "pca:3", "mic:9"):
        run(data, tmp_path / select, "chain", [*FAST, f'chain.select="{select}"'], "cpu")
        assert len(load_network(tmp_path / select)[1].labels) == 3


def test_one_image_in_every_class(tmp_path, photos):
    """Nothing can be left out: no cross-validation, and the report says so."""
    for i, name in enumerate("abc"):
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(photos[2 * i], tmp_path / "data" / name)
    run(tmp_path / "data", tmp_path / "run", "chain", FAST, "cpu")
    assert load_network(tmp_path / "run")[1].temperature == 1.0
    assert "images it was fitted on" in (tmp_path / "run" / "report.html").read_text()


def test_data_that_cannot_be_trained_on(tmp_path, photos):
    data = _photos(photos, tmp_path / "data", ["a", "b"])
    (data / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: an empty class; add photos or remove"):
        run(data, tmp_path / "run", "chain", FAST, "cpu")
    (data / "empty").rmdir()
    shutil.copy(photos[0], data / "beside.jpg")
    with pytest.raises(UsageError, match="images outside any class"):
        run(data, tmp_path / "run", "chain", FAST, "cpu")
    (data / "beside.jpg").unlink()
    broken = next((data / "a").iterdir())
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(ImageError, match=broken.name):
        run(data, tmp_path / "run", "chain", FAST, "cpu")
    shutil.rmtree(data / "b")
    with pytest.raises(UsageError, match="at least two classes"):
        run(data, tmp_path / "run", "chain", FAST, "cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("select", "message"),
    [("pca:64", "at most"), ("lda:3", "at most 2"), ("mic:2000", "at most 1280"), ("x", "none of")],
)
def test_more_than_there_is(tiny, tmp_path, select, message):
    with pytest.raises(UsageError, match=message):
        run(tiny / "data", tmp_path / "run", "chain", [*FAST, f'chain.select="{select}"'], "cpu")
    assert not (tmp_path / "run").exists()


def test_options_that_need_each_other(cli, tiny, tmp_path):
    answer = cli("train", tiny / "data", "-o", tmp_path / "run", "--l2")
    assert answer.returncode == 2
    assert "add --head svm or --head logreg" in answer.stderr
    answer = cli("train", tiny / "data", "-o", tmp_path / "run", "--head", "tree")
    assert answer.returncode == 2
    assert "'tree' is none of 'svm', 'logreg', 'cosine'" in answer.stderr


def test_a_stop_in_the_middle_is_clean(tiny, tmp_path):
    """SIGTERM while the weights are loaded or embeddings computed: 143, and nothing is left."""
    command = [sys.executable, "-m", "edge_fgr", "train", str(tiny / "data"), "--head", "svm"]
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "run")],
        env={**os.environ, "EDGE_FGR_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "images of 3 classes to fit" in process.stderr.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 143
    assert "Traceback" not in rest
    assert not (tmp_path / "run").exists()


def test_a_full_disk_leaves_nothing(tiny, tmp_path):
    """A file-size limit stands for a full disk: every write fails the same way."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "sys.argv = ['edge-fgr', *sys.argv[1:]]; from edge_fgr.__main__ import main; main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "train", str(tiny / "data"), "--head", "svm",
         "--set", "geometry.size=64", "-o", str(tmp_path / "run")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 74, answer.stderr
    assert "cannot be written (File too large)" in answer.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not list((tmp_path / "run").glob(".*"))


def test_the_documented_commands(cli, tiny, tmp_path, photos):
    """train, export and classify as the README has them."""
    folder = tmp_path / "run"
    answer = cli(
        "train", tiny / "data", "--head", "svm", "--select", "mic:256", "--set", "geometry.size=96",
        "-o", folder,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    answer = cli("export", folder)
    assert answer.returncode == 0, answer.stderr
    photo = next(p for p in photos if p.name.startswith("Fruit_Banana"))
    answer = cli("classify", photo, "-m", folder / "chain.onnx", "--format", "json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)[0]["top_k"][0]["label"] == ["Fruit", "Banana"]
    assert Classifier.load(folder / "chain.onnx").contract.target == "portable"
