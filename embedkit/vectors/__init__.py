"""Embeddings of a corpus on disk: shards that a killed run takes up again."""
