"""One listener for many subscriptions."""
