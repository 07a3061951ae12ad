"""``pglisten doctor`` finds out why notifications do not arrive."""
