"""Signals that are noted, so that what is in hand is finished before the process ends."""

from __future__ import annotations

import signal

__all__ = ["noted"]


def noted(*numbers: signal.Signals) -> list[int]:
    """Return a list that the signals are noted in; a second one does what it does by itself.

    Only a list grows in the handler: no lock, which who was interrupted might hold.
    """
    heard: list[int] = []
    usual = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _frame: object) -> None:
        heard.append(number)
        for each, handler in usual.items():
            signal.signal(each, handler)

    for number in numbers:
        signal.signal(number, note)
    return heard
