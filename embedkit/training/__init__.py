"""Fine-tuning: cross-encoders, bi-encoders, masked language models."""
