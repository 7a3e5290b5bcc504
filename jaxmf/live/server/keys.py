"""Who may ask and who may tell: keys, of which only a hash is kept."""

import hashlib
import hmac
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SCOPES = ("read", "write")


class Key(NamedTuple):
    """One who has a key.

    Attributes:
        name: Who.
        scopes: What they may do.
        hash: SHA-256 of the key, in hex: of 256 random bits, so that a slow hash would hide nothing more.
    """

    name: str
    scopes: frozenset[str]
    hash: str


class Keys:
    """The keys of a file, a line each: a name, scopes with commas between, the hash; `#` begins a comment.

    Example:
        >>> key, line = made("ann", ["read"])
        >>> Keys([line]).holder(key).name, Keys([line]).holder("guess")
        ('ann', None)
    """

    def __init__(self, lines: Sequence[str]) -> None:
        """Of a file's lines.

        Raises:
            ValueError: With the number of the line that is none.
        """
        self._known = [_key(at, line) for at, line in enumerate(lines, 1) if line.split("#")[0].strip()]
        if not self._known:
            raise ValueError(f"there is no key: make one by `python -m {__name__} NAME read,write`")

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Keys":
        """Those of a file.

        Raises:
            ValueError: If it can't be read, or a line is no key's.
        """
        try:
            return cls(Path(path).read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError) as error:
            raise ValueError(f"keys {path}: {error}") from error

    def holder(self, key: str) -> Key | None:
        """Whose key it is; the time that it takes tells nothing of the keys."""
        given, found = _hash(key), None
        for known in self._known:
            if hmac.compare_digest(known.hash, given):
                found = known
        return found


def made(name: str, scopes: Sequence[str]) -> tuple[str, str]:
    """A new key, and its line for the file."""
    key = secrets.token_urlsafe(32)
    line = f"{name} {','.join(scopes)} {_hash(key)}"
    _key(1, line)
    return key, line


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _key(at: int, line: str) -> Key:
    parts = line.split("#")[0].split()
    scopes = set(parts[1].split(",")) if len(parts) == 3 else set()
    if not (scopes and scopes <= set(SCOPES) and re.fullmatch("[0-9a-f]{64}", parts[2])):
        raise ValueError(f"line {at} is no key's: a name, scopes of {','.join(SCOPES)}, and 64 hexadecimal digits")
    return Key(parts[0], frozenset(scopes), parts[2])


def main(name: str, scopes: str = "read") -> None:
    """Write a new key to the standard error, and its line to the standard output."""
    key, line = made(name, scopes.split(","))
    sys.stderr.write(f"the key, which is kept nowhere: {key}\n")
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
