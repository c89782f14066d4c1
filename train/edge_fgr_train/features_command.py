"""``edge-fgr features``: embeddings of a data set as one ``.npz``; no torch where all are known."""

from __future__ import annotations

from pathlib import Path

from edge_fgr.errors import UsageError
from edge_fgr.progress import say
from edge_fgr_train.catalog import open_dataset
from edge_fgr_train.embedder import open_embedder
from edge_fgr_train.features import embed, write_features

__all__ = ["run"]


def run(data: str, model: str, output: Path, device: str, cached: bool) -> None:
    """Write the embeddings of ``data`` by ``model`` to ``output``.

    Raises:
        EdgeFgrError: see the error tree; nothing half-written is left under a final name.
    """
    if output.suffix != ".npz":
        raise UsageError(f"{output}: the name of the features must end in .npz")
    embedder = open_embedder(model, device=device)
    dataset = open_dataset(data)
    rows = embed(embedder, dataset.samples, cached=cached)
    write_features(output, embedder, dataset.samples, rows)
    say(f"{output}: {rows.shape[0]} embeddings of {rows.shape[1]} numbers")
