"""A bar on a terminal, silence for short work elsewhere; data stays on stdout."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="terminals are emulated on Unix only")


def test_bar_on_a_terminal(photos):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_fgr", "classify", *photos[:3], "--format", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    data, _ = process.communicate()
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other end is closed: the end of what a terminal gets
        pass
    os.close(ours)
    assert b"3/3" in shown and b"#" in shown
    assert len(data.splitlines()) == 3 and b"#" not in data
