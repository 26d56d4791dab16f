"""Evaluation of detections: one-to-one matching, completeness, purity, IoU."""
