"""Nearest neighbours among vectors: an index with FAISS and BM25, its search and its changes."""
