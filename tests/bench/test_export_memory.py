"""The export is measured as whole processes, with the counts of range images asked for."""

from __future__ import annotations

import subprocess

import pytest

from edge_fgr_bench.export_memory import export_memory


def test_peaks_of_whole_exports(tiny):
    found = export_memory(tiny / "run", None, [2, 6])
    assert set(found) == {f"{n}_{what}" for n in (2, 6) for what in ("seconds", "peak_mib")} | {
        "growth"
    }
    assert found["2_peak_mib"] > 100  # torch alone is more
    assert found["growth"] == found["6_peak_mib"] / found["2_peak_mib"]


def test_an_export_that_fails_is_told(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        export_memory(tmp_path, None, [2])
