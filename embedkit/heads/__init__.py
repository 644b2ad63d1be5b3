"""Heads: from two sentence vectors to a score on the labels' scale."""
