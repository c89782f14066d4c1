"""A folder to a CSV table, all processors at work, in bounded memory and in order.

python examples/batch.py FOLDER OUT.csv
"""

import csv
import sys
from pathlib import Path

from edge_fgr import Classifier

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
files = sorted(folder.glob("*.jpg"))
clf = Classifier.load()
with out.open("w", newline="") as table:
    rows = csv.writer(table)
    rows.writerow(["file", "label", "probability", "verdict"])
    for file, found in zip(files, clf.classify_many(files, top_k=1), strict=True):
        label = "/".join(found.label)
        rows.writerow([file.name, label, f"{found.probability:.6f}", found.verdict.kind])
print(f"{len(files)} photos, written to {out}")
