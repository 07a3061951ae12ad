"""Keeping a connection alive: the supervisor, its states and its settings."""
