"""A log of entries in the database."""
