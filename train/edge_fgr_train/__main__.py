"""``python -m edge_fgr_train``: ``edge-fgr train`` under a name that torchrun can start."""

import sys

from edge_fgr.start import main

__all__ = ["main"]

if __name__ == "__main__":
    # --debug belongs before the command.
    sys.argv.insert(2 if sys.argv[1:2] == ["--debug"] else 1, "train")
    main()
