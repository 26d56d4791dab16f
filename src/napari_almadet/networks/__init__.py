"""The six networks, two of the paper and four of the default preset, and their weights."""
