"""Training, on the loops of transformers and sentence-transformers."""
