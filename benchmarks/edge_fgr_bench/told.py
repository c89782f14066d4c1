"""What the command lines of all benches share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from edge_fgr.errors import EdgeFgrError
from edge_fgr.progress import say

__all__ = ["parser_of", "told"]

P = ParamSpec("P")


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a module's description as it stands."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def told(main: Callable[P, int]) -> Callable[P, int]:
    """Let a failure that can be expected be one line on stderr, and its exit code the result."""

    @wraps(main)
    def run(*arguments: P.args, **named: P.kwargs) -> int:
        try:
            return main(*arguments, **named)
        except EdgeFgrError as error:
            say(str(error))
            return error.exit_code

    return run
