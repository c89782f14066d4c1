"""edge-fgr on the device: one ``.onnx`` file, an image in, a fine-grained label out.

    >>> from edge_fgr import Classifier
    >>> clf = Classifier.load()
    >>> clf("cam.jpg").label
    ('Fruit', 'Apple', 'Granny-Smith')

Names are imported when they are first used: ``import edge_fgr`` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_fgr.classifier import Classifier
    from edge_fgr.contract import Contract, Geometry, Label
    from edge_fgr.errors import EdgeFgrError
    from edge_fgr.prediction import (
        Gate,
        LabelSet,
        ModelId,
        Prediction,
        Ranked,
        Timings,
        UnknownScore,
        Verdict,
    )

__all__ = [
    "Classifier",
    "Contract",
    "EdgeFgrError",
    "Gate",
    "Geometry",
    "Label",
    "LabelSet",
    "ModelId",
    "Prediction",
    "Ranked",
    "Timings",
    "UnknownScore",
    "Verdict",
    "__version__",
]

_HOMES = {
    "Classifier": "classifier",
    "Contract": "contract",
    "EdgeFgrError": "errors",
    "Gate": "prediction",
    "Geometry": "contract",
    "Label": "contract",
    "LabelSet": "prediction",
    "ModelId": "prediction",
    "Prediction": "prediction",
    "Ranked": "prediction",
    "Timings": "prediction",
    "UnknownScore": "prediction",
    "Verdict": "prediction",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("edge-fgr")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"edge_fgr.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
