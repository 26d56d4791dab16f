"""The two networks and their weights."""
