"""Ours beside the peers, measured: one command each, `python -m bench.NAME`."""
