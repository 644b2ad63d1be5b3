"""Shard I/N of a corpus: the documents that one of N machines encodes."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from embedkit.embedder.precision import check_not_auto
from embedkit.errors import InputError


class Input(NamedTuple):
    """The whole input that a shard is of."""

    rows: int
    sha256: str  # of a line of JSON a row, [id, text], in the order of the rows


class CorpusShard(NamedTuple):
    """Shard `part` of `parts`: the documents whose ids hash to it.

    The hash is BLAKE2b of 8 bytes, of the id in UTF-8; a whole number is hashed as its digits.
    """

    part: int  # from 1
    parts: int

    @classmethod
    def parse(cls, value: object) -> CorpusShard:
        """From `"2/16"` or `(2, 16)`; InputError where it is no shard."""
        numbers = value
        if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)):
            numbers = tuple(map(int, match.groups()))
        if isinstance(numbers, tuple | list) and [type(x) for x in numbers] == [int, int]:
            shard = cls(*numbers)
            if 1 <= shard.part <= shard.parts:
                return shard
        raise InputError(f"shard is {value!r}; expected I/N such as 2/16, with I from 1 to N")

    def __str__(self) -> str:
        return f"{self.part}/{self.parts}"

    def has(self, name: str | int) -> bool:
        """Whether the document of this id is of the shard."""
        digest = hashlib.blake2b(str(name).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.parts == self.part - 1


def check_shard(shard: object, precision: str) -> CorpusShard | None:
    """The shard, if there is one; a precision that each machine chooses anew is refused with it."""
    if shard is None:
        return None
    parsed = CorpusShard.parse(shard)
    check_not_auto(precision)
    return parsed
