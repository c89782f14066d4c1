"""What a model's file says beside its graph."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.errors import ModelError
from edge_fgr.familiar import FAMILIAR_KEY
from edge_fgr.head import HEAD_KEY, head_to_json
from edge_fgr_export.head_document import head_in

__all__ = ["restamp", "stamp"]


def stamp(model: onnx.ModelProto, contract: Contract, familiar: str | None = None) -> bytes:
    """Return the model's bytes with ``contract`` and head as metadata; equal input, equal bytes.

    A head that is not linear is not written: the model then has no evidence maps and learns no
    class. ``familiar`` is the document of ``edge_fgr.familiar``, or empty for none; None: what the
    model carries.
    """
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    carried = {entry.key: entry.value for entry in model.metadata_props}
    document = carried.get(FAMILIAR_KEY) if familiar is None else familiar
    beside = {FAMILIAR_KEY: document} if document else {}
    props = {METADATA_KEY: contract.to_json()} | _head_of(model) | beside
    helper.set_model_props(stamped, props)
    return bytes(stamped.SerializeToString(deterministic=True))


def restamp(path: Path, contract: Contract) -> bytes:
    """Return the bytes of an exported model with another contract; all else stays as it is."""
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = contract.to_json()
    return bytes(model.SerializeToString(deterministic=True))


def _head_of(model: onnx.ModelProto) -> dict[str, str]:
    try:
        return {HEAD_KEY: head_to_json(head_in(model))}
    except ModelError:
        return {}
