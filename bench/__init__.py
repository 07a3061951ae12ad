"""Benchmarks: pglisten beside other ways to receive notifications. ``python -m bench`` runs them."""
