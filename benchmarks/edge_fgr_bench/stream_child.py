"""A process of its own for one model on one device: answers a line of JSON with a line of JSON.

    python -m edge_fgr_bench.stream_child < requests

The first request says what to open: ``plan`` (of ``edge_fgr_bench.candidates``), ``threads``,
``images``, and the processors to ``pin`` to of ``all`` that there are. Then
``{"do": "load" | "warm_up" | "block" | "rate" | "end", …}``. An answer holds what was asked for, or
``error`` with the sentence and ``exit_code``. A provider that takes the process down takes nothing
else with it.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from edge_fgr.classifier import Classifier
from edge_fgr.errors import EdgeFgrError
from edge_fgr.progress import one_line
from edge_fgr.sessions import Opened, open_session
from edge_fgr_bench import machine
from edge_fgr_bench.candidates import Plan, describe
from edge_fgr_bench.single_stream import Stream, overhead_us

__all__ = ["answers"]


def answers(requests: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield an answer to each request.

    Raises:
        EdgeFgrError: the model cannot be opened, an image cannot be read, inference failed.
    """
    opening = next(requests)
    everything = machine.pin(opening["all"])
    pinned = machine.pin(opening["pin"])
    opened = _open(opening)
    classifier = Classifier.of(opened)
    stream = Stream(classifier, opening["images"])
    yield {
        "candidate": asdict(describe(Plan(**opening["plan"]), opened, classifier.contract)),
        "pinned": pinned if pinned == tuple(sorted(opening["pin"])) else (),
        "overhead_us": round(overhead_us(), 3),
    }
    for request in requests:
        match request["do"]:
            case "load":
                yield {"ms": [round(_load_ms(opening), 3) for _ in range(request["times"])]}
            case "warm_up":
                stream.warm_up(request["queries"], request["seconds"])
                yield {}
            case "block":
                times, block = stream.block(request["queries"])
                yield {"us": times, "block": asdict(block)}
            case "rate":
                machine.pin(everything)
                yield {"images_per_s": round(stream.rate(request["seconds"]), 2)}
                machine.pin(pinned)
            case "end":
                yield {"peak_kib": machine.peak_kib()}
                return


def _open(opening: dict[str, Any]) -> Opened:
    plan = Plan(**opening["plan"])
    return open_session(
        plan.model,
        device=plan.device,
        device_options=plan.options or None,
        threads=opening["threads"],
        cache=True,
    )


def _load_ms(opening: dict[str, Any]) -> float:
    start = time.perf_counter()
    Classifier.of(_open(opening))
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Answer until the requests end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks; that one ends this one
    own = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    try:
        for answer in answers(map(json.loads, iter(sys.stdin.readline, ""))):
            own.write(json.dumps(answer) + "\n")
            own.flush()
    except EdgeFgrError as error:
        own.write(json.dumps({"error": one_line(error), "exit_code": error.exit_code}) + "\n")


if __name__ == "__main__":
    main()
