"""Data sets that come with embedkit; README.md beside this file says what they are."""

from __future__ import annotations

from pathlib import Path

# first_look_en and first_look_ko are its subsets en and ko.
SHIPPED = dict.fromkeys(
    ("first_look", "first_look_en", "first_look_ko"), Path(__file__).with_name("first_look.tsv")
)
