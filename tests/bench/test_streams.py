"""Latency: what is timed, in which order, by which processes, on which machine."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from small_models import linear

from edge_fgr.errors import EdgeFgrError, InputMissingError
from edge_fgr_bench import machine
from edge_fgr_bench.bench_images import spread
from edge_fgr_bench.candidates import plans_of
from edge_fgr_bench.document import Settings
from edge_fgr_bench.noise import noise_of
from edge_fgr_bench.samples import PHASES, Block
from edge_fgr_bench.single_stream import Stream, overhead_us, spin_us
from edge_fgr_bench.turns import Turns


def test_phases_of_a_query_sum_to_the_whole(clf, photos):
    stream = Stream(clf, [str(photo) for photo in photos[:5]])
    times, block = stream.block(12)
    assert tuple(times) == PHASES and {len(row) for row in times.values()} == {12}
    parts = zip(*(times[phase] for phase in PHASES[:-1]), strict=True)
    for some, whole in zip(parts, times["whole"], strict=True):
        assert min(some) > 0
        assert abs(sum(some) - whole) <= 3  # each of five is rounded to a microsecond
    assert block.queries == 12 and block.spin_us > 0 and block.busy > 0 and block.preempted >= 0
    assert block.seconds * 1e6 >= sum(times["whole"]) - 12
    assert Block(**{name: getattr(block, name) for name in Block.__dataclass_fields__}) == block


def test_images_come_in_order_round_and_round(clf, photos, tmp_path):
    """A file that is gone is an error at its very turn."""
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for path, photo in zip(paths, photos, strict=False):
        path.write_bytes(photo.read_bytes())
    stream = Stream(clf, [str(path) for path in paths])
    stream.block(4)
    paths[0].unlink()
    stream.block(2)
    with pytest.raises(InputMissingError, match=r"0\.jpg"):
        stream.block(1)
    stream.warm_up(0, 0.0)  # asks for nothing
    stream.block(2)
    with pytest.raises(InputMissingError, match=r"0\.jpg"):
        stream.warm_up(1, 0.0)


def test_a_whole_answer_is_what_is_timed(clf, photos):
    """The phases one by one end in what the classifier says to the file."""
    stream = Stream(clf, [str(photos[0])])
    name = next(stream._next)
    pixels = stream._fit(stream._read(name))
    assert (pixels == clf.prepare(str(photos[0])).pixels).all()
    assert stream.rate(0.0) > 0


def test_timing_costs_something_finite():
    assert 0 < overhead_us(200) < math.inf
    assert 0 < spin_us() < math.inf


def test_images_are_spread_evenly():
    assert spread(3, 5) == [0, 1, 2] and spread(1, 1) == [0]
    assert spread(101, 5) == [0, 25, 50, 75, 100]
    assert len(set(spread(300, 256))) == 256


SETTINGS = Settings(("latency",), 1, 200, 0.3, 1, 1, 0, ())


def children_of(parent):
    """Return the command line of each child, by its process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == parent:
                found[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")
def test_a_killed_process_takes_nothing_else_with_it(photos, tmp_path):
    """In the middle of its turns; what it had measured is kept, the other is measured whole."""
    model = str(linear(tmp_path / "linear.onnx", photos))
    plans = plans_of([model, "grocery81"], ["cpu"], {})
    turns = Turns(plans, [str(photo) for photo in photos[:4]], SETTINGS)
    before = set(children_of(os.getpid()))
    seen = []

    def watch():
        streams = []
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            blocks = turns.found()[1].blocks
            if blocks:
                os.kill(streams[-1], signal.SIGKILL)
                seen.append(len(blocks))
                return
            if len(streams) < 2:
                now = children_of(os.getpid())
                streams = sorted(
                    pid for pid in set(now) - before if "edge_fgr_bench.stream_child" in now[pid]
                )
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        turns.run()
    finally:
        watcher.join()
    assert seen
    whole, killed = turns.found()
    assert killed.error == "the process that answers queries ended (signal 9)"
    assert len(killed.blocks) in (seen[0], seen[0] + 1)
    assert {len(row) for row in killed.us.values()} == {64 * len(killed.blocks)}
    assert len(killed.cold_ms) == 1 and len(killed.load_ms) == 5 and not killed.images_per_s

    assert whole.error is None and whole.key == "A"
    assert sum(block.queries for block in whole.blocks) >= SETTINGS.queries
    assert sum(block.seconds for block in whole.blocks) >= SETTINGS.seconds
    assert {phase: len(row) for phase, row in whole.us.items()} == dict.fromkeys(
        PHASES, sum(block.queries for block in whole.blocks)
    )
    assert len(whole.images_per_s) == 3 and whole.workers >= 1 and whole.peak_kib > 20_000
    assert len(whole.cold_ms) == len(whole.cold_kib) == 1
    assert len(whole.pinned) <= 1 and whole.overhead_us > 0
    assert [c.name for c in turns.candidates] == ["linear", "grocery81"]
    assert not set(children_of(os.getpid())) - before  # nobody is left behind


def test_a_failure_is_said_at_the_opening_of_its_candidate(photos, tmp_path):
    plans = plans_of(["grocery81", str(tmp_path / "none.onnx")], ["cpu"], {})
    turns = Turns(plans, [str(photos[0])], SETTINGS)
    before = set(children_of(os.getpid()))
    with pytest.raises(EdgeFgrError, match=r"none\.onnx: no such model") as caught:
        turns.run()
    assert caught.value.exit_code == 66
    assert not any(one.us or one.cold_ms for one in turns.found())
    assert not set(children_of(os.getpid())) - before


QUIET = Block(64, 0.5, 100.0, 0.999, 0, 0.5, 2400.0, None)


def said(blocks, *, drift=1.0, pace=None, alone=True):
    half = 32 * len(blocks)
    us = {"inference": [4000, 4010] * (half // 2) + [round(4000 * drift), 4010] * (half // 2)}
    if drift != 1:
        us["inference"][half:] = [round(4000 * drift)] * half
    if pace is not None:
        us["inference"] = [one for turn in pace for one in [turn] * 64]
    return noise_of(blocks, us, alone=alone)


def test_a_quiet_machine_is_trusted():
    assert said([QUIET] * 6) == () and said([QUIET] * 6, drift=1.04) == ()
    assert said([QUIET] * 8, pace=[4000, 4300] * 4) == ()


def test_each_reason_to_distrust_is_said():
    (busy,) = said([replace(QUIET, busy=0.9)] * 6)
    assert "only 90% of the time" in busy
    assert said([replace(QUIET, busy=0.4)] * 6, alone=False) == ()
    long = [replace(QUIET, seconds=20.0), *[replace(QUIET, busy=0.5)] * 4]
    assert said(long) != () and "95%" in said(long)[0]  # by time, not by turns
    (turns,) = said([QUIET] * 8, pace=[4000, 4800] * 4)
    assert "4.00 ms in some turns and 4.80 in others" in turns
    for drift, text in ((1.5, "from 4.00 to 6.00 ms"), (0.5, "from 4.00 to 2.00 ms")):
        (found,) = said([QUIET] * 6, drift=drift)
        assert text in found and "run longer" in found
    both = said([replace(QUIET, busy=0.9)] * 6, drift=2)
    assert len(both) == 2


def test_few_turns_say_nothing():
    assert said([replace(QUIET, busy=0.1, spin_us=100.0 * i + 1) for i in range(3)], drift=3) == ()


def zone(folder, name, kind, used, most=1_000_000):
    place = folder / name
    place.mkdir(parents=True)
    (place / "name").write_text(kind + "\n")
    (place / "energy_uj").write_text(f"{used}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    return place / "energy_uj"


def test_energy_is_that_of_the_packages(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 900_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 50)
    zone(tmp_path, "intel-rapl:2", "psys", 77)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 12)
    before = machine.rapl(tmp_path)
    assert before == {"intel-rapl:0": (100_000, 10**6), "intel-rapl:1": (900_000, 10**6)}
    first.write_text("350000\n")
    second.write_text("150000\n")  # ran over
    after = machine.rapl(tmp_path)
    assert machine.joules_between(before, after) == pytest.approx(0.25 + 0.25)
    assert machine.joules_between(after, after) == 0
    second.unlink()
    second.mkdir()  # nobody can read that
    left = machine.rapl(tmp_path)
    assert left == {"intel-rapl:0": (350_000, 10**6)}
    assert machine.joules_between(before, left) is None
    first.write_text("\n")
    assert machine.rapl(tmp_path) is None
    assert machine.rapl(tmp_path / "none") is None
    assert machine.joules_between(None, before) is None
    assert machine.joules_between(before, None) is None


def test_clocks_are_read_where_the_system_shows_them(tmp_path):
    info, cpus = tmp_path / "cpuinfo", tmp_path / "cpus"
    info.write_text(
        "processor\t: 0\nmodel name\t: X\ncpu MHz\t\t: 2596.124\n\n"
        "processor\t: 1\nmodel name\t: X\ncpu MHz\t\t: 1800.5\n"
    )
    assert machine.clock_mhz(1, info, cpus) == 1800.5
    assert machine.clock_mhz(0, info, cpus) == 2596.124
    assert machine.clock_mhz(2, info, cpus) is None
    (cpus / "cpu1" / "cpufreq").mkdir(parents=True)
    (cpus / "cpu1" / "cpufreq" / "scaling_cur_freq").write_text("3100000\n")
    assert machine.clock_mhz(1, info, cpus) == 3100
    assert machine.clock_mhz(0, info, cpus) == 2596.124
    (cpus / "cpu1" / "cpufreq" / "scaling_cur_freq").write_text("<unknown>\n")
    assert machine.clock_mhz(1, info, cpus) == 1800.5
    assert machine.clock_mhz(0, tmp_path / "none", cpus) is None


def test_the_process_knows_its_memory():
    resident = machine.resident_kib()
    assert machine.peak_kib() > 20_000
    assert resident is None or 20_000 < resident <= machine.peak_kib() + 4096


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux binds, others may not")
def test_binding_says_what_it_did_and_can_be_undone():
    usable = sorted(os.sched_getaffinity(0))
    try:
        assert machine.pin(usable[-1:]) == tuple(usable[-1:])
        assert os.sched_getaffinity(0) == {usable[-1]}
        assert machine.pin([100_000]) == ()
        assert os.sched_getaffinity(0) == {usable[-1]}
        assert machine.pin(usable) == tuple(usable)
    finally:
        os.sched_setaffinity(0, usable)
    assert sorted(os.sched_getaffinity(0)) == usable


def test_the_host_is_described():
    host = machine.host()
    assert host.cpu and host.processors >= 1 and host.system.strip()
    assert {"python", "edge-fgr", "onnxruntime", "numpy", "pillow"} <= set(host.versions)


def answers_of(*requests):
    """Return what the process that is timed says to the requests."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    run = subprocess.run(
        [sys.executable, "-m", "edge_fgr_bench.stream_child"],
        input=lines, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert not run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def opening_of(model, images, threads=1):
    (plan,) = plans_of([str(model)], ["cpu"], {})
    usable = machine.pin(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (0,)
    return {
        "plan": asdict(plan), "threads": threads, "all": usable, "pin": usable[-threads:],
        "images": list(map(str, images)),
    }  # fmt: skip


def test_the_timed_process_answers_one_request_after_the_other(photos, tmp_path):
    opening = opening_of(linear(tmp_path / "linear.onnx", photos), photos[:2], threads=2)
    opened, load, warm, block, end = answers_of(
        opening,
        {"do": "load", "times": 2},
        {"do": "warm_up", "queries": 2, "seconds": 0.0},
        {"do": "block", "queries": 3},
        {"do": "end"},
    )
    assert opened["candidate"]["name"] == "linear" and opened["candidate"]["device"] == "cpu"
    if hasattr(os, "sched_getaffinity"):
        assert opened["pinned"] == list(opening["pin"])
    assert len(load["ms"]) == 2 and warm == {} and end["peak_kib"] > 20_000
    assert [len(block["us"][phase]) for phase in PHASES] == [3] * 5
    assert block["block"]["queries"] == 3


def test_the_timed_process_says_why_it_ends(photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:5000])
    opening = opening_of("grocery81", [photos[0], broken])
    block = {"do": "block", "queries": 1}
    _, first, second = answers_of(opening, block, block, block)
    assert first["block"] and "broken.jpg" in second["error"] and second["exit_code"] == 65
    (missing,) = answers_of(opening_of(tmp_path / "none.onnx", photos[:1]), block)
    assert "none.onnx" in missing["error"] and missing["exit_code"] == 66


def test_an_interrupt_of_the_terminal_is_left_to_the_parent(photos, tmp_path):
    """Ctrl-C goes to the whole group; the parent writes what it has, and ends its children."""
    opening = opening_of(linear(tmp_path / "linear.onnx", photos), photos[:2])
    command = [sys.executable, "-m", "edge_fgr_bench.stream_child"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        process.stdin.write(json.dumps(opening) + "\n")
        process.stdin.flush()
        assert "candidate" in json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(json.dumps({"do": "end"}) + "\n", timeout=60)
    assert stderr == "" and json.loads(stdout)["peak_kib"] > 0
