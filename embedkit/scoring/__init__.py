"""Sentence pairs to scores: regression heads and cross-encoders."""
