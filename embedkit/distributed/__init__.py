"""Encoding on several machines; each module needs the engine of its name."""
