# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thing on the host that several guests share, and what each guest wants it to be. Types and JSON.

kinds/claims.py works out from this what the thing should be.
"""

from __future__ import annotations

from libhook.errors import BadInput, TooNew
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FORMAT = 1
_LENGTH_OF_UUID = 36
_LONGEST, _LENGTH_OF_HASH = 200, 32

Value = str | None
"""The value of a shared thing. None: the thing does not exist."""


class Shared(NamedTuple):
    """The content of the file of one shared thing."""

    resource: str
    """The thing's name."""
    boot: str
    """The kernel's boot id, as in a guest's journal entry."""
    base: Value
    """The value before the first claim."""
    last: Value
    """The value that libhook saw last."""
    wants: Mapping[str, str]
    """What each guest wants, by the guest's UUID."""
    intent: tuple[Value, str] | None = None
    """A write that was begun: the value before, and the value to be written."""

    def to_json(self) -> dict[str, Any]:
        """The content as plain data."""
        return {
            "format": FORMAT,
            "resource": self.resource,
            "boot": self.boot,
            "base": self.base,
            "last": self.last,
            "claims": dict(self.wants),
            "intent": list(self.intent) if self.intent else None,
        }

    @classmethod
    def from_json(cls, value: object) -> Shared:
        """Read the file field by field.

        BadInput where anything is not as ``to_json`` writes it. TooNew where a later version wrote it.
        """
        match value:
            case {"format": int(written)} if written > FORMAT:
                raise TooNew(f"in format {written}; this version reads {FORMAT}")
            case {
                "format": int(),
                "resource": str(resource),
                "boot": str(boot),
                "base": str() | None as base,
                "last": str() | None as last,
                "claims": dict(wants),
                "intent": None | [str() | None, str()] as intent,
            } if all(_is_claim(*claim) for claim in wants.items()):
                return cls(resource, boot, base, last, wants, None if intent is None else (intent[0], intent[1]))
        raise BadInput("it does not hold the claims to a shared thing")


def file_name(name: str) -> str:
    """``name`` as a safe file name. Every byte but ASCII letters, digits, ``_`` and ``-`` becomes like ``%2E``.

    So there is no dot and no slash, and two names never give the same file. A long name ends in ``%%``, which no other
    has, and its hash: a unit's name may have 255 bytes, and some of them become three. BadInput where there is no name.
    """
    if not name:
        raise BadInput("a shared thing must have a name")
    content = name.encode("utf-8", "surrogateescape")
    safe = "".join(
        chr(byte) if byte in b"_-" or (byte < 0x80 and chr(byte).isalnum()) else f"%{byte:02X}" for byte in content
    )
    if len(safe) <= _LONGEST:
        return safe
    from hashlib import sha256  # rare, and it takes long to import

    end = f"%%{sha256(content).hexdigest()[:_LENGTH_OF_HASH]}"
    return safe[: _LONGEST - len(end)] + end


def name_of(file: str) -> str:
    """The name from which ``file_name`` made this; "" of a long one, which only the file's content has."""
    first, *rest = file.split("%")
    if "" in rest:
        return ""
    try:
        content = first.encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)
    except ValueError:
        return ""
    return content.decode("utf-8", "surrogateescape")


def _is_claim(uuid: object, want: object) -> bool:
    return isinstance(uuid, str) and len(uuid) == _LENGTH_OF_UUID and "/" not in uuid and isinstance(want, str)
