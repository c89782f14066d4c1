"""Several processes train one network: what one process would have made, and how they end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import HashStore

from conftest import make_data
from edge_fgr.errors import DeviceError, UsageError
from edge_fgr_train.command import run
from edge_fgr_train.heartbeat import Heartbeat
from edge_fgr_train.launch import ranks_of
from edge_fgr_train.loop import train
from edge_fgr_train.optimiser import last_norm
from edge_fgr_train.parts import split_of
from edge_fgr_train.ranks import ALONE, Ranks
from edge_fgr_train.recipe import load_recipe
from edge_fgr_train.training import _synced

CPU = torch.device("cpu")
STILL = [  # one process and two do the same sums
    "model.frozen_norms=true", "model.dropout=0", "optimise.precision=fp32",
]  # fmt: skip
SMALL = [
    *STILL, "model.backbone=teaching_cnn", "geometry.size=32", "augment.size=32",
    "optimise.lr=2e-3", "optimise.batch=8",
]  # fmt: skip
ROWS = "log.jsonl"
_TORCHRUNS = re.compile(r"[WE]\d{4} |Traceback|torch\.dist| |-{9}|={9}|.* FAILED$|Fail|Root|\[\d|$")
"""What it says beside our lines, mostly when it fails."""


@pytest.fixture(scope="module")
def made(tmp_path_factory, photos):
    """Folder with ``data/`` and ``tiny.toml``."""
    folder = tmp_path_factory.mktemp("ranks")
    make_data(photos, folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    """As each of two ranks has: sums depend on it a little, and nobody waits for a processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def alone(made, folder, changes):
    """Train in this process, without a report."""
    recipe = load_recipe(str(made / "tiny.toml"), changes)
    train(split_of(made / "data", recipe, str(made / "tiny.toml")), recipe, folder, CPU)


def launched(*arguments: object) -> subprocess.Popen[str]:
    """Start two ranks as torchrun does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip


def ended(child: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Return exit code and lines of stderr that are ours."""
    out, err = child.communicate(timeout=240)
    assert out == ""
    ours = [line for line in err.splitlines() if not _TORCHRUNS.match(line)]
    return child.returncode, ours


def on(made, folder, changes):
    """Return the arguments of a training, as the command line has them."""
    where = [made / "data", "-o", folder, "--recipe", made / "tiny.toml", "--device", "cpu"]
    return ["-m", "edge_fgr_train", *where, *(x for c in changes for x in ("--set", c))]


def rows(folder):
    return [json.loads(line) for line in (folder / ROWS).read_text().splitlines()]


def alike(one: Path, other: Path) -> None:
    """A computed head has large weights that depend on small differences of embeddings."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for key, value in first.items():
        bound = 1e-2 if key.startswith("head") else 1e-3
        torch.testing.assert_close(second[key], value, rtol=bound, atol=bound, msg=key)


def test_two_processes_train_what_one_does(made, tmp_path):
    """EfficientNet, mixed pictures, moving average, computed head: curve, weights, evaluation."""
    changes = [*STILL, "model.refit=whitened", "optimise.epochs=3", "augment.cutmix=1"]
    alone(made, tmp_path / "one", changes)
    code, said = ended(launched(*on(made, tmp_path / "two", changes)))
    assert code == 0, said
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two) == 3
    for first, second in zip(one, two, strict=True):
        assert abs(first.pop("loss") - second.pop("loss")) < 1.0001e-4  # rounded to four places
        assert first == second
    alike(tmp_path / "one", tmp_path / "two")
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert names[1] == names[0] | {"report.html"}
    assert len([line for line in said if line.startswith('{"epoch"')]) == 3  # by one rank alone
    assert len([line for line in said if "done; next" in line]) == 1


def test_a_killed_rank_is_named_and_the_run_goes_on(made, tmp_path):
    changes = [*SMALL, "optimise.epochs=40"]
    arguments = on(made, tmp_path / "two", changes)
    child = launched(*arguments)
    while not (tmp_path / "two" / ROWS).exists() or len(rows(tmp_path / "two")) < 2:
        time.sleep(0.05)
        assert child.poll() is None
    os.kill(_pid_of_rank(child.pid, 1), signal.SIGKILL)
    code, said = ended(child)
    assert code != 0
    (line,) = [line for line in said if line.startswith("edge-fgr:")]
    assert "rank 1 ended without a word" in line and "start again with the same command" in line
    before = rows(tmp_path / "two")
    assert 2 <= len(before) < 40
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    code, said = ended(launched(*arguments))
    assert code == 0 and f"resuming after epoch {len(before)} of 40" in said
    after = rows(tmp_path / "two")
    assert after[: len(before)] == before and len(after) == 40
    # One process goes on with it as well: a state belongs to no number of ranks.
    alone(made, tmp_path / "one", changes)
    for first, second in zip(rows(tmp_path / "one"), after, strict=True):
        assert abs(first["loss"] - second["loss"]) < 2e-3
    assert not [path for path in (tmp_path / "two").iterdir() if path.name.startswith(".")]


def _pid_of_rank(parent: int, rank: int) -> int:
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"no rank {rank}")


PROGRAM = """
import math, os, sys
from pathlib import Path
import numpy as np
import torch
from torch import nn
from edge_fgr.errors import EdgeFgrError
from edge_fgr.progress import say
from edge_fgr_train import collectives as c
from edge_fgr_train.evaluate import embeddings_of, logits_of
from edge_fgr_train.launch import joined
from edge_fgr_train.loop import train
from edge_fgr_train.network import build_network
from edge_fgr_train.parts import split_of
from edge_fgr_train.recipe import load_recipe

folder, other, recipe, *changes = sys.argv[1:]


def check(ranks):
    mine = float(ranks.rank)
    # the mean of gradients; what one rank used counts, what none used stays without
    used, once, never = (nn.Parameter(torch.zeros(2, 3, 4, 4)) for _ in range(3))
    used.grad = torch.full_like(used, 1 + mine).to(memory_format=torch.channels_last)
    once.grad = torch.full_like(once, 8.0) if ranks.rank else None
    assert c.mean_gradients(ranks, [used, once, never], 2 + mine) == 2.5
    assert (used.grad == 1.5).all() and (once.grad == 4).all() and never.grad is None
    assert math.isnan(c.mean_gradients(ranks, [used], math.nan if ranks.rank else 1.0))
    # statistics are averaged, weights are those of the first
    norm = nn.BatchNorm2d(3)
    nn.init.constant_(norm.weight, mine), nn.init.constant_(norm.running_mean, mine)
    c.settle(ranks, [norm])
    assert (norm.weight == 0).all() and (norm.running_mean == 0.5).all()
    nn.init.constant_(norm.running_var, 5 + mine)
    c.spread(ranks, [norm])
    assert (norm.running_var == 5).all()
    assert c.same_row(ranks, {"top1": 0.5 + mine}) == {"top1": 0.5}
    # files of the first are everywhere
    here = Path(folder) if ranks.rank == 0 else Path("nowhere")
    with c.copied(ranks, here, ["tiny.toml", "none"]) as copy:
        assert (copy / "tiny.toml").read_text() == (Path(folder) / "tiny.toml").read_text()
        assert not (copy / "none").exists()
    # shared evaluation is evaluation
    torch.manual_seed(0)
    rules = load_recipe(recipe, changes)
    network = build_network(rules.model, 3, pretrained=False, size=32)
    paths = sorted((Path(folder) / "data" / "train").rglob("*.jpg"))
    assert len(paths) == 12
    for answer in (logits_of, embeddings_of):
        alone = answer(network, paths, rules.geometry, batch=5)
        assert np.array_equal(answer(network, paths, rules.geometry, batch=5, ranks=ranks), alone)


try:
    with joined("cpu") as ranks:
        check(ranks)
        rules = load_recipe(recipe, changes)
        data = other if ranks.rank else os.path.join(folder, "data")
        train(split_of(data, rules), rules, Path(folder) / "run", torch.device("cpu"), ranks=ranks)
except EdgeFgrError as error:
    say(f"edge-fgr: {error}")
    sys.exit(error.exit_code)
"""


def test_what_ranks_do_in_step_and_ranks_with_other_data(made, tmp_path, photos):
    make_data(photos, tmp_path)
    changed = next((tmp_path / "data" / "train").rglob("*.jpg"))
    changed.write_bytes(photos[5].read_bytes())
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    changes = [*SMALL, 'data.calibration=""']
    child = launched(program, made, tmp_path / "data", made / "tiny.toml", *changes)
    code, said = ended(child)
    assert code != 0
    assert said == [
        "edge-fgr: rank 1: has other images to fit than rank 0; give all ranks the same"
    ]
    assert not (made / "run").exists()


def test_each_rank_has_its_part():
    pair = [Ranks(rank, 2) for rank in range(2)]
    assert [ranks.own("abcdef") for ranks in pair] == [["a", "b", "c"], ["d", "e", "f"]]
    assert [ranks.own("abcdef", 1) for ranks in pair] == [list("fabc"), list("cdef")]
    assert ALONE.own("abc") == list("abc")
    for world in (1, 2, 3, 5):
        for count in (0, 1, 31, 32, 33, 200):
            parts = [Ranks(rank, world).share(count, 32) for rank in range(world)]
            assert [i for part in parts for i in range(count)[part]] == list(range(count))
            assert all(part.start % 32 == 0 for part in parts)


@pytest.mark.parametrize(
    ("world", "batch", "pieces"), [(3, 32, 1), (2, 2, 1), (2, 32, 16), (4, 8, 2)]
)
def test_batches_that_cannot_be_shared(world, batch, pieces):
    with pytest.raises(UsageError, match=r"--set optimise\.batch=(\d+)") as caught:
        Ranks(0, world).refuse_uneven(batch, pieces)
    better = int(str(caught.value).split("optimise.batch=")[1].split(",")[0])
    Ranks(0, world).refuse_uneven(better, pieces)
    ALONE.refuse_uneven(batch, pieces)


def test_more_ranks_than_gpus():
    assert Ranks(1, 2, 1, 2).card(CPU) == CPU
    with pytest.raises(DeviceError, match="--nproc_per_node="):
        Ranks(0, 99, 0, 99).card(torch.device("cuda"))


def test_world_without_a_launcher(cli, monkeypatch, made, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    result = cli("train", made / "data", "-o", tmp_path / "run")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "WORLD_SIZE is 2, but there is no RANK and no MASTER_ADDR and no MASTER_PORT" in line
    assert "torchrun --nproc_per_node" in line
    assert not (tmp_path / "run").exists()


def test_environment_of_a_launcher():
    place = {"MASTER_ADDR": "a", "MASTER_PORT": "1"}
    known = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"} | place
    assert ranks_of(known) == Ranks(3, 4, 1, 2)
    assert ranks_of({"WORLD_SIZE": "2", "RANK": "1"} | place) == Ranks(1, 2, 1, 2)
    for alone in ({}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "1", "RANK": "0"}):
        assert ranks_of(alone) == ALONE
    for wrong in ({"RANK": "4"}, {"RANK": "x"}, {"WORLD_SIZE": "0"}, {"LOCAL_RANK": "2"}):
        with pytest.raises(UsageError, match="launcher's environment"):
            ranks_of(known | wrong)


def test_who_died_and_who_left_word():
    store = HashStore()
    lost = threading.Event()
    first = Heartbeat(store, 0, 4, lambda _: lost.set(), every=0.02, silent=1.0)
    others = [Heartbeat(store, rank, 4, lambda _: None, every=0.02) for rank in (1, 2)]
    assert first.dead(0.5) == [3] and first.words() == {}  # 3 never came
    others[0].leave("done")
    others[1]._over.set()  # killed: no word, no beat
    assert first.dead(0.5) == [2, 3] and first.words() == {1: "done"}
    assert first.word(1) == "done" and first.word(2, 0.1) is None
    assert lost.wait(5)  # and nobody had to ask
    first.leave("done")


def test_norms_stay_on_their_statistics(made):
    recipe = load_recipe(str(made / "tiny.toml"), SMALL)
    from edge_fgr_train.network import build_network

    x = torch.randint(0, 255, (4, 32, 32, 3), dtype=torch.uint8)
    moved = {}
    for still in (True, False):
        model = load_recipe(
            str(made / "tiny.toml"), [*SMALL, f"model.frozen_norms={str(still).lower()}"]
        ).model
        network = build_network(model, 3, pretrained=False, size=32).train()
        network(x)
        moved[still] = bool(last_norm(network).running_mean.any())
        assert last_norm(network).weight.requires_grad
    assert moved == {True: False, False: True}
    assert recipe.model.frozen_norms


def test_norms_over_all_ranks_are_the_same_network(made):
    """SyncBatchNorm does not train on a processor, but it evaluates there."""
    from edge_fgr_train.network import build_network

    recipe = load_recipe(str(made / "tiny.toml"), ["model.pretrained=false"])
    torch.manual_seed(0)
    network = build_network(recipe.model, 3, pretrained=False).eval()
    x = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    before, known = network(x).logits, network.state_dict()
    synced = _synced(network)
    assert isinstance(last_norm(synced), torch.nn.SyncBatchNorm)
    assert synced.state_dict().keys() == known.keys()
    torch.testing.assert_close(synced(x).logits, before)  # timm's activations are still there
    split = split_of(made / "data", recipe, str(made / "tiny.toml"))
    wanted = load_recipe(str(made / "tiny.toml"), [*SMALL, "optimise.sync_norm=on"])
    with pytest.raises(UsageError, match="needs CUDA"):
        train(split, wanted, made / "never", CPU)


def test_chains_are_for_one_process(made, monkeypatch):
    """Refused before anything is computed."""
    from contextlib import contextmanager

    from edge_fgr_train import command

    @contextmanager
    def pair(_device):
        yield Ranks(0, 2, 0, 2)

    monkeypatch.setattr(command, "joined", pair)
    with pytest.raises(UsageError, match="fitted by one process"):
        run(str(made / "data"), made / "chain", "chain", [], "cpu")
