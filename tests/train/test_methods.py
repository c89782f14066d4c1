"""What each method of a recipe is for, on problems of a few seconds: that it helps."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from edge_fgr.contract import Geometry
from edge_fgr.errors import UsageError
from edge_fgr.image import load
from edge_fgr_train.augment import TrainingSet, size_at
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.batches import batches
from edge_fgr_train.dataset import Sample
from edge_fgr_train.heads import CosineHead, with_margin
from edge_fgr_train.network import Network, build_network
from edge_fgr_train.optimiser import optimiser_of, set_rates
from edge_fgr_train.pictures import PictureCache
from edge_fgr_train.pooling import Bilinear, GeM
from edge_fgr_train.quick_backward import QuickBackward
from edge_fgr_train.recipe import Augment, Model, Optimise, Parts
from edge_fgr_train.refit import whitened_head
from edge_fgr_train.shuffling import Lesson, anywhere, lesson_of, neighbours, shuffle

SQUARE = Geometry(size=32)
SHAPES = [(5, 1, 2), (5, 2, 2), (7, 1, 3), (7, 2, 0), (3, 2, 1), (5, 2, 1), (4, 2, 1), (3, 1, 1)]


def samples(photos):
    return [Sample(photo.name, photo, (photo.name.rsplit("_", 1)[0],)) for photo in photos]


def pictures(photos, seed=0, **rules):
    chosen = samples(photos)
    rules = Augment(size=48, **rules)
    return TrainingSet(chosen, list(range(len(chosen))), rules, Geometry(size=48), seed)


@pytest.mark.parametrize(("side", "stride", "padding"), SHAPES)
def test_quick_gradients_are_the_gradients(side, stride, padding):
    """Of depthwise convolutions in bf16, against fp32: as near as rounding lets them be."""
    draws = torch.Generator().manual_seed(0)
    shapes = (4, 8, 21, 23), (8, 1, side, side), (8,)
    exact = [torch.randn(shape, generator=draws).bfloat16().float() for shape in shapes]
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        x, weight, bias = (value.to(dtype).requires_grad_() for value in exact)
        out = functional.conv2d(x, weight, bias, stride, padding, groups=8)
        slope = torch.linspace(-1, 1, out.numel()).reshape(out.shape).bfloat16().to(dtype)
        with QuickBackward():
            found.append(torch.autograd.grad(out, (x, weight, bias), slope))
    for quick, plain in zip(*found, strict=True):
        assert quick.dtype == torch.bfloat16 and quick.shape == plain.shape
        assert (quick.float() - plain).abs().max() < 0.01 * plain.abs().max()


def test_generalised_mean_lies_between_the_mean_and_the_largest():
    features = torch.rand(3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    found = GeM()(features)
    assert (found > features.mean((2, 3))).all() and (found < features.amax((2, 3))).all()
    torch.testing.assert_close(GeM()(torch.full((1, 2, 3, 3), 0.5)), torch.full((1, 2), 0.5))


def test_bilinear_pooling_sees_what_occurs_together():
    """Two channels that fire at the same places, or never: their means are alike."""
    torch.manual_seed(0)
    first = (torch.rand(64, 1, 6, 6) < 0.5).float()
    together = torch.arange(64) % 2 == 0
    second = torch.where(together[:, None, None, None], first, 1 - first)
    features = torch.cat([first, second], 1)
    features = features + 0.01 * torch.randn(features.shape)

    def learnt(pool: nn.Module, width: int) -> float:
        head = nn.Linear(width, 2)
        optimiser = torch.optim.Adam([*pool.parameters(), *head.parameters()], lr=0.02)
        for _ in range(150):
            loss = functional.cross_entropy(head(pool(features[:32])), together[:32].long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float((head(pool(features[32:])).argmax(1) == together[32:]).float().mean())

    assert learnt(Bilinear(2, 8), 8) > 0.9
    assert learnt(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 2) < 0.8


def test_cosine_head_is_kept_as_a_linear_one():
    network = build_network(Model("teaching_cnn", head="cosine"), 4, pretrained=False, size=32)
    pixels = torch.randint(0, 256, (3, 32, 32, 3), generator=torch.Generator().manual_seed(0))
    network.eval()
    kept = build_network(network_model := Model("teaching_cnn", head="cosine"), 4,
                         pretrained=False, size=32, finished=True).eval()  # fmt: skip
    kept.load_state_dict(network.finished())
    assert type(kept.head) is nn.Linear and network_model.scale == 16
    with torch.inference_mode():
        wanted, found = network(pixels).logits, kept(pixels).logits
    torch.testing.assert_close(wanted, found, rtol=1e-5, atol=1e-5)
    assert wanted.abs().max() <= 16
    lengths = kept.head.weight.norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((4,), 16.0))


def test_margin_parts_classes_further():
    """Three clouds that a plain cosine head is soon content with."""
    draws = torch.Generator().manual_seed(0)
    targets = torch.arange(96) % 3
    points = torch.randn(96, 8, generator=draws) + 4 * functional.one_hot(targets, 8)

    def gap(margin: float) -> float:
        torch.manual_seed(0)
        body, head = nn.Linear(8, 3, bias=False), CosineHead(3, 3, scale=16)
        optimiser = torch.optim.SGD([*body.parameters(), head.weight], lr=0.02)
        for _ in range(300):
            logits = with_margin(head(functional.normalize(body(points))), targets, 16, margin)
            optimiser.zero_grad()
            functional.cross_entropy(logits, targets).backward()
            optimiser.step()
        with torch.no_grad():
            cosines = head(functional.normalize(body(points))) / 16
        others = cosines.scatter(1, targets[:, None], -1).amax(1)
        return float((cosines.gather(1, targets[:, None])[:, 0] - others).mean())

    assert gap(0.3) > gap(0.0) + 0.02


def test_margin_of_a_mixed_picture_is_shared():
    logits = torch.tensor([[8.0, 4.0, 0.0]])
    alone = with_margin(logits, torch.tensor([0]), 16, 0.2)
    shares = torch.tensor([[1.0, 0.0, 0.0]])
    torch.testing.assert_close(with_margin(logits, shares, 16, 0.2), alone)
    mixed = with_margin(logits, torch.tensor([[0.5, 0.5, 0.0]]), 16, 0.2)
    assert alone[0, 0] < mixed[0, 0] < logits[0, 0] and mixed[0, 1] < logits[0, 1]


def test_whitened_head_looks_past_what_varies_within_classes():
    """Places differ along two axes that tell no classes apart; a new place is further out."""
    draws = np.random.default_rng(0)
    targets = np.arange(200) % 5

    def seen(place: float) -> np.ndarray:
        rows = draws.normal(0, 0.3, (200, 16)) + 2 * np.eye(16)[targets] + 1
        rows[:, 8:10] += draws.normal(0, 3, (200, 2)) + place
        return rows.astype(np.float32)

    known, new = seen(0), seen(6)
    head = whitened_head(known, targets.tolist(), 5)
    assert head.l2 and head.weight.shape == (5, 16) and head.weight.dtype == np.float32
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    means = np.stack([unit[targets == c].mean(0) for c in range(5)])
    plain = (new @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(1)
    assert (head(new).argmax(1) == targets).mean() > 0.95 > (plain == targets).mean() + 0.1


def test_pooling_of_an_embedding_is_refused():
    backbone = Backbone(nn.Identity(), 3, (0.0,) * 3, (1.0,) * 3, "vector")
    with pytest.raises(UsageError, match="gives an embedding"):
        Network(backbone, 2, Model("some", pool="gem"))


def test_levels_see_what_the_last_stage_lost(photos):
    body = timm.create_model("mobilenetv2_035", num_classes=0, global_pool="")
    backbone = Backbone(body, 1280, (127.5,) * 3, (127.5,) * 3)
    pixels = torch.from_numpy(np.concatenate(list(batches(photos[:2], Geometry(size=64)))))
    levels, gem = (
        Network(backbone, 2, Model("some", pool=pool)).eval() for pool in ("levels", "gem")
    )
    with torch.inference_mode():
        found = levels(pixels)
        torch.testing.assert_close(found.features, gem(pixels).features)
        for part in body.blocks[-1].parameters():
            part.zero_()
        first, second = gem(pixels).embedding
        torch.testing.assert_close(first, second)
        widths = levels.pool.widths
        parts = levels(pixels).embedding.split(widths, 1)
    assert found.embedding.shape == (2, sum(widths)) and widths[-1] == 1280
    for part, length in zip(parts[:2], (3.0, 3.0), strict=True):
        torch.testing.assert_close(part.norm(dim=1), torch.full((2,), length))
        assert (part[0] - part[1]).norm() > 0.1


def test_levels_of_another_network_are_refused():
    backbone = Backbone(nn.Conv2d(3, 8, 3), 8, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(UsageError, match="levels is for EfficientNets"):
        Network(backbone, 2, Model("some", pool="levels"))


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_policies_show_what_was_never_photographed(photos, policy):
    plain, changed = (
        pictures(photos[:4], jitter=0, crop_min=1.0, flip=0, policy=p) for p in ("none", policy)
    )
    spread = []
    for each in (plain, changed):
        means = []
        for epoch in range(24):
            each.epoch = epoch
            means.append(each[0][0].reshape(-1, 3).astype(float).mean(0))
        spread.append(np.std(means, axis=0).mean())
    assert spread[1] > 3 * spread[0] + 2
    changed.epoch = 7
    np.testing.assert_array_equal(changed[1][0], changed[1][0])
    again = pictures(photos[:4], jitter=0, crop_min=1.0, flip=0, policy=policy)
    again.epoch = 7
    np.testing.assert_array_equal(changed[1][0], again[1][0])  # whatever was drawn before


def test_colours_change_as_much_as_asked(photos):
    def spread(jitter: float) -> float:
        drawn = pictures(photos[:1], jitter=jitter, crop_min=1.0, flip=0)
        means = []
        for epoch in range(24):
            drawn.epoch = epoch
            pixels = drawn[0][0].astype(float)
            means.append((pixels.mean(), pixels.std()))
        return float(np.std(means, axis=0).mean())

    assert spread(0.4) > 1.5 * spread(0.15) > 3 * spread(0.0)


def test_erased_rectangle(photos):
    drawn = pictures(photos[:1], jitter=0, erase=1.0)
    for epoch in range(8):
        drawn.epoch = epoch
        share = (drawn[0][0] == 127).all(2).mean()
        assert 0.015 < share < 0.25


def test_top_to_bottom(photos):
    still = pictures(photos[:1], jitter=0, crop_min=1.0, flip=0)
    flipped = pictures(photos[:1], jitter=0, crop_min=1.0, flip=0, flip_vertical=1.0)
    assert np.array_equal(flipped[0][0], still[0][0][::-1])


def test_quarter_turns(photos):
    """A picture that is bright on one side is so on each of the four."""
    still = pictures(photos[:1], jitter=0, crop_min=1.0, flip=0)
    turned = pictures(photos[:1], jitter=0, crop_min=1.0, flip=0, turn=1.0)
    for epoch in range(4):
        still.epoch = turned.epoch = epoch
        ways = [np.rot90(still[0][0], k) for k in range(4)]
        assert sum(np.array_equal(turned[0][0], way) for way in ways[1:]) == 1


def test_pictures_grow():
    rules = Augment(size=224, start_size=96)
    sizes = [size_at(rules, epoch, 12) for epoch in range(12)]
    assert sizes[0] == 96 and sizes[8:] == [224] * 4 and sizes == sorted(sizes)
    assert all(size % 16 == 0 for size in sizes)
    assert size_at(Augment(size=100), 0, 12) == 100


def test_cache_keeps_to_its_bound(photos):
    full, none = PictureCache(SQUARE, 48), PictureCache(SQUARE, 48, limit=0)
    small = PictureCache(SQUARE, 48, limit=3 * 48 * 64 * 2)
    for sample in samples(photos[:6]):
        first = np.asarray(full.get(sample))
        for cache in (full, none, small):
            np.testing.assert_array_equal(np.asarray(cache.get(sample)), first)
        assert min(first.shape[:2]) == 48
    assert len(full._pictures) == 6 and not none._pictures and len(small._pictures) <= 2


def test_training_sees_the_region_that_the_device_sees(photos):
    """Drawn whole, without changes, it is the device's picture but for the resampling."""
    geometry = Geometry(size=48, resize="stretch", roi=(0.25, 0.5, 0.75, 1.0))
    rules = Augment(size=48, crop="stretch", crop_min=1.0, jitter=0, flip=0)
    drawn = TrainingSet(samples(photos[:3]), [0, 1, 2], rules, geometry, 0)
    for index, photo in enumerate(photos[:3]):
        gaps = []
        for wanted in (geometry, Geometry(size=48, resize="stretch")):
            apart = drawn[index][0].astype(int) - load(photo, wanted)
            gaps.append(np.abs(apart).mean())
        assert gaps[0] < 12 and gaps[0] < 0.5 * gaps[1]


def test_stretched_crops_keep_the_proportions(tmp_path):
    """A strip is shown whole; a square crop of it would leave most of it out."""
    strip = np.zeros((60, 200, 3), np.uint8)
    strip[:, :40] = strip[:, -40:] = 255
    Image.fromarray(strip).save(tmp_path / "strip.png")
    sample = [Sample("strip.png", tmp_path / "strip.png", ("a",))]
    bright = {}
    for crop in ("stretch", "area"):
        rules = Augment(size=48, crop=crop, crop_min=0.9, jitter=0, flip=0)
        drawn = TrainingSet(sample, [0], rules, Geometry(size=48, resize="stretch"), 0)
        bright[crop] = [float((drawn[0][0] > 200).mean()) for drawn.epoch in range(8)]
    assert min(bright["stretch"]) > 0.25 > max(bright["area"])


def test_tiles_move_and_stay_whole():
    pixels = torch.arange(2 * 18 * 18 * 3).reshape(2, 18, 18, 3)
    straight = torch.arange(16).expand(2, -1)
    assert torch.equal(shuffle(pixels, straight), pixels)
    order = straight.clone()
    order[0, [0, 5]] = order[0, [5, 0]]
    moved = shuffle(pixels, order)
    assert torch.equal(moved[0, :4, :4], pixels[0, 4:8, 4:8])
    assert torch.equal(moved[0, 4:8, 4:8], pixels[0, :4, :4])
    assert torch.equal(moved[1], pixels[1]) and torch.equal(moved[0, 16:], pixels[0, 16:])
    torch.manual_seed(0)
    assert (anywhere(50, 4).sort(1).values == straight[0]).all()


def test_neighbours_stay_near():
    torch.manual_seed(0)
    order = neighbours(200, 7)
    places = torch.arange(49)
    assert (order.sort(1).values == places).all()
    rows = (order // 7 - places // 7).abs()
    columns = (order % 7 - places % 7).abs()
    assert rows.max() <= 4 and columns.max() <= 4  # two may pass each other
    assert (order != places).float().mean() > 0.5
    assert rows.float().mean() < 1.2


def halves(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of two classes, told by where the light is and by a faint texture."""
    torch.manual_seed(1)
    targets = torch.arange(count) % 2
    pixels = 100 + 8 * torch.randn(count, 32, 32, 3)
    stripes = 14 * (torch.arange(32) % 2 * 2 - 1.0)
    for i, target in enumerate(targets):
        if target:
            pixels[i, :, :16] += 60
            pixels[i] += stripes[:, None, None]
        else:
            pixels[i, :, 16:] += 60
            pixels[i] += stripes[None, :, None]
    return pixels, targets


def taught(rules: Parts) -> tuple[Network, Lesson]:
    torch.manual_seed(0)
    network = build_network(Model("teaching_cnn", dropout=0), 2, pretrained=False, size=32)
    lesson = lesson_of(rules, network)
    optimiser = torch.optim.Adam([*network.parameters(), *lesson.parameters()], lr=2e-3)
    pixels, targets = halves(64)
    network.train()
    for step in range(30):
        torch.manual_seed(step)
        chosen = torch.randperm(64)[:16]

        def judge(logits, chosen=chosen):
            return functional.cross_entropy(logits, targets[chosen])

        optimiser.zero_grad()
        lesson(network, pixels[chosen], judge).backward()
        optimiser.step()
    return network.eval(), lesson


def shuffled_accuracy(network: Network) -> float:
    """How often the class is told where only the texture tells it."""
    pixels, targets = halves(64)
    torch.manual_seed(2)
    mixed = shuffle(pixels, anywhere(64, 4))
    with torch.inference_mode():
        return float((network(mixed).logits.argmax(1) == targets).float().mean())


def test_jigsaws_teach_details():
    """The outline is easier: without shuffling the network looks at nothing else."""
    plain, _ = taught(Parts())
    helped, _ = taught(Parts("jigsaw", share=0.8))
    assert shuffled_accuracy(plain) < 0.75
    assert shuffled_accuracy(helped) > 0.9


def test_construction_tells_what_was_destructed():
    """Beside the classes: which pictures were taken apart, and where their tiles came from."""
    network, lesson = taught(Parts("dcl"))
    pixels, targets = halves(64)
    torch.manual_seed(3)
    order = neighbours(64, 4)
    with torch.inference_mode():
        whole, apart = network(pixels), network(shuffle(pixels, order))
        told = [lesson.adversary(out.embedding).argmax(1).float().mean() for out in (whole, apart)]
        assert told[0] > 0.8 and told[1] < 0.2
        assert (apart.logits.argmax(1) == targets).float().mean() > 0.9
        cells = functional.adaptive_avg_pool2d(apart.features, 4)
        found = lesson.places(cells).tanh().flatten(2)
    columns = (order % 4) * (2 / 3) - 1
    by_chance = columns.float().var().sqrt()
    assert (found[:, 1] - columns).square().mean().sqrt() < 0.8 * by_chance
    names = {name for name, _ in lesson.named_parameters()}
    assert names and not names & network.finished().keys()  # in training alone


def test_granularities_teach_early_stages():
    """A stage is judged by a layer of its own, which is not kept."""
    network = build_network(Model("efficientnet_lite0"), 3, pretrained=False)
    lesson = lesson_of(Parts("pmg"), network)
    pixels = torch.rand(2, 64, 64, 3) * 255
    judged = []

    def judge(logits):
        judged.append(tuple(logits.shape))
        return logits.square().mean()

    reached = set()
    for seed in range(8):
        torch.manual_seed(seed)
        network.zero_grad()
        lesson.zero_grad()
        lesson(network, pixels, judge).backward()
        reached |= {
            name for name, p in lesson.named_parameters() if p.grad is not None and p.grad.any()
        }
    assert judged == [(2, 3)] * 16
    assert {name.split(".")[1] for name in reached} == {"0", "1"}
    assert not any(name.startswith("judges") for name in network.finished())
    with pytest.raises(UsageError, match="pmg is for EfficientNets"):
        lesson_of(Parts("pmg"), build_network(Model("teaching_cnn"), 2, pretrained=False, size=32))


def test_rates_fall_towards_the_pixels():
    network = build_network(Model("efficientnet_lite0"), 3, pretrained=False)
    rules = Optimise(layer_decay=0.8, lr=1e-3, warmup_epochs=0, epochs=10)
    optimiser = optimiser_of(network, Lesson(), rules)
    set_rates(optimiser, rules, 0)
    rates = {}
    for group in optimiser.param_groups:
        rates |= {id(parameter): group["lr"] for parameter in group["params"]}
    named = {name: rates[id(p)] for name, p in network.named_parameters()}
    assert len(named) == len(rates)
    blocks = [named[f"backbone.blocks.{i}.0.conv_dw.weight"] for i in range(7)]
    np.testing.assert_allclose(np.divide(blocks[:-1], blocks[1:]), 0.8)
    assert named["backbone.bn2.weight"] == named["backbone.conv_head.weight"] == 0.8e-3
    assert named["backbone.conv_stem.weight"] == named["backbone.bn1.weight"] < blocks[0]
    assert named["head.weight"] == 5e-3
    set_rates(optimiser, rules, 5)
    assert optimiser.param_groups[-1]["lr"] == pytest.approx(2.5e-3)


def test_drawn_pictures_do_not_depend_on_who_draws(photos):
    """Several threads, in any order, draw what one does."""
    from edge_fgr.parallel import ordered_map

    rules = {"jitter": 0.3, "erase": 0.5, "policy": "trivial"}
    alone, many = pictures(photos, **rules), pictures(photos, **rules)
    found = list(ordered_map(many.__getitem__, reversed(range(32)), 4))
    for index, (pixels, target) in zip(reversed(range(32)), found, strict=True):
        np.testing.assert_array_equal(alone[index][0], pixels)
        assert target == index


def test_shifted_crop_pads_with_gray(photos):
    drawn = pictures(photos[:1], crop="shift", padding=6, jitter=0)
    whole = np.asarray(Image.open(photos[0]).convert("RGB"))
    assert drawn[0][0].shape == (48, 48, 3) and whole.ndim == 3
    seen = set()
    for epoch in range(12):
        drawn.epoch = epoch
        gray = (drawn[0][0] == 127).all(2)
        seen.add((gray.all(1).sum(), gray.all(0).sum()))
    assert len(seen) > 4 and max(rows for rows, _ in seen) <= 6
