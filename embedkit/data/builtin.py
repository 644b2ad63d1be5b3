"""Data sets that come with embedkit; README.md beside this file says what they are."""

from __future__ import annotations

from pathlib import Path

SHIPPED = {"first_look": Path(__file__).with_name("first_look.tsv")}
