"""Files to texts, sentence pairs and retrieval sets."""
