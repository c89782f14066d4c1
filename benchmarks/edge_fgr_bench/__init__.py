"""Measurements that stand in docs/figures.md. Run: ``python -m edge_fgr_bench``."""
