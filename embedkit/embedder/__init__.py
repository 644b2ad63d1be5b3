"""Load a model, encode texts with it, save it."""
