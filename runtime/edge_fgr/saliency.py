"""Where the evidence for a class lies in a photograph, and how it differs from the runner-up's.

Class activation maps (Zhou et al., CVPR 2016, section 2). The logits are linear in the embedding,
and the embedding is the mean of ``features`` over positions, so each logit is exactly the mean of a
map plus a bias; with tiles it is the mean over the worst one, and all others have no share. What is
drawn is the map of the logit above the mean of all logits: softmax does not see a number added to
all logits, and neither should the picture. Other poolings than the mean have no such maps.
 ``docs/explain.md`` says what a map shows and what not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_fgr import decision, image
from edge_fgr.decode import read_bytes
from edge_fgr.errors import ContractError, UsageError
from edge_fgr.files import atomic_path
from edge_fgr.prediction import Prediction, Ranked
from edge_fgr.tint import panel, tint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from edge_fgr.contract import Geometry, Label, Roi
    from edge_fgr.image import Channels, Source
    from edge_fgr.model import Model

    Floats = npt.NDArray[np.float32]

__all__ = ["NEAR_TIE", "Evidence", "Map", "explain", "overlay", "write_evidence"]

NEAR_TIE = 0.5
"""The runner-up is shown from this share of the best probability on: odds of two to one or less.

On photographs of shops that they had not seen, models were right in 41 % of such cases, and in 86 %
of the others (``docs/explain.md``).
"""

_SIDE = 512
"""About the side of a drawn photograph in pixels: three of them fit a screen."""

_ROUNDED = 0.2
"""How far the embedding may be from the mean of the features, as a share of the mean's length.

INT8 leaves 0.02 on photographs. The generalised mean of power 3 is 0.4 off on empty gray, where
positions are most alike, and 0.5 or more on photographs.
"""

_GAP = 8
_LONGEST = 40
"""Most characters of a file's own name that its map's name keeps."""


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """One number, spread over the positions that it comes from.

    Attributes:
        values: float32 ``(h, w)``, in logits; their mean plus ``bias`` is ``total``, but for the
            rounding of an INT8 embedding.
        total: a difference of logits, as the network gave them.
        bias: the part of it that no position has a share in.
    """

    values: Floats
    total: float
    bias: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Why a class.

    Attributes:
        chosen: the class and its probability.
        map: of its logit above the mean of all logits.
        against: the class it is compared with; None where no other is near.
        difference: of its logit above that of ``against``.
        picture: what the network saw, RGB, at a higher resolution.
        verdict: what was said in the end, as text; may be empty.
    """

    chosen: Ranked
    map: Map
    against: Ranked | None
    difference: Map | None
    picture: Image.Image
    verdict: str = ""


def explain(
    model: Model,
    source: Source,
    prediction: Prediction | Label | int | None = None,
    *,
    against: Label | int | None = None,
    channels: Channels | None = None,
    roi: Roi | None = None,
    name: str | None = None,
) -> Evidence:
    """Compute the evidence for a class in one image: one inference, one multiplication.

    Args:
        model: any whose file carries its head.
        source: as in ``edge_fgr.image.load``, and so are ``channels``, ``roi`` and ``name``.
        prediction: what is explained: the best class of a prediction, a class by its whole label
            or its place, or by default the one that the model finds best. So it is, and the
            picture says so, when a prediction's class was enrolled: that has no weights.
        against: the class to compare with; by default the best other one if it is near
            (``NEAR_TIE``).
        channels: order of a colour array.
        roi: region of interest that replaces the model's.
        name: what messages call the image.

    Raises:
        UsageError: a class that the model does not have, or one compared with itself.
        ContractError: the model's file does not carry its head, or its embedding is not the mean
            of its features.
        EdgeFgrError: the image could not be read whole, or inference failed.
    """
    import numpy as np
    from PIL import Image

    labels, geometry = model.contract.labels, model.contract.geometry
    head = model.head()
    if isinstance(source, str | os.PathLike):  # read once: both pictures are of the same bytes
        name = name or image.name_of(source)
        source = read_bytes(source)
    pixels = image.load(source, geometry, channels=channels, roi=roi, name=name)
    seen = image.load(source, _finer(geometry), channels=channels, roi=roi, name=name)
    logits, embedding, features = (
        part[0] for part in model.outputs(pixels[None], "logits", "embedding", "features")
    )
    features = head.places(embedding, features)
    if not _is_mean(embedding, features):
        raise ContractError(
            f"{model.path}: has no evidence maps: its pooling is not the mean of its features; "
            "classify without --explain"
        )
    values = decision.probabilities(logits, model.contract.temperature)
    order = decision.best(values, len(values))
    said: Label | int | None
    verdict, told = "", {}
    if isinstance(prediction, Prediction):
        said, verdict = _said(prediction, labels)
        told = {each.label: each.probability for each in prediction.top_k}
    else:
        said = prediction
    chosen = order[0] if said is None else _index(said, labels)
    rival = next((i for i in order if i != chosen), None)
    if against is not None:
        rival = _index(against, labels)
        if rival == chosen:
            raise UsageError(f"{'/'.join(labels[rival])}: is compared with itself")
    elif rival is not None and values[rival] < NEAR_TIE * values[chosen]:
        rival = None
    length = float(np.linalg.norm(embedding)) if head.l2 else 1.0
    weight = head.weight.astype(np.float64) / (length or 1.0)

    def spread(from_weight: npt.NDArray[np.float64], from_bias: float, from_logit: float) -> Map:
        shares = np.tensordot(weight[chosen] - from_weight, features.astype(np.float64), 1)
        return Map(
            shares.astype(np.float32),
            float(logits[chosen]) - from_logit,
            float(head.bias[chosen]) - from_bias,
        )

    average = spread(weight.mean(0), float(head.bias.mean()), float(logits.mean()))
    difference = None
    if rival is not None:
        difference = spread(weight[rival], float(head.bias[rival]), float(logits[rival]))

    def ranked(place: int) -> Ranked:  # with a gallery, probabilities are those of all classes
        return Ranked(labels[place], told.get(labels[place], float(values[place])))

    return Evidence(
        ranked(chosen),
        average,
        None if rival is None else ranked(rival),
        difference,
        Image.fromarray(seen),
        verdict,
    )


def overlay(evidence: Evidence) -> Image.Image:
    """Draw the photograph, the map over it, and the map of the difference if there is one."""
    from PIL import Image

    chosen, against = evidence.chosen, evidence.against
    panels = [
        panel(evidence.picture, "what the network saw", evidence.verdict),
        _drawn(evidence, evidence.map, f"{chosen.label[-1]} {chosen.probability:.1%}", "the mean"),
    ]
    if evidence.difference is not None and against is not None:
        title = f"{chosen.label[-1]} against {against.label[-1]} {against.probability:.1%}"
        panels.append(_drawn(evidence, evidence.difference, title, against.label[-1]))
    width = sum(part.width for part in panels) + _GAP * (len(panels) - 1)
    page = Image.new("RGB", (width, panels[0].height), "white")
    for place, part in enumerate(panels):
        page.paste(part, (place * (part.width + _GAP), 0))
    return page


def write_evidence(evidence: Evidence, folder: str | os.PathLike[str], name: str) -> Path:
    """Write ``overlay`` as a JPEG file into ``folder``, whole or not at all.

    Args:
        evidence: what to draw.
        folder: made if it is not there.
        name: of the photograph, with or without a path. The file's name is its beginning and a
            digest of what the network saw: photographs of one name from many folders each have
            their file, and the same photograph has the same one again.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    import hashlib

    digest = hashlib.sha256(evidence.picture.tobytes()).hexdigest()[:12]
    stem = Path(name).stem[:_LONGEST]
    safe = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in stem)
    target = Path(folder) / f"{safe.strip('._') or 'photo'}-{digest}.jpg"
    with atomic_path(target) as beside:
        overlay(evidence).save(beside, "JPEG", quality=80)
    return target


def _finer(geometry: Geometry) -> Geometry:
    """Return the geometry of the same region at a whole multiple of the network's pixels."""
    times = max(1, min(round(_SIDE / geometry.size), 8192 // geometry.short_side))
    return replace(geometry, size=geometry.size * times, short_side=geometry.short_side * times)


def _is_mean(embedding: Floats, features: Floats) -> bool:
    """Say whether an embedding ``(D,)`` is the mean of features ``(K, h, w)``, but for rounding."""
    import numpy as np

    mean = features.mean((1, 2), dtype=np.float64)
    if embedding.shape != mean.shape:
        return False
    return bool(np.linalg.norm(embedding - mean) <= _ROUNDED * np.linalg.norm(mean))


def _index(label: Label | int, labels: tuple[Label, ...]) -> int:
    if isinstance(label, int):
        if not 0 <= label < len(labels):
            raise UsageError(f"class {label}: the model has classes 0 to {len(labels) - 1}")
        return label
    try:
        return labels.index(tuple(label))
    except ValueError:
        raise UsageError(
            f"{'/'.join(label)}: is no class of the model itself, so that it has no evidence map"
        ) from None


def _said(prediction: Prediction, labels: tuple[Label, ...]) -> tuple[Label | None, str]:
    """Return the class to explain and the verdict in words.

    An enrolled class has no weights: the best class of the model itself takes its place, and the
    words say so.
    """
    verdict = prediction.verdict
    words = f"verdict: {'/'.join(verdict.label) or verdict.kind}"
    if verdict.kind == "rejected":
        words = f"verdict: rejected, perhaps {'/'.join(verdict.label)}"
    if prediction.label in labels:
        return prediction.label, words
    return None, f"{words}; {prediction.label[-1]} is enrolled and has no map"


def _drawn(evidence: Evidence, shown: Map, title: str, other: str) -> Image.Image:
    """Return a panel of one map with its scale."""
    limit = float(abs(shown.values).max()) or 1.0
    places, bias = (round(part, 2) + 0.0 for part in (shown.total - shown.bias, shown.bias))
    note = f"logit {shown.total:+.2f} above {other}: places {places:+.2f}, bias {bias:+.2f}"
    return panel(tint(evidence.picture, shown.values, limit), title, note, limit)
