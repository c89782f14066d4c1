"""What a model says about itself: one JSON document under the ONNX metadata key ``edge_fgr``.

The reader is strict: a key that is unknown, missing or of the wrong type raises
``ContractError``, and so does a schema that is newer than this reader. Standard library only,
so that a device, the trainer and the exporter read the very same rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from edge_fgr.confidence import Confidence
from edge_fgr.errors import ContractError
from edge_fgr.operating import OperatingPoint

__all__ = [
    "METADATA_KEY",
    "SCHEMA",
    "WHOLE",
    "Confidence",
    "Contract",
    "Geometry",
    "Label",
    "OperatingPoint",
    "Provenance",
    "Roi",
    "box_of",
    "build",
    "check_roi",
]

METADATA_KEY = "edge_fgr"
SCHEMA = 4
"""1 had the temperature alone, 2 all of ``Confidence`` but the score ``whitened_cosine``, 3 no
``operating``; all are still read."""

Label = tuple[str, ...]
"""A class as a path from coarse to fine, such as ``("Fruit", "Apple", "Granny-Smith")``."""

Roi = tuple[float, float, float, float]
"""Left, top, right and bottom as shares (0 to 1) of the upright picture's width and height."""

WHOLE: Roi = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """All that turns a file into pixels; carried out by ``edge_fgr.image`` and nobody else.

    Attributes:
        size: side of the square network input, in pixels.
        resize: ``short`` scales the shorter side to ``short_side`` and cuts the centre;
            ``stretch`` scales the whole picture to the square.
        short_side: length of the shorter side after scaling, in pixels; at least ``size``.
        kernel: Pillow's resampling kernel.
        exif: ``upright`` turns the picture as its EXIF orientation says; ``ignore`` does not.
        scaled_decode: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as every side
            keeps at least this many times the pixels that the resize needs; 0 turns it off.
        roi: fixed region of interest, or None for the whole picture.
    """

    size: int
    resize: Literal["short", "stretch"] = "short"
    short_side: int = 0
    kernel: Literal["bicubic", "bilinear", "lanczos", "box"] = "bicubic"
    exif: Literal["upright", "ignore"] = "upright"
    scaled_decode: float = 2.0
    roi: Roi | None = None

    def __post_init__(self) -> None:
        if self.short_side == 0:
            object.__setattr__(self, "short_side", self.size)
        if not 8 <= self.size <= 4096 or not self.size <= self.short_side <= 8192:
            raise ContractError(
                f"geometry: size {self.size} and short_side {self.short_side} do not fit together; "
                "8 <= size <= short_side is needed"
            )
        if self.scaled_decode != 0 and self.scaled_decode < 1:
            raise ContractError("geometry: scaled_decode must be 0 (off) or at least 1")
        if self.roi is not None:
            check_roi(self.roi)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        recipe: name of the training recipe.
        data: what it was trained on, and a digest over the relative paths and contents.
        commit: source commit of the training code.
        licence: licence of the weights.
        notes: attribution and anything a user must know.
        metrics: for each set, measured figures such as ``{"grocery-test": {"int8_top1": 0.9}}``.
    """

    recipe: str = ""
    data: str = ""
    commit: str = ""
    licence: str = ""
    notes: str = ""
    metrics: Mapping[str, Mapping[str, float]] | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """The whole document. ``labels[i]`` names the class of ``logits[:, i]``.

    ``schema`` is that of the document which was read; what is written is always the newest.
    """

    name: str
    version: int
    labels: tuple[Label, ...]
    geometry: Geometry
    target: str = "fp32"
    confidence: Confidence | None = None
    provenance: Provenance = Provenance()
    operating: OperatingPoint | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if not self.name or self.version < 1:
            raise ContractError("contract: a name and a version of at least 1 are needed")
        if not self.labels or not all(path and all(path) for path in self.labels):
            raise ContractError("contract: labels must be non-empty paths of non-empty names")
        if len(set(self.labels)) != len(self.labels):
            raise ContractError("contract: a label stands twice")
        back_off = self.confidence.back_off if self.confidence else None
        deepest = max(map(len, self.labels))
        if back_off and len(back_off.thresholds) != deepest:
            raise ContractError(
                f"confidence.back_off: {deepest} thresholds are needed, one for each level of the "
                f"labels, not {len(back_off.thresholds)}"
            )

        if self.operating and self.operating.label not in self.labels:
            raise ContractError("operating: its label is none of the model's")

    @property
    def temperature(self) -> float:
        """Divisor of the logits before the softmax; 1 until it was fitted."""
        return self.confidence.temperature if self.confidence else 1.0

    def to_json(self) -> str:
        """Return the document as stored in a model: one line, keys in a fixed order, UTF-8."""
        document = asdict(self) | {"schema": SCHEMA}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Read a document strictly.

        Raises:
            ContractError: it is no JSON, is newer than this reader, or breaks a rule.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise ContractError(f"contract: not JSON ({error})") from None
        if not isinstance(raw, dict):
            raise ContractError("contract: not a JSON object")
        schema = raw.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ContractError(
                f"contract: schema {schema} is newer than {SCHEMA}, the newest that this version "
                "of edge-fgr reads; update edge-fgr"
            )
        if schema not in range(1, SCHEMA + 1) or isinstance(schema, bool):
            raise ContractError(f"contract: schema must be 1 to {SCHEMA}, not {schema!r}")
        _refuse_later_keys(raw)
        contract: Contract = build(cls, raw, "contract")
        return contract


def _refuse_later_keys(raw: Mapping[str, Any]) -> None:
    """Raise ContractError when a document holds what only later schemas know."""
    schema = raw["schema"]
    if schema < 4 and "operating" in raw:
        raise ContractError(f"contract: unknown key 'operating' in schema {schema}")
    confidence = raw.get("confidence") if schema == 1 else None
    if isinstance(confidence, Mapping) and (later := sorted(set(confidence) - {"temperature"})):
        raise ContractError(
            f"contract.confidence: unknown key {', '.join(map(repr, later))} in schema 1; "
            "known: temperature"
        )


def check_roi(roi: Roi) -> None:
    """Raise ContractError unless ``roi`` is a region inside the picture with an area above 0."""
    left, top, right, bottom = roi
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ContractError(
            "roi: left < right and top < bottom within 0 to 1 are needed, "
            f"not {','.join(map(str, roi))}"
        )


def box_of(size: tuple[int, int], roi: Roi | None) -> Roi:
    """Return left, top, right and bottom in pixels of a picture of width and height ``size``."""
    width, height = size
    left, top, right, bottom = roi or WHOLE
    return left * width, top * height, right * width, bottom * height


def build(kind: type[Any], raw: Any, where: str) -> Any:
    """Build a frozen dataclass from parsed JSON or TOML, refusing whatever does not fit.

    Args:
        kind: a dataclass whose fields are strings, numbers, booleans, literals, tuples, mappings,
            other dataclasses, or one of these ``| None``.
        raw: the parsed value.
        where: the place in the document, for messages.

    Raises:
        ContractError: an unknown or missing key, or a value of the wrong type.
    """
    if not isinstance(raw, Mapping):
        raise ContractError(f"{where}: an object is needed")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(raw) - set(known)):
        raise ContractError(
            f"{where}: unknown key {', '.join(map(repr, unknown))}; known: {', '.join(known)}"
        )
    missing = [
        name
        for name, field in known.items()
        if name not in raw and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ContractError(f"{where}: missing key {', '.join(map(repr, missing))}")
    return kind(**{name: _value(hints[name], raw[name], f"{where}.{name}") for name in raw})


def _value(hint: Any, raw: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if raw is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _value(inner, raw, where)
    if origin is Literal:
        if raw not in arguments:
            raise ContractError(f"{where}: {raw!r} is none of {', '.join(map(repr, arguments))}")
        return raw
    if origin is tuple:
        if not isinstance(raw, list | tuple):
            raise ContractError(f"{where}: a list is needed")
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(raw)
        if len(arguments) != len(raw):
            raise ContractError(f"{where}: {len(arguments)} values are needed, not {len(raw)}")
        return tuple(
            _value(inner, value, f"{where}[{i}]")
            for i, (inner, value) in enumerate(zip(arguments, raw, strict=True))
        )
    if origin is not None:  # Mapping[str, X]
        if not isinstance(raw, Mapping):
            raise ContractError(f"{where}: an object is needed")
        return {
            str(key): _value(arguments[1], value, f"{where}.{key}") for key, value in raw.items()
        }
    if hasattr(hint, "__dataclass_fields__"):
        return build(hint, raw, where)
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        try:
            return float(raw)
        except OverflowError:
            raise ContractError(f"{where}: the number is too large") from None
    if not isinstance(raw, hint) or (isinstance(raw, bool) and hint is not bool):
        wanted = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
        raise ContractError(f"{where}: {wanted[hint]} is needed, not {raw!r}")
    return raw
