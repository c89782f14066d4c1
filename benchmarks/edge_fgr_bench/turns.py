"""Candidates in turn: each in a process of its own, in short blocks, in an order that changes.

What else the machine does then meets all of them alike. Whatever was measured is kept when one of
them fails, or when the run is stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from edge_fgr.contract import build
from edge_fgr.errors import EdgeFgrError
from edge_fgr.limits import limits
from edge_fgr.parallel import cores
from edge_fgr.progress import one_line, progress
from edge_fgr_bench.candidates import Plan
from edge_fgr_bench.cold import timed
from edge_fgr_bench.document import Candidate, Settings
from edge_fgr_bench.noise import noise_of
from edge_fgr_bench.samples import PHASES, Block, Latency

__all__ = ["Turns"]

_BLOCK = 64
"""Queries of one turn: short enough that a disturbance meets all candidates."""

_LOADS = 5
_RATES, _RATE_SECONDS = 3, 2.0
_WARM_QUERIES, _WARM_SECONDS = 64, 1.0


class Turns:
    """Measures the latency of candidates.

    Args:
        plans: the candidates.
        images: files; queries go round them.
        settings: how much.
    """

    def __init__(self, plans: Sequence[Plan], images: Sequence[str], settings: Settings) -> None:
        self._plans, self._images, self._settings = plans, images, settings
        self._found = {plan.key: Latency(plan.key) for plan in plans}
        self._us: dict[str, dict[str, list[int]]] = {
            plan.key: {phase: [] for phase in PHASES} for plan in plans
        }
        self.candidates: list[Candidate] = []

    def found(self) -> tuple[Latency, ...]:
        """Return what is known so far."""
        return tuple(self._complete(one) for one in self._found.values())

    def run(self) -> None:
        """Measure everything; a candidate that fails in the middle is left out from there on.

        Raises:
            EdgeFgrError: a candidate cannot even be opened.
        """
        children: dict[str, _Child] = {}
        try:
            for plan in self._plans:
                children[plan.key] = child = _Child()
                self._introduce(plan, child)
            self._cold()
            # Each file is opened once before: what is kept of it is there for all.
            self._each(children, {"do": "load", "times": 1}, _ignore)
            self._each(children, {"do": "load", "times": _LOADS}, self._take_load)
            self._warm(children)
            rate = {"do": "rate", "seconds": min(_RATE_SECONDS, self._settings.seconds)}
            for _ in range(_RATES):
                self._each(children, rate, self._take_rate)
            self._each(children, {"do": "end"}, self._take_end)
        finally:
            for child in children.values():
                child.close()

    def _introduce(self, plan: Plan, child: _Child) -> None:
        usable, count = _processors(), self._settings.threads
        opening = {
            "plan": asdict(plan),
            "threads": count,
            "all": usable,
            "pin": usable[-count:],
            "images": self._images,
        }
        answer = child.ask(opening)
        self.candidates.append(build(Candidate, answer["candidate"], "candidate"))
        self._keep(plan.key, pinned=tuple(answer["pinned"]), overhead_us=answer["overhead_us"])

    def _cold(self) -> None:
        """Time whole processes in turn; the first of each, which fills caches, is not counted."""
        runs = self._settings.cold_runs
        if not runs:
            return
        with progress((runs + 1) * len(self._plans), "bench: cold starts") as advance:
            for number in range(runs + 1):
                for plan in self._plans:
                    self._cold_start(plan, counted=number > 0)
                    advance(1, "")

    def _cold_start(self, plan: Plan, *, counted: bool) -> None:
        if self._found[plan.key].error:
            return
        command = [sys.executable, "-m", "edge_fgr", "classify", self._images[0]]
        command += ["-m", plan.model, "--device", plan.device]
        for key, value in plan.options.items():
            command += ["--device-option", f"{key}={value}"]
        command += ["--threads", str(self._settings.threads)]
        try:
            wall, kib = timed(command)
        except subprocess.CalledProcessError as error:
            self._fail(plan.key, f"edge-fgr classify ended with exit code {error.returncode}")
            return
        if counted:
            one = self._found[plan.key]
            self._keep(
                plan.key,
                cold_ms=(*one.cold_ms, round(wall * 1e3, 3)),
                cold_kib=(*one.cold_kib, kib),
            )

    def _warm(self, children: Mapping[str, _Child]) -> None:
        """Take turns until each has answered enough queries for long enough."""
        warm = {"do": "warm_up", "queries": _WARM_QUERIES, "seconds": _WARM_SECONDS}
        self._each(children, warm, _ignore)
        random = np.random.default_rng(self._settings.seed)
        total = self._settings.queries * len(children)
        with progress(total, "bench: queries") as advance:
            while waiting := [key for key in children if self._wants_more(key)]:
                for key in random.permutation(waiting).tolist():
                    request = {"do": "block", "queries": _BLOCK}
                    self._each({key: children[key]}, request, self._take_block)
                    advance(_BLOCK, "")

    def _wants_more(self, key: str) -> bool:
        one, asked = self._found[key], self._settings
        answered = sum(block.queries for block in one.blocks)
        seconds = sum(block.seconds for block in one.blocks)
        return not one.error and (answered < asked.queries or seconds < asked.seconds)

    def _each(
        self,
        children: Mapping[str, _Child],
        request: Mapping[str, Any],
        take: Callable[[str, dict[str, Any]], None],
    ) -> None:
        for key, child in children.items():
            if not self._found[key].error:
                try:
                    take(key, child.ask(request))
                except EdgeFgrError as error:
                    self._fail(key, str(error))

    def _take_load(self, key: str, answer: dict[str, Any]) -> None:
        self._keep(key, load_ms=tuple(answer["ms"]))

    def _take_block(self, key: str, answer: dict[str, Any]) -> None:
        for phase, samples in answer["us"].items():
            self._us[key][phase] += samples
        self._keep(key, blocks=(*self._found[key].blocks, Block(**answer["block"])))

    def _take_rate(self, key: str, answer: dict[str, Any]) -> None:
        rates = (*self._found[key].images_per_s, answer["images_per_s"])
        self._keep(key, images_per_s=rates, workers=cores())

    def _take_end(self, key: str, answer: dict[str, Any]) -> None:
        self._keep(key, peak_kib=answer["peak_kib"])

    def _fail(self, key: str, sentence: str) -> None:
        self._keep(key, error=one_line(sentence))

    def _keep(self, key: str, **values: Any) -> None:
        self._found[key] = replace(self._found[key], **values)

    def _complete(self, one: Latency) -> Latency:
        us = self._us[one.key]
        if not us["whole"]:
            return one
        device = next((c.device for c in self.candidates if c.key == one.key), "")
        alone = device == "cpu" and self._settings.threads == 1
        return replace(
            one,
            us={phase: tuple(samples) for phase, samples in us.items()},
            noise=noise_of(one.blocks, us, alone=alone),
        )


class _Child:
    """A process of ``edge_fgr_bench.stream_child``."""

    def __init__(self) -> None:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # as edge-fgr classify has it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_fgr_bench.stream_child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer.

        Raises:
            EdgeFgrError: the process says that it failed, or is gone.
        """
        assert self._process.stdin and self._process.stdout  # noqa: S101  typing only
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise EdgeFgrError(f"the process that answers queries ended ({self._end()})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            problem = EdgeFgrError(answer["error"])
            problem.exit_code = answer["exit_code"]
            raise problem
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()

    def _end(self) -> str:
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _ignore(_key: str, _answer: dict[str, Any]) -> None:
    """Take nothing of an answer."""


def _processors() -> list[int]:
    try:
        usable = sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(limits().usable))
    return usable
