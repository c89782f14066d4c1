"""Measurements that stand in docs/benchmarks.md. Run: ``python -m edge_fgr_bench``."""
