"""Embeddings of files, and the cache that remembers them by content."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision

from edge_fgr import image
from edge_fgr.contract import Geometry
from edge_fgr.errors import ImageError, InputMissingError, UsageError
from edge_fgr.files import cache_folder
from edge_fgr.model import open_model
from edge_fgr_train.backbones import create_backbone, native_geometry
from edge_fgr_train.catalog import open_dataset
from edge_fgr_train.checkpoint import load_network
from edge_fgr_train.embedder import open_embedder
from edge_fgr_train.features import embed
from edge_fgr_train.features_command import run
from edge_fgr_train.network import build_network
from edge_fgr_train.pooling import unit_length
from edge_fgr_train.recipe import Model

SMALL = Geometry(size=64)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def embedder():
    return open_embedder("efficientnet_lite0", geometry=SMALL)


def _unloadable(embedder):
    def load():
        raise AssertionError("the backbone was loaded")

    return replace(embedder, load=load)


def test_a_second_run_computes_nothing(tiny, embedder):
    samples = open_dataset(tiny / "data").samples
    first = embed(embedder, samples)
    second = embed(_unloadable(embedder), samples)
    assert first.shape == (len(samples), 1280)
    assert first.tobytes() == second.tobytes()
    fresh = embed(embedder, samples, cached=False)
    np.testing.assert_allclose(first, fresh, atol=1e-5)


def test_only_new_content_is_computed(tiny, embedder, tmp_path):
    data = shutil.copytree(tiny / "data", tmp_path / "data")
    embed(embedder, open_dataset(data).samples)
    shutil.move(data / "train" / "Fruit", data / "train" / "Moved")
    shutil.move(data / "val" / "Fruit", data / "val" / "Moved")
    embed(_unloadable(embedder), open_dataset(data).samples)
    cut = next((data / "train" / "Vegetables").rglob("*.jpg"))
    cut.write_bytes(next((data / "train" / "Moved").rglob("*cut.jpg")).read_bytes() + b"\0")
    with pytest.raises(AssertionError, match="loaded"):
        embed(_unloadable(embedder), open_dataset(data).samples)


def test_rows_stand_in_the_order_of_the_images(tiny, embedder):
    samples = list(open_dataset(tiny / "data").samples)
    rows = embed(embedder, samples)
    np.testing.assert_array_equal(embed(embedder, samples[::-1]), rows[::-1])


def test_other_rules_are_another_cache(tiny, embedder):
    other = open_embedder("efficientnet_lite0", geometry=Geometry(size=64, kernel="bilinear"))
    assert other.digest != embedder.digest
    samples = open_dataset(tiny / "data").samples
    assert not np.array_equal(embed(other, samples), embed(embedder, samples))


def test_a_damaged_cache_is_made_again(tiny, embedder, capsys):
    samples = open_dataset(tiny / "data").samples
    first = embed(embedder, samples)
    (file,) = (cache_folder() / "features").iterdir()
    file.write_bytes(b"no database " * 1000)
    np.testing.assert_array_equal(embed(embedder, samples), first)
    assert "damaged and made again" in capsys.readouterr().err
    embed(_unloadable(embedder), samples)


def test_without_a_writable_cache_it_goes_on(tiny, embedder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "file"))
    rows = embed(embedder, open_dataset(tiny / "data").samples)
    assert np.isfinite(rows).all()
    assert "no cache in" in capsys.readouterr().err


def test_broken_images_are_counted_and_named(tiny, embedder, tmp_path):
    data = shutil.copytree(tiny / "data", tmp_path / "data")
    broken = sorted((data / "train").rglob("*.jpg"))[:2]
    for path in broken:
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"2 of \d+ images cannot be read; the first: .*") as error:
        embed(embedder, open_dataset(data).samples)
    assert str(broken[0]) in str(error.value)


def test_every_source_gives_its_own_embedding(tiny, photos):
    from edge_fgr_train.dataset import Sample

    samples = [Sample(p.name, p, ("x",)) for p in photos[:3]]
    model = open_model(device="cpu")
    pixels = np.stack([image.load(p, model.contract.geometry) for p in photos[:3]])
    np.testing.assert_array_equal(
        embed(open_embedder("grocery81"), samples), model.outputs(pixels, "embedding")[0]
    )
    network, contract, _ = load_network(tiny / "run")
    pixels = np.stack([image.load(p, contract.geometry) for p in photos[:3]])
    with torch.inference_mode():
        own = network(torch.from_numpy(pixels)).embedding.numpy()
    np.testing.assert_allclose(embed(open_embedder(str(tiny / "run")), samples), own, atol=1e-5)


def test_what_is_no_source(tmp_path):
    with pytest.raises(UsageError, match="backbone 'squid' is not known"):
        open_embedder("squid")
    with pytest.raises(InputMissingError, match="no finished run"):
        open_embedder(str(tmp_path))
    with pytest.raises(InputMissingError, match="no such model"):
        open_embedder(str(tmp_path / "none.onnx"))


def test_the_file_says_what_is_in_it(tiny, tmp_path):
    out = tmp_path / "features.npz"
    run(str(tiny / "data"), "grocery81", out, "cpu", True)
    with np.load(out, allow_pickle=False) as found:
        assert found["embedding"].dtype == np.float32
        about = json.loads(str(found["about"]))
        assert about["geometry"]["size"] == open_model("grocery81").contract.geometry.size
        labels = {tuple(json.loads(text)) for text in found["label"].tolist()}
        assert ("Fruit", "Apple", "Granny-Smith") in labels
        assert set(found["split"].tolist()) == {"train", "val"}
        assert found["name"][0].startswith("train/")
    with pytest.raises(UsageError, match=r"must end in \.npz"):
        run(str(tiny / "data"), "grocery81", tmp_path / "features.csv", "cpu", True)


def test_known_embeddings_need_no_torch(tiny, tmp_path):
    code = (
        "import sys, pathlib; from edge_fgr_train.features_command import run;"
        "data, out = sys.argv[1:];"
        "run(data, 'efficientnet_lite0', pathlib.Path(out), 'cpu', True);"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tiny / "data"), str(tmp_path / "f.npz")]
    answers = [
        subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [answer.stdout.strip() for answer in answers] == ["True", "False"]


def test_lite_backbones_have_their_weights():
    for number, size, short in ((0, 224, 256), (1, 240, 272), (2, 260, 292)):
        name = f"efficientnet_lite{number}"
        assert native_geometry(name) == Geometry(size=size, short_side=short)
        backbone = create_backbone(name, pretrained=True)
        assert backbone.width == 1280
        assert float(next(backbone.module.parameters()).detach().abs().max()) > 0.5


def test_torchvision_weights_come_from_its_own_store(tmp_path, monkeypatch, photos):
    """The real loader, which finds the file in its cache instead of fetching it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    weights = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT
    store = tmp_path / "hub" / "hub" / "checkpoints"
    store.mkdir(parents=True)
    torch.manual_seed(0)
    whole = torchvision.models.mobilenet_v3_small().eval()
    torch.save(whole.state_dict(), store / weights.url.rsplit("/", 1)[1])
    embedder = open_embedder("torchvision/mobilenet_v3_small")
    pixels = image.load(photos[0], embedder.geometry)
    rows = embedder.load()(pixels[None])
    assert rows.shape == (1, 1024)
    whole.classifier[3] = torch.nn.Identity()
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    rules = weights.transforms()
    x = (x - torch.tensor(rules.mean)[:, None, None]) / torch.tensor(rules.std)[:, None, None]
    with torch.inference_mode():
        np.testing.assert_allclose(rows, whole(x).numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "gives"),
    [("resnet18", "map"), ("vit_tiny_patch16_224", "vector"), ("torchvision/resnet18", "vector")],
)
def test_any_classifier_gives_an_embedding(name, gives):
    model = Model(backbone=name, dropout=0.0)
    size = native_geometry(name).size
    network = build_network(model, 2, pretrained=False, size=size).eval()
    assert network.gives == gives
    with torch.inference_mode():
        found = network(torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8))
    assert found.embedding.shape == (2, network.head.in_features)
    assert found.features.ndim == 4


def test_weights_that_cannot_be_had_are_one_line(tiny, tmp_path):
    """No network: timm cannot fetch what it does not have."""
    command = [sys.executable, "-m", "edge_fgr", "features", str(tiny / "data"), "-m", "resnet18"]
    answer = subprocess.run(
        [*command, "-o", str(tmp_path / "f.npz")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 69, answer.stderr
    assert "its weights could not be had from timm" in answer.stderr.splitlines()[-1]
    assert not (tmp_path / "f.npz").exists()


def test_unit_length_leaves_zero_alone():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(unit_length(rows), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
