"""Who is compared: each peer's script, its environment, and what it needs beside the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["OURS", "PEERS", "Peer"]

_HERE = Path(__file__).parent

OURS = "edge-fgr"
"""The peer that the others are compared with."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run the classifier.

    Attributes:
        name: as in the tables.
        environment: folder of its virtual environment, and its requirements file.
        script: in this folder.
        labels: whether its labels mean anything: a network with random weights has none.
        tflite: whether it runs a ``.tflite``.
    """

    name: str
    environment: str
    script: str
    labels: bool = True
    tflite: bool = False

    def python(self, environments: Path) -> Path:
        """Return its interpreter."""
        return environments.absolute() / self.environment / "bin" / "python"

    def serve(self, environments: Path, spec: Path) -> list[str]:
        """Return the command of a process that answers questions (``harness``)."""
        return [str(self.python(environments)), str(_HERE / self.script), str(spec), "serve"]

    def once(self, environments: Path, spec: Path, model: Path, photo: Path) -> list[str]:
        """Return the command that classifies one photo: ours is the command line that ships."""
        python = self.python(environments)
        if self.name == OURS:
            return [str(python.with_name("edge-fgr")), "classify", str(photo), "-m", str(model)]
        return [str(python), str(_HERE / self.script), str(spec), "once", str(photo)]


PEERS = (
    Peer(OURS, "edge-fgr", "peer_edge_fgr.py"),
    Peer("bare onnxruntime", "bare", "peer_bare.py"),
    Peer("OpenVINO", "openvino", "peer_openvino.py"),
    Peer("LiteRT", "litert", "peer_litert.py", tflite=True),
    Peer("PyTorch eager", "torch", "peer_torch.py", labels=False),
    Peer("PyTorch compiled", "torch", "peer_compiled.py", labels=False),
    Peer("Ultralytics", "ultralytics", "peer_ultralytics.py"),
)
"""In the order of the tables."""
