"""What a model is made for: types, rules and what they were tried on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_fgr.errors import UsageError

__all__ = ["TARGETS", "Target", "target_of"]


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of file that ``edge-fgr export`` writes.

    Attributes:
        name: as given on the command line and in the contract.
        kind: ``int8`` is a QDQ graph; ``litert`` is one whose integers stand in a ``.tflite``.
        pair_safe: dense weights are free of pair saturation; see ``weights``.
        tied: tensors along a residual chain share a scale; see ``groups``.
        symmetric: activations are int8 around 0, the only form that TensorRT takes; else uint8.
        suits: which execution provider or processor it is for.
    """

    name: str
    kind: Literal["int8", "fp16", "fp32", "litert"]
    pair_safe: bool = False
    tied: bool = False
    symmetric: bool = False
    suits: str = ""

    @property
    def suffix(self) -> str:
        """What the file's name ends in."""
        return ".tflite" if self.kind == "litert" else ".onnx"


TARGETS = {
    target.name: target
    for target in (
        Target("portable", "int8", pair_safe=True, tied=True, suits="any CPU, the same bits"),
        Target("x86-vnni", "int8", suits="CPU provider on x86-64 with VNNI"),
        Target("arm64", "int8", suits="CPU provider on ARM64"),
        Target("openvino", "int8", suits="OpenVINO"),
        Target("tensorrt", "int8", symmetric=True, suits="TensorRT"),
        Target("fp16", "fp16", suits="CUDA"),
        Target("fp32", "fp32", suits="any provider"),
        Target("litert", "litert", pair_safe=True, tied=True, suits="LiteRT"),
    )
}
"""All targets by name; docs/targets.md has what was tried where."""


def target_of(name: str) -> Target:
    """Return a target by name.

    Raises:
        UsageError: there is no such target.
    """
    if name not in TARGETS:
        raise UsageError(f"--target {name}: is none of {', '.join(TARGETS)}")
    return TARGETS[name]
