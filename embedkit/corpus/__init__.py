"""Texts on disk and their vectors on disk."""
