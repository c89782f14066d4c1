"""Where the command line starts, and how it ends: one line on stderr, a documented exit code."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn

from edge_fgr.errors import EdgeFgrError, OutputError
from edge_fgr.options import parse
from edge_fgr.progress import one_line, say

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line; the process ends here with a documented exit code."""
    debug = "--debug" in sys.argv[1:2]
    if not debug:  # libraries warn about EXIF and the like; our own lines say what matters
        warnings.simplefilter("ignore")
        if sys.argv[1:2] == ["classify"]:
            _mute_native_libraries()
    for stream in (sys.stdout, sys.stderr):
        # Names that are not valid UTF-8 come out as escapes, which JSON reads.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    plain = parse(sys.argv[1:])
    try:
        code = _run(plain)
        sys.stdout.flush()
    except EdgeFgrError as error:
        if debug:
            raise
        say(f"edge-fgr: {one_line(error)}")
        code = error.exit_code
    except KeyboardInterrupt:
        say("edge-fgr: interrupted")
        code = 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if debug:
            raise
        say(f"edge-fgr: output cannot be written ({error.strerror or error})")
        code = OutputError.exit_code
    except Exception as error:
        if debug:
            raise
        cause = one_line(error) or type(error).__name__
        say(f"edge-fgr: a bug ({cause}); please report it with the output of edge-fgr --debug")
        code = EdgeFgrError.exit_code
    if plain is not None:
        # All is written and no exit handler is ours: taking the interpreter apart piece by piece
        # would be a tenth of the time that one photo takes.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run(plain: dict[str, Any] | None) -> int:
    if plain is not None:
        # numpy's BLAS would start a thread for each processor, which spins: a fifth of a start, and
        # nothing here multiplies large matrices.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from edge_fgr.classify_command import classify

        classify(**plain)
        return 0
    from edge_fgr.cli import run

    return run()


def _mute_native_libraries() -> None:
    """Keep descriptor 2, which libtiff and others print to, off the terminal; ours is a copy."""
    try:
        own, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
    except OSError:  # started without a stderr
        return
    sys.stderr = open(own, "w", 1, encoding="utf-8", errors="backslashreplace")  # noqa: PTH123, SIM115
