"""Data sets: records, protocols and splits, batches."""
