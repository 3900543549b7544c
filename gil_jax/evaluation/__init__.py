"""Evaluation: embeddings of a split, ranking, the report."""
