"""Search among stored vectors with FAISS."""
