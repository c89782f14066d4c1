"""Models take turns, and ratios are of the same round; OpenVINO where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from edge_fgr.errors import UnavailableError
from edge_fgr.model import embedded
from edge_fgr_bench.speed import Ratio, latencies, onnxruntime_runners, openvino_runners, ratio

MODEL = embedded()["grocery81"]
OPENVINO = os.environ.get("OPENVINO_PYTHON")


def test_all_take_turns_in_each_round():
    asked = []

    def runner(name, took):
        def run(count):
            asked.append(name)
            return [took * (i + 1) for i in range(count)]

        return run

    found = latencies({"a": runner("a", 2.0), "b": runner("b", 3.0)}, rounds=5, runs=3)
    assert found == {"a": [2.0] * 5, "b": [3.0] * 5}
    rounds = [asked[i : i + 2] for i in range(0, len(asked), 2)]
    assert len(rounds) == 7 and all(set(turn) == {"a", "b"} for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) == 2  # not always the same one first


def test_ratios_are_of_the_same_round():
    assert ratio([1.0, 2.0, 30.0], [2.0, 4.0, 60.0]) == Ratio(0.5, 0.5, 0.5)
    assert ratio([3.0], [2.0]) == Ratio(1.5, 1.5, 1.5)


def test_models_are_run(photos):
    runners = onnxruntime_runners([MODEL], photos[0])
    found = latencies(runners, rounds=2, runs=2)
    assert list(found) == [f"{MODEL} onnxruntime"]
    assert all(took > 0 for took in found[f"{MODEL} onnxruntime"])


def test_an_interpreter_without_openvino_is_told(photos, tmp_path):
    for python in (sys.executable, str(tmp_path / "absent")):
        with (
            pytest.raises(UnavailableError, match=r"OpenVINO failed|cannot be run"),
            openvino_runners([MODEL], photos[0], python),
        ):
            pass


@pytest.mark.skipif(not OPENVINO, reason="OPENVINO_PYTHON names no interpreter with OpenVINO")
def test_openvino_answers(photos):
    with openvino_runners([MODEL], photos[0], str(OPENVINO)) as runners:
        for run in runners.values():
            took = run(3)
            assert len(took) == 3 and min(took) > 0


def test_command(photos):
    command = [sys.executable, "-m", "edge_fgr_bench.speed", MODEL, "--image", photos[0]]
    run = subprocess.run(
        [*command, "--rounds", "2", "--json"], capture_output=True, text=True, check=True
    )
    (row,) = json.loads(run.stdout)["figures"]
    assert row["of_first"]["median"] == 1 and row["of_openvino"] is None and row["ms"] > 0
    table = subprocess.run([*command, "--rounds", "2"], capture_output=True, text=True, check=True)
    assert len(table.stdout.splitlines()) == 2
    broken = subprocess.run([*command[:3], photos[0]], capture_output=True, text=True, check=False)
    assert broken.returncode == 78 and len(broken.stderr.splitlines()) == 1
