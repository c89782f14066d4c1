"""The face of the package: load a model once, classify images from any number of threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edge_fgr import decision, image
from edge_fgr.errors import UsageError
from edge_fgr.model import Device, Model, open_model
from edge_fgr.parallel import cores, ordered_map
from edge_fgr.prediction import ModelId, Prediction, Ranked, Timings

if TYPE_CHECKING:
    from edge_fgr.contract import Contract, Roi
    from edge_fgr.image import Channels, Source

__all__ = ["Classifier"]


class Classifier:
    """Classifies images with one model. Holds no mutable state: share it between threads.

    >>> clf = Classifier.load()
    >>> prediction = clf("cam.jpg")
    >>> prediction.label, prediction.probability
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    @classmethod
    def load(
        cls,
        path_or_name: str | os.PathLike[str] | None = None,
        *,
        device: Device = "auto",
        threads: int = 1,
        cache: bool = True,
    ) -> Classifier:
        """Open a model.

        Args:
            path_or_name: a ``.onnx`` file, the name of an embedded model, or None for the default.
            device: ``cpu`` or ``cuda`` (an error when it is not active), or ``auto``.
            threads: threads inside one inference. For many images leave it at 1 and let
                ``classify_many`` work side by side.
            cache: keep the optimised graph in the user's cache folder, which makes the next start
                faster; the bits are the same. A folder that cannot be written is no error.

        Raises:
            EdgeFgrError: see ``edge_fgr.model.open_model``.
        """
        return cls(open_model(path_or_name, device=device, threads=threads, cache=cache))

    @property
    def model(self) -> ModelId:
        """Name, version and digest of the model."""
        return self._model.id

    @property
    def contract(self) -> Contract:
        """What the model says about itself."""
        return self._model.contract

    @property
    def device(self) -> str:
        """What really runs: ``cpu`` or ``cuda``."""
        return self._model.device

    def __call__(
        self,
        source: Source,
        *,
        top_k: int = 5,
        channels: Channels | None = None,
        roi: Roi | None = None,
        name: str | None = None,
    ) -> Prediction:
        """Classify one image; arguments as in ``edge_fgr.image.load``.

        Args:
            source: path, bytes, Pillow image or array.
            top_k: how many classes to rank, at least 1; more than there are gives all.
            channels: order of a colour array.
            roi: region of interest that replaces the model's.
            name: what messages call the image.

        Raises:
            EdgeFgrError: the image could not be read whole, or an argument cannot be meant.
        """
        if top_k < 1:
            raise UsageError(f"top_k must be at least 1, not {top_k}")
        start = time.perf_counter()
        contract = self._model.contract
        pixels = image.load(source, contract.geometry, channels=channels, roi=roi, name=name)
        decoded = time.perf_counter()
        logits = self._model.run(pixels[None])[0]  # (C,)
        inferred = time.perf_counter()
        values = decision.probabilities(logits, contract.temperature)
        ranked = tuple(
            Ranked(contract.labels[i], float(values[i])) for i in decision.best(values, top_k)
        )
        done = time.perf_counter()
        ms = Timings(
            decode=(decoded - start) * 1e3,
            infer=(inferred - decoded) * 1e3,
            total=(done - start) * 1e3,
        )
        return Prediction(
            ranked[0].label, ranked[0].probability, ranked, ms, self._model.device, self._model.id
        )

    def classify_many(
        self,
        sources: Iterable[Source],
        *,
        top_k: int = 5,
        channels: Channels | None = None,
        roi: Roi | None = None,
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """Classify images side by side; predictions come in the order of the sources.

        Memory stays bounded: at most ``2 * workers`` images are ahead of the one being yielded.

        Args:
            sources: paths, bytes, Pillow images or arrays; read lazily.
            top_k: as for one image.
            channels: as for one image.
            roi: as for one image.
            workers: threads that decode and infer; by default one per usable processor.

        Raises:
            EdgeFgrError: where the failing image's prediction would have come.
        """

        def one(source: Source) -> Prediction:
            return self(source, top_k=top_k, channels=channels, roi=roi)

        return ordered_map(one, sources, cores() if workers is None else workers)
