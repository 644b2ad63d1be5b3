"""The version of embedkit."""

__version__ = "0.1.0"
