"""Recipes: their grammar, their steps, and fitting them on texts."""
