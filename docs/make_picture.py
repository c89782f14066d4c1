"""Draw docs/classify.svg: what the command line really prints for the example photos.

python docs/make_picture.py          (rich comes with typer)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent


def main() -> None:
    photos = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "examples").glob("*.jpg"))]
    console = Console(record=True, width=96, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(Text("$ edge-fgr classify examples/*.jpg", style="bold green"))
    command = [sys.executable, "-m", "edge_fgr", "classify", *photos]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    console.print(Text(result.stdout.rstrip()))
    svg = console.export_svg(title="edge-fgr")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from the network
    (ROOT / "docs" / "classify.svg").write_text(svg)


if __name__ == "__main__":
    main()
