"""Comparisons with other programs, run by `bench_peers.py`."""
