"""The five networks, two of the paper and three of the default preset, and their weights."""
