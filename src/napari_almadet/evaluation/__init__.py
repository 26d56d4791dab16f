"""How detection is measured: one-to-one matching, completeness, purity, IoU."""
