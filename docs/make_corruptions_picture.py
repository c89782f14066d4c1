"""Draw docs/corruptions.jpg: one photograph under every corruption, at severity 3.

python docs/make_corruptions_picture.py [--severity 3] [--out docs/corruptions.jpg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_fgr.image import load
from edge_fgr.model import open_model
from edge_fgr_bench.corruptions import CORRUPTIONS, corrupt

ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "tests" / "golden" / "images" / "Fruit_Apple_Pink-Lady_025.jpg"
SIDE, COLUMNS, LINE, SEED = 160, 6, 17, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "corruptions.jpg")
    options = parser.parse_args()
    pixels = load(PHOTO, open_model(device="cpu").contract.geometry)
    tiles = [("as it is", pixels)] + [
        (each.name, corrupt(pixels, each.name, options.severity, SEED)) for each in CORRUPTIONS
    ]
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + LINE)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, (name, tile) in enumerate(tiles):
        x, y = i % COLUMNS * SIDE, i // COLUMNS * (SIDE + LINE)
        small = Image.fromarray(np.asarray(tile)).resize((SIDE - 2, SIDE - 2), reducing_gap=3)
        sheet.paste(small, (x + 1, y + LINE))
        pen.text((x + 3, y + 1), name, fill="black", font=font)
    sheet.save(options.out, quality=80, optimize=True)


if __name__ == "__main__":
    main()
