"""``python -m edge_fgr`` is the command line."""

from edge_fgr.cli import main

main()
