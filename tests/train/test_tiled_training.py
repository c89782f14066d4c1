"""A picture's worst tile decides; and the input's size is chosen from the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from trees import place

from edge_fgr.contract import Geometry
from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.command import run as train
from edge_fgr_train.dataset import Sample
from edge_fgr_train.evidence import class_maps
from edge_fgr_train.input_size import check_tiles, fitted_to, held_by
from edge_fgr_train.network import Network
from edge_fgr_train.recipe import Recipe, load_recipe
from edge_fgr_train.settings import Model
from edge_fgr_train.task import Task
from edge_fgr_train.tiles import cut, good_of, soft_worst, stitch, worst

SIDE, TILES = 96, 4
LABELS = (("part", "Free"), ("part", "Crack"), ("part", "Break"))


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise; every other one has a light spot of 6 x 6 pixels somewhere inside a tile."""
    draws = torch.Generator().manual_seed(seed)
    noise = 127 + 40 * torch.randn(count, SIDE, SIDE, 1, generator=draws)
    pixels = noise.clamp(0, 255).byte().repeat(1, 1, 1, 3)
    spotted = torch.arange(count) % 2
    tile = SIDE // TILES
    for picture in pixels[1::2]:
        row, column = (tile * torch.randint(TILES, (2,), generator=draws)).tolist()
        top, left = torch.randint(2, tile - 8, (2,), generator=draws).tolist()
        spot = picture[row + top : row + top + 6, column + left : column + left + 6]
        spot[:] = 255 - spot // 4
    return pixels, spotted


def network_of(tiles: int, good: int | None, *, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    body = nn.Sequential(
        *(nn.Conv2d(3, 12, 5, 2, 2), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU()),
    )
    model = Model(dropout=0.0, tiles=tiles, good="" if good is None else "Free")
    backbone = Backbone(body, 24, (127.0,) * 3, (128.0,) * 3)
    return Network(backbone, 2, model, good).to(memory_format=torch.channels_last)


def taught(tiles: int, good: int | None, steps: int = 60) -> Network:
    network, (pixels, spotted) = network_of(tiles, good), pictures(96, 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    network.train()
    for _ in range(steps):
        some = torch.randint(len(pixels), (16,))
        loss = functional.cross_entropy(network(pixels[some]).logits, spotted[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def tiled() -> Network:
    return taught(TILES, 0)


def test_tiles_find_what_a_whole_picture_drowns(tiled):
    pixels, spotted = pictures(64, 2)

    def share(network: Network) -> float:
        with torch.inference_mode():
            return float((network(pixels).logits.argmax(1) == spotted).float().mean())

    assert share(tiled) >= 0.9
    assert share(taught(1, None)) <= share(tiled) - 0.2


def test_where_a_spot_lies_in_the_grid_does_not_matter(tiled):
    """Tiles change places: the same logits, and the map moves along."""
    pixels, spotted = pictures(8, 3)
    parts = cut(pixels, TILES).reshape(8, TILES**2, -1)
    order = torch.randperm(TILES**2, generator=torch.Generator().manual_seed(0))
    tile = SIDE // TILES
    moved = stitch(parts[:, order].reshape(-1, tile, tile, 3).permute(0, 3, 1, 2), TILES)
    moved = moved.permute(0, 2, 3, 1).contiguous()
    assert not torch.equal(moved, pixels)
    with torch.inference_mode():
        before, after = (tiled(each) for each in (pixels, moved))
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(after.embedding, before.embedding, atol=1e-5, rtol=0)
    first, second = (class_maps(tiled, each.numpy(), spotted.tolist()) for each in (pixels, moved))
    for one, other in zip(first, second, strict=True):
        grids = [
            np.abs(m).reshape(TILES, 6, TILES, 6).sum((1, 3)).reshape(-1) for m in (one, other)
        ]
        assert all((grid > 0).sum() == 1 for grid in grids)
        assert order[grids[1].argmax()] == grids[0].argmax()


def test_logits_and_embedding_are_those_of_the_worst_tile(tiled):
    pixels, _ = pictures(6, 4)
    with torch.inference_mode():
        found, one = tiled(pixels), tiled.single()(cut(pixels, TILES))
        again = tiled.head(found.embedding)
    assert tiled.tiles == TILES and found.features.shape == (6, 24, SIDE // 4, SIDE // 4)
    logits = one.logits.reshape(6, -1, 2)
    chosen = (logits[:, :, 1] - logits[:, :, 0]).argmax(1)
    rows = torch.arange(6)
    torch.testing.assert_close(found.logits, logits[rows, chosen])
    torch.testing.assert_close(found.embedding, one.embedding.reshape(6, -1, 24)[rows, chosen])
    torch.testing.assert_close(found.logits, again)
    torch.testing.assert_close(found.features, stitch(one.features, TILES))


def test_cut_and_stitch_keep_every_place():
    pixels = torch.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3)
    parts = cut(pixels, 3)
    assert torch.equal(parts[1], pixels[0, :2, 2:4]) and torch.equal(parts[12], pixels[1, 2:4, :2])
    again = stitch(parts.permute(0, 3, 1, 2), 3).permute(0, 2, 3, 1)
    assert torch.equal(again, pixels)


def test_what_is_worst():
    """One tile in doubt about its defect, one certain of nothing found, one certain of a defect."""
    logits = torch.tensor([[[1.0, 2.0, 2.0], [9.0, 0.0, 0.0], [0.0, 4.0, -5.0]]])
    assert worst(logits, 0).tolist() == [2] and worst(logits, None).tolist() == [1]
    soft = soft_worst(logits, 0)[0]
    assert soft[0] == 0 and 3.8 < soft[1] < 4 and soft[2] == pytest.approx(1, abs=0.01)


def test_all_tiles_learn_at_the_start():
    logits = (0.01 * torch.randn(4, 16, 3)).requires_grad_()
    functional.cross_entropy(soft_worst(logits, 0), torch.tensor([0, 1, 2, 0])).backward()
    assert (logits.grad[:, :, 1:].abs() > 0).all()


def test_the_good_class_by_its_name():
    assert good_of(Model(tiles=2, good="Free"), LABELS) == 0
    assert good_of(Model(tiles=2, good="part/Crack"), LABELS) == 1
    assert good_of(Model(tiles=2), LABELS) is None
    with pytest.raises(UsageError, match=r"'free' is no class of the data; near it: Free"):
        good_of(Model(tiles=2, good="free"), LABELS)
    with pytest.raises(UsageError, match="there are: part/Free, part/Crack"):
        good_of(Model(tiles=2, good="xyz"), LABELS)


def recipe(*changes: str) -> Recipe:
    return load_recipe("default", ["model.backbone=teaching_cnn", *changes])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.tiles=0", "tiles must be from 1 to 8"),
        ("model.tiles=9", "tiles must be from 1 to 8"),
        ('model.good="Free"', "good is for tiles"),
        ("model.head=arcface", "arcface has no form over tiles"),
        ("model.refit=whitened", "refit has no form over tiles"),
    ],
)
def test_a_recipe_refuses_what_tiles_cannot(change, said):
    changes = [change] if "tiles" in change or "good" in change else ["model.tiles=2", change]
    with pytest.raises(UsageError, match=said):
        recipe(*changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["model.tiles=3"], r"geometry\.size 224 cannot be cut into 3 tiles a side: 222 or 225"),
        (["model.tiles=7", "geometry.size=224"], r"augment\.size 192 cannot be cut into 7"),
        (["model.tiles=3", "geometry.size=96", "augment.size=96", "augment.start_size=48"], "16"),
        (["model.tiles=2", "parts.method=pmg"], "pmg has no form over tiles"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        check_tiles(recipe(*changes))
    with pytest.raises(UsageError, match=said):
        Task(recipe(*changes), LABELS, torch.device("cpu"))


def of_size(folder: Path, *sizes: tuple[int, int]) -> list[Sample]:
    found = []
    for i, size in enumerate(sizes):
        path = folder / f"{i}.png"
        Image.new("RGB", size, (i, 2 * i, 3 * i)).save(path)
        found.append(Sample(path.name, path, ("x",)))
    return found


def test_what_pictures_hold(tmp_path):
    some = of_size(tmp_path, (400, 100), (300, 300), (90, 1000))
    assert held_by(some, Geometry(size=224, resize="stretch")) == 300
    assert held_by(some, Geometry(size=224)) == 100
    assert held_by(some, Geometry(size=200, short_side=250)) == 80
    assert held_by(some, Geometry(size=224, roi=(0.0, 0.0, 0.5, 1.0))) == 100
    (tmp_path / "1.png").write_text("no picture")
    assert held_by(some, Geometry(size=224)) == 95
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(InputMissingError, match=r"0\.png: neither it nor another"):
        held_by(some, Geometry(size=224))


def test_auto_takes_what_pictures_hold(tmp_path, capsys):
    some = of_size(tmp_path, (310, 420))
    found = fitted_to(recipe(), "auto", some)
    assert (found.geometry.size, found.geometry.short_side, found.augment.size) == (320, 320, 256)
    assert "input 320 x 320 (a multiple of 32, from 128 to 384)" in capsys.readouterr().err
    wide = fitted_to(load_recipe("default", ["geometry.short_side=256"]), "auto", some)
    assert (wide.geometry.size, wide.geometry.short_side) == (256, 293)
    kept = fitted_to(recipe("augment.size=160"), "auto", some, ["augment.size=160"])
    assert (kept.geometry.size, kept.augment.size) == (320, 160)
    said = fitted_to(recipe("geometry.size=256"), "auto", some, ["geometry.size=256"])
    assert said.geometry.size == 256
    shifted = fitted_to(recipe("augment.crop=shift"), "auto", some)
    assert shifted.augment.size == shifted.geometry.size == 320
    small = fitted_to(recipe(), "auto", of_size(tmp_path, (60, 60)))
    assert small.geometry.size == 128
    assert "nothing is gained above" in capsys.readouterr().err


def test_large_pictures_are_told_of_tiles(tmp_path, capsys):
    some = of_size(tmp_path, (1200, 900))
    assert fitted_to(recipe(), "auto", some).geometry.size == 384
    assert "--set model.tiles=2" in capsys.readouterr().err
    found = fitted_to(recipe("model.tiles=3"), "auto", some)
    assert (found.geometry.size, found.augment.size) == (864, 672)
    check_tiles(found)


def test_the_recipe_stays_where_no_size_is_asked_for(tmp_path):
    mine = recipe()
    assert fitted_to(mine, "", of_size(tmp_path, (10, 10))) is mine


@pytest.mark.parametrize("size", ["big", "0", "16", "5000", "-64", "٣٢"])
def test_sizes_that_are_none(size, tmp_path):
    with pytest.raises(UsageError, match="auto, or a number of pixels from 32 to 4096 is needed"):
        fitted_to(recipe(), size, of_size(tmp_path, (300, 300)))


def test_tiles_larger_than_the_pictures(tmp_path):
    some = of_size(tmp_path, (300, 100))
    with pytest.raises(UsageError, match="a tile of 112 pixels is larger than the pictures"):
        fitted_to(recipe("model.tiles=2"), "", some)


def test_a_size_is_for_networks(photos, tmp_path):
    for number, photo in enumerate(photos[:4]):
        place(photo, tmp_path / "data", "ab"[number % 2], photo.name)
    with pytest.raises(UsageError, match="--size is for networks"):
        train(str(tmp_path / "data"), tmp_path / "run", "chain", [], "cpu", size="auto")
    changes = ["model.tiles=2", "model.good=c", "model.backbone=teaching_cnn"]
    with pytest.raises(UsageError, match="'c' is no class of the data"):
        train(str(tmp_path / "data"), tmp_path / "run", "default", changes, "cpu")
    assert not (tmp_path / "run").exists()
