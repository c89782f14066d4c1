"""Embeddings of image files, remembered by content: the same picture is never computed twice.

The cache is one SQLite file per embedder: rows of SHA-256 of the image file and the float32
embedding. Several processes may use it; what is in it survives an interruption.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Geometry
from edge_fgr.decode import read_bytes
from edge_fgr.errors import EdgeFgrError, ImageError
from edge_fgr.files import atomic_path, cache_folder
from edge_fgr.image import load
from edge_fgr.parallel import cores, ordered_map
from edge_fgr.progress import progress, say
from edge_fgr_train.dataset import Sample
from edge_fgr_train.embedder import Embed, Embedder

__all__ = ["embed", "write_features"]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_BATCH = 32


def embed(embedder: Embedder, samples: Sequence[Sample], *, cached: bool = True) -> Floats:
    """Return the embeddings ``(len(samples), D)``, float32; only new pictures are computed.

    Args:
        embedder: where embeddings come from.
        samples: image files.
        cached: False neither reads nor writes the cache.

    Raises:
        ImageError: some files cannot be read whole; the message names the first.
    """
    run: Embed | None = None

    def flush() -> None:
        nonlocal run
        run = run or embedder.load()
        _compute(run, waiting, rows, cache)
        waiting.clear()

    rows: list[Floats | None] = [None] * len(samples)
    failures: list[EdgeFgrError] = []
    waiting: list[tuple[int, bytes, Pixels]] = []
    with _opened(embedder if cached else None) as cache, progress(len(samples), "features") as step:
        known = cache.known()

        def prepare(sample: Sample) -> tuple[bytes, Pixels | None, EdgeFgrError | None]:
            return _prepare(sample, known, embedder.geometry)

        found = ordered_map(prepare, samples, cores())
        for place, (digest, pixels, error) in enumerate(found):
            if error is not None:
                failures.append(error)
            elif pixels is None:
                rows[place] = cache.get(digest)
            else:
                waiting.append((place, digest, pixels))
            if len(waiting) == _BATCH:
                flush()
            step(1, "")
        if waiting:
            flush()
    if failures:
        raise ImageError(
            f"{len(failures)} of {len(samples)} images cannot be read; the first: {failures[0]}; "
            "edge-fgr data check lists all"
        )
    return np.stack([row for row in rows if row is not None])


def write_features(
    path: Path, embedder: Embedder, samples: Sequence[Sample], embedding: Floats
) -> None:
    """Write embeddings and what they belong to as ``.npz``, readable without pickle.

    ``embedding`` float32 ``(N, D)``; ``name``, ``label`` (JSON list, coarse to fine) and ``split``
    as text ``(N,)``; ``about``: JSON of what they were made with.
    """
    about = {
        "schema_version": 1,
        "embedder": embedder.name,
        "digest": embedder.digest,
        "geometry": asdict(embedder.geometry),
    }
    labels = [json.dumps(sample.label, ensure_ascii=False) for sample in samples]
    with atomic_path(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            embedding=embedding,
            name=np.array([sample.name for sample in samples]),
            label=np.array(labels),
            split=np.array([sample.split for sample in samples]),
            about=np.array(json.dumps(about)),
        )


def _prepare(
    sample: Sample, known: frozenset[bytes], geometry: Geometry
) -> tuple[bytes, Pixels | None, EdgeFgrError | None]:
    """Return the file's digest, and its pixels unless the digest is known."""
    try:
        content = read_bytes(sample.path)
        digest = hashlib.sha256(content).digest()
        if digest in known:
            return digest, None, None
        return digest, load(content, geometry, name=str(sample.path)), None
    except EdgeFgrError as error:
        return b"", None, error


def _compute(
    run: Embed,
    waiting: Sequence[tuple[int, bytes, Pixels]],
    rows: list[Floats | None],
    cache: _Cache,
) -> None:
    result = run(np.stack([pixels for _, _, pixels in waiting]))
    for (place, _, _), row in zip(waiting, result, strict=True):
        rows[place] = row
    cache.add({digest: row for (_, digest, _), row in zip(waiting, result, strict=True)})


class _Cache:
    """Rows by digest; without a file it knows nothing and keeps nothing."""

    def __init__(self, file: sqlite3.Connection | None) -> None:
        self._file, self._grows = file, file is not None

    def known(self) -> frozenset[bytes]:
        if self._file is None:
            return frozenset()
        return frozenset(row[0] for row in self._file.execute("SELECT digest FROM embedding"))

    def get(self, digest: bytes) -> Floats:
        assert self._file is not None  # noqa: S101 - a digest is known from this file only
        (row,) = self._file.execute("SELECT row FROM embedding WHERE digest = ?", (digest,))
        return np.frombuffer(row[0], np.float32)

    def add(self, rows: dict[bytes, Floats]) -> None:
        if self._file is None or not self._grows:
            return
        try:
            with self._file:
                self._file.executemany(
                    "INSERT OR IGNORE INTO embedding VALUES (?, ?)",
                    [(digest, row.tobytes()) for digest, row in rows.items()],
                )
        except sqlite3.Error as error:
            say(f"features: the cache cannot be written ({error}); going on without it")
            self._grows = False


@contextmanager
def _opened(embedder: Embedder | None) -> Iterator[_Cache]:
    if embedder is None:
        yield _Cache(None)
        return
    path = cache_folder() / "features" / f"{embedder.digest[:32]}.sqlite"
    file = None
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(path, timeout=60)
            file.execute("CREATE TABLE IF NOT EXISTS embedding (digest BLOB PRIMARY KEY, row BLOB)")
            break
        except sqlite3.DatabaseError as error:
            file = None
            if isinstance(error, sqlite3.OperationalError):
                say(f"features: no cache in {path.parent} ({error})")
                break
            say(f"features: {path} is damaged and made again")
            path.unlink(missing_ok=True)
        except OSError as error:
            say(f"features: no cache in {path.parent} ({error.strerror})")
            break
    try:
        yield _Cache(file)
    finally:
        if file is not None:
            file.close()
