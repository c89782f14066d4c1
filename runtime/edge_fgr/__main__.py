"""``edge-fgr`` and ``python -m edge_fgr``: the command line."""

import gc

# Nothing that imports build is garbage; looking for some costs 8 ms of a cold start. The command
# line turns it on again before long work.
gc.disable()

from edge_fgr.start import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
