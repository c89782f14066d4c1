"""A peer's process that stays: a line of JSON is asked, a line of JSON is answered."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge_fgr.errors import UnavailableError
from edge_fgr.progress import one_line

__all__ = ["Child", "last_words"]

_LIMIT_S = 600.0
"""Longest wait for an answer: compiling a network takes minutes on a small machine."""

_WORDS = 200
"""Characters of a failure that are shown."""


class Child:
    """One peer. Its stderr goes to a file, whose last line says why it failed."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start it; ``log`` is written.

        Raises:
            UnavailableError: it cannot be started, or fails before its first line.
        """
        self._log = log
        with log.open("wb") as errors:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    encoding="utf-8",
                )
            except OSError as error:
                raise UnavailableError(f"cannot be run ({error.strerror})") from None
        try:
            self.threads: str = self._answer()["threads"]
        except BaseException:
            self.close()
            raise

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Return the answer to one question of ``harness``.

        Raises:
            UnavailableError: the process ended, or does not answer.
        """
        assert self._process.stdin is not None  # noqa: S101 - for mypy
        try:
            self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise UnavailableError(self._why()) from None
        return self._answer()

    def close(self) -> None:
        """End the process: politely, then not."""
        assert self._process.stdin is not None  # noqa: S101 - for mypy
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - for mypy
        ready, _, _ = select.select([self._process.stdout], [], [], _LIMIT_S)
        if not ready:
            self._process.kill()
            raise UnavailableError(f"no answer in {_LIMIT_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise UnavailableError(self._why())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _why(self) -> str:
        return last_words(self._log.read_text(encoding="utf-8", errors="replace"))


def last_words(text: str) -> str:
    """Return the last line of what a failed process wrote, which in Python is the error."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1])[:_WORDS] if lines else "it ended without a word"
