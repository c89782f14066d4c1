"""Light stays light: what a process has imported, and a wheel in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "torch", "torchvision", "timm", "onnx", "onnxscript", "scipy", "sklearn", "cv2", "safetensors",
    "edge_fgr_train", "edge_fgr_export", "edge_fgr_bench", "pandas", "matplotlib", "skimage",
}  # fmt: skip


def imported(code: str) -> set[str]:
    """Top-level names in ``sys.modules`` after ``code`` ran in a fresh process."""
    tail = "\nimport json, sys; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    run = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_of_weight():
    assert not imported("import edge_fgr") & (
        HEAVY | {"numpy", "PIL", "onnxruntime", "typer", "json", "dataclasses"} - {"json"}
    )


def test_classifying_imports_only_the_four(photos):
    names = imported(f"import edge_fgr; edge_fgr.Classifier.load()({str(photos[0])!r})")
    assert not names & (HEAVY | {"typer"})
    assert {"numpy", "PIL", "onnxruntime"} <= names


def test_the_command_line_imports_no_image_code_for_help():
    code = (
        "import sys\nfrom edge_fgr.cli import app\nsys.argv = ['edge-fgr', '--help']\n"
        "try:\n    app(standalone_mode=False)\nexcept SystemExit:\n    pass"
    )
    assert not imported(code) & (HEAVY | {"numpy", "PIL", "onnxruntime"})


def test_long_work_collects_garbage(photos):
    """The start goes without the collector; folders do not."""
    code = (
        "import gc, os, sys\nimport edge_fgr.__main__\nassert not gc.isenabled()\n"
        "os._exit = sys.exit\n"
        f"sys.argv = ['edge-fgr', 'classify', {str(photos[0])!r}, {str(photos[1])!r}]\n"
        "try:\n    edge_fgr.__main__.main()\nexcept SystemExit:\n    assert gc.isenabled()"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_a_plain_command_line_imports_no_typer(photos):
    """Nor, at a second start, OpenSSL: the digest is noted."""
    code = (
        "import os, sys\nos._exit = sys.exit\nimport edge_fgr.__main__\n"
        f"sys.argv = ['edge-fgr', 'classify', {str(photos[0])!r}, '-k', '3']\n"
        "try:\n    edge_fgr.__main__.main()\nexcept SystemExit:\n    pass"
    )
    imported(code)
    names = imported(code)
    assert not names & (HEAVY | {"typer", "click", "hashlib", "csv"})
