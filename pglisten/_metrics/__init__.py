"""Figures for Prometheus: what they are, and who writes them."""
