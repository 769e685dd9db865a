# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of the settings, and the settings of one guest. Every default is safe.

facts/settings.py makes the one from the other. Most hosts have no files, and then nothing but this is imported.
"""

from __future__ import annotations

from libhook.light import TYPE_CHECKING, Literal, MappingProxyType, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libhook.errors import BadInput
    from libhook.facts.host import UseKind

TAKE_ALONG = "take_along"
"""The setting with PCI devices that the guest's XML does not name, and that the guest has all the same."""
HANDLERS = "handlers"
"""The setting with the handlers by others that are asked for the guest (facts/ownhandler.py)."""
ASKED_FOR = 2.0
"""Seconds that such a handler has for its answer."""
Strictness = Literal["refuse", "warn", "off"]


class Source(NamedTuple):
    """One file of the settings."""

    path: str
    text: str
    trouble: BadInput | None = None
    """Why the file was not read. ``text`` is then empty."""


class Config(NamedTuple):
    """The settings of one guest."""

    dry_run: bool = False
    bind_managed: bool = False
    driver: str = "auto"
    siblings: Literal["refuse", "bind"] = "refuse"
    write_deadline: float = 30.0
    holder_wait: float = 10.0
    audit_record: Literal["libvirt", "2011"] = "libvirt"
    audit_required: bool = False
    audit_extra: bool = False
    preflight_storage: Strictness = "refuse"
    preflight_network: Strictness = "refuse"
    preflight_display: Strictness = "refuse"
    preflight_usb: Strictness = "refuse"
    identity: Strictness = "refuse"
    actions: Mapping[str, Any] = MappingProxyType({})
    """The settings that ask for actions of a kind (OF_KINDS in facts/keys.py) and are set for this guest, by key."""

    by_uuid: bool = False
    """Whether a section with the guest's UUID says something."""

    @property
    def along(self) -> Sequence[str]:
        """The addresses of the PCI devices that the guest takes along."""
        return self.actions.get(TAKE_ALONG, ())

    def strictness(self, kind: UseKind) -> Strictness:
        """What becomes of a start where the host uses a device in this way."""
        return "refuse" if kind == "open" else getattr(self, f"preflight_{kind}")


class Served(NamedTuple):
    """Which guests without host devices the settings ask something for."""

    names: Sequence[str]
    """Names, UUIDs, and patterns for a shell; with a slash before it where something is asked at each operation; after
    a ``+`` those who take devices along."""
    read: int
    """When the settings were read, in nanoseconds since 1970."""
    asks: bool = False
    """Whether they ask something for the guest that they were read for, rightly or not."""
