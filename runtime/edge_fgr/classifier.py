"""The face of the package: load a model once, classify images from any number of threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from edge_fgr import image
from edge_fgr.errors import UsageError
from edge_fgr.memory import give_back
from edge_fgr.model import Model, model_of
from edge_fgr.parallel import cores
from edge_fgr.prediction import ModelId, Prediction, Timings
from edge_fgr.sessions import Device, Opened, open_session
from edge_fgr.staged import staged_map
from edge_fgr.verdict import Decider

if TYPE_CHECKING:
    from edge_fgr.contract import Contract, Label, Roi
    from edge_fgr.gallery import Gallery
    from edge_fgr.head import Head
    from edge_fgr.image import Channels, Pixels, Source
    from edge_fgr.saliency import Evidence

__all__ = ["Classifier", "Prepared"]

_MANY = 64
"""Images of a run after which 0.4 ms do not count."""


class Prepared(NamedTuple):
    """One image as the network takes it.

    Attributes:
        pixels: uint8 ``(size, size, 3)``, RGB.
        ms: how long decoding took, in milliseconds.
    """

    pixels: Pixels
    ms: float


class Classifier:
    """Classifies images with one model. Holds no mutable state: share it between threads.

    >>> clf = Classifier.load()
    >>> prediction = clf("cam.jpg")
    >>> prediction.label, prediction.probability
    """

    def __init__(
        self, model: Model, *, coverage: float | None = None, gallery: Gallery | None = None
    ) -> None:
        self._model = model
        self._gallery = gallery
        confidence = model.contract.confidence
        unknown = confidence.unknown if confidence else None
        familiar = None
        if unknown is not None and unknown.score == "whitened_cosine":
            familiar = gallery.familiar if gallery else model.familiar()
        self._decider = Decider(
            model.contract,
            familiar,
            enrolled=gallery.labels if gallery else (),
            scale=gallery.scale if gallery else 1.0,
            coverage=coverage,
        )
        self._outputs = ("logits", "embedding") if gallery or familiar else ("logits",)

    @classmethod
    def load(
        cls,
        path_or_name: str | os.PathLike[str] | None = None,
        *,
        device: Device = "auto",
        device_options: Mapping[str, str] | None = None,
        threads: int = 1,
        cache: bool = True,
        coverage: float | None = None,
        gallery: str | os.PathLike[str] | None = None,
    ) -> Classifier:
        """Open a model.

        Args:
            path_or_name: a ``.onnx`` file, the name of an embedded model, or None for the default.
            device: what runs it (an error when it is not active), or ``auto``.
            device_options: for the device's provider, as docs/devices.md lists them.
            threads: threads inside one inference. For many images leave it at 1 and let
                ``classify_many`` work side by side.
            cache: keep the optimised graph in the user's cache folder, which makes the next start
                faster; the bits are the same. A folder that cannot be written is no error.
            coverage: give each prediction the set of labels that holds the truth with this
                coverage, such as 0.95; one of those that the model was fitted for.
            gallery: file of classes that were enrolled with this model.

        Raises:
            UsageError: the model was not fitted for this coverage.
            EdgeFgrError: see ``edge_fgr.model.open_model`` and ``edge_fgr.gallery.read_gallery``.
        """
        opened = open_session(
            path_or_name,
            device=device,
            device_options=device_options,
            threads=threads,
            cache=cache,
        )
        return cls.of(opened, coverage=coverage, gallery=gallery)

    @classmethod
    def of(
        cls,
        opened: Opened,
        *,
        coverage: float | None = None,
        gallery: str | os.PathLike[str] | None = None,
    ) -> Classifier:
        """Take a session that ``edge_fgr.sessions.open_session`` opened; the rest as ``load``."""
        model = model_of(opened)
        if gallery is None:
            return cls(model, coverage=coverage)
        from edge_fgr.gallery import read_gallery

        return cls(model, coverage=coverage, gallery=read_gallery(gallery, model))

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
        """What really runs, such as ``cpu``."""
        return self._model.device

    @property
    def outputs(self) -> tuple[str, ...]:
        """Which outputs of the graph an answer needs."""
        return self._outputs

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
        prepared = self.prepare(source, channels=channels, roi=roi, name=name)
        return self.answer(prepared, top_k=top_k)

    def prepare(
        self,
        source: Source,
        *,
        channels: Channels | None = None,
        roi: Roi | None = None,
        name: str | None = None,
    ) -> Prepared:
        """Return the pixels that ``answer`` takes: the first half of a call."""
        start = time.perf_counter()
        geometry = self._model.contract.geometry
        pixels = image.load(source, geometry, channels=channels, roi=roi, name=name)
        return Prepared(pixels, (time.perf_counter() - start) * 1e3)

    def answer(self, prepared: Prepared, *, top_k: int = 5) -> Prediction:
        """Classify pixels: the second half of a call.

        Raises:
            ModelError: onnxruntime failed.
            UsageError: ``top_k`` is below 1.
        """
        if top_k < 1:
            raise UsageError(f"top_k must be at least 1, not {top_k}")
        start = time.perf_counter()
        rows = self._model.outputs(prepared.pixels[None], *self._outputs)
        inferred = time.perf_counter()
        logits = rows[0][0]  # (C,)
        embedding = rows[1][0] if len(rows) > 1 else None  # (D,)
        if self._gallery is not None and embedding is not None:
            logits = self._gallery.extend(logits, embedding)  # (C + K,)
        answer = self._decider(logits, embedding, top_k)
        ms = Timings(
            decode=prepared.ms,
            infer=(inferred - start) * 1e3,
            total=prepared.ms + (time.perf_counter() - start) * 1e3,
        )
        best = answer.top_k[0]
        return Prediction(
            label=best.label,
            probability=best.probability,
            top_k=answer.top_k,
            ms=ms,
            device=self._model.device,
            model=self._model.id,
            verdict=answer.verdict,
            unknown=answer.unknown,
            labels=answer.labels,
            gate=answer.gate,
        )

    def head(self) -> Head:
        """Return the weights of the linear head; errors as ``edge_fgr.model.Model.head``."""
        return self._model.head()

    def explain(
        self,
        source: Source,
        prediction: Prediction | Label | None = None,
        *,
        against: Label | None = None,
        channels: Channels | None = None,
        roi: Roi | None = None,
        name: str | None = None,
    ) -> Evidence:
        """Return where in one image the evidence for a class lies.

        Arguments and errors as ``edge_fgr.saliency.explain``, without the model.
        """
        from edge_fgr.saliency import explain

        return explain(
            self._model, source, prediction, against=against, channels=channels, roi=roi, name=name
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

        Memory stays bounded: at most ``4 * workers`` images are ahead of the one being yielded.

        Args:
            sources: paths, bytes, Pillow images or arrays; read lazily.
            top_k: as for one image.
            channels: as for one image.
            roi: as for one image.
            workers: threads that decode and infer; by default one per usable processor.

        Raises:
            EdgeFgrError: where the failing image's prediction would have come.
        """

        def first(source: Source) -> Prepared:
            return self.prepare(source, channels=channels, roi=roi)

        def second(prepared: Prepared) -> Prediction:
            return self.answer(prepared, top_k=top_k)

        answers = staged_map(first, second, sources, cores() if workers is None else workers)
        return _tidy(answers)


def _tidy(answers: Iterator[Prediction]) -> Iterator[Prediction]:
    """Yield the answers; after many, leave the process no larger than it was."""
    count = 0
    try:
        for answer in answers:
            count += 1
            yield answer
    finally:
        if count >= _MANY:
            give_back()
