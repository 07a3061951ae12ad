"""Servers that the tests start or imitate, and connections of the tests' own to them."""
