"""Sentence embeddings: a unit vector for each conversation."""
