"""The wheel and the light install: built and installed for real, then weighed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

__all__ = ["PHOTOS", "ROOT", "build_wheel", "install_light", "packages_of", "weigh", "wheel_names"]

ROOT = Path(__file__).parents[2]
"""The checkout; a wheel can only be built from there."""

PHOTOS = ROOT / "tests" / "golden" / "images"
"""The project's own photographs."""

_TOOLS = ("pip", "pkg_resources", "setuptools", "_distutils_hack", "distutils-precedence.pth")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout into ``folder``."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_light(wheel: Path, folder: Path) -> Path:
    """Install a wheel without extras into a fresh environment; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", str(wheel)],
        check=True,
        capture_output=True,
    )
    return python


def packages_of(python: Path) -> list[str]:
    """Return the top-level names in an environment's site-packages, pip and setuptools left out."""
    return sorted(path.name for path in _site(python).iterdir() if not _is_tool(path.name))


def weigh(python: Path) -> int:
    """Return the bytes in an environment's site-packages, pip and setuptools left out."""
    return sum(
        file.stat().st_size
        for path in _site(python).iterdir()
        if not _is_tool(path.name)
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    )


def wheel_names(wheel: Path) -> list[str]:
    """Return what is in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def _site(python: Path) -> Path:
    (site,) = (python.parents[1] / "lib").glob("python*/site-packages")
    return site


def _is_tool(name: str) -> bool:
    return name.partition("-")[0] in _TOOLS or name in _TOOLS
