"""What all peers share: classify one photo and end, or answer questions until stdin ends.

    PYTHON peer_NAME.py SPEC.json once PHOTO     prints the number of the label
    PYTHON peer_NAME.py SPEC.json serve          one line of JSON in, one line of JSON out

The first line of ``serve``, before any question, is ``{"threads": "1"}``. Questions:

    {"do": "warm", "paths": [...]}    {"ms": [...], "labels": [...]}   one image after the other
    {"do": "folder", "paths": [...]}  {"s": 1.5, "labels": [...]}      all of them, on all cores
    {"do": "memory"}                  {"kib": 81234}                   VmHWM: peak resident memory

Standard library only, and little of it: it counts in the time of a cold start.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import IO, Any, NamedTuple, Protocol

__all__ = ["Peer", "Spec", "run"]


class Spec(NamedTuple):
    """What every peer is told, in the words of the model's contract.

    Attributes:
        model: the ``.onnx`` file: uint8 ``pixels`` ``(N, size, size, 3)`` to ``logits``.
        feedable: the same graph with a float input ``(N, 3, size, size)``, or None.
        tflite: the ``.tflite`` file, or None.
        network: timm's name of the fp32 network.
        labels: names of the classes, in the order of the logits.
        size, short_side, resize, kernel, exif, roi: as in ``edge_fgr.contract.Geometry``.
        cores: how many processors may be used.
        scratch: folder for whatever a peer wants to keep between two starts.
    """

    model: str
    feedable: str | None
    tflite: str | None
    network: str
    labels: list[str]
    size: int
    short_side: int
    resize: str
    kernel: str
    exif: str
    roi: list[float] | None
    cores: int
    scratch: str


class Peer(Protocol):
    """One way to run the classifier.

    Attributes:
        threads: how many one image is given: ``1``, or a word where it cannot be told.
    """

    threads: str

    def classify(self, path: str) -> int | None:
        """Return the label of one image file; None where labels mean nothing."""
        ...

    def folder(self, paths: Sequence[str]) -> list[int | None]:
        """Return the labels of many, in order, with all cores."""
        ...


def run(opened: Callable[[Spec], Peer]) -> None:
    """Do what the command line says with the peer that ``opened`` makes."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - pathlib is a slow import
        spec = Spec(**json.load(file))
    if sys.argv[2] == "once":
        print(opened(spec).classify(sys.argv[3]))
        return
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # some libraries print: that must not be taken for an answer
    peer = opened(spec)
    _say(answers, {"threads": peer.threads})
    for line in sys.stdin:
        _say(answers, _answer(peer, json.loads(line)))


def _answer(peer: Peer, question: dict[str, Any]) -> dict[str, Any]:
    if question["do"] == "warm":
        took, labels = [], []
        for path in question["paths"]:
            start = perf_counter()
            labels.append(peer.classify(path))
            took.append((perf_counter() - start) * 1e3)
        return {"ms": took, "labels": labels}
    if question["do"] == "folder":
        start = perf_counter()
        found = peer.folder(question["paths"])
        return {"s": perf_counter() - start, "labels": found}
    return {"kib": _peak()}


def _peak() -> int | None:
    """Return the most memory that was resident, in KiB; None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:  # noqa: PTH123
            return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    except OSError:
        return None


def _say(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
