"""Cross-encoders: one encoder reads both sentences of a pair at once and gives their score."""
