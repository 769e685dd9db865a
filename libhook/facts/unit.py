# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of systemd: what ``systemctl show`` says of them, and which may never be stopped. Pure."""

from __future__ import annotations

from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "Job",
    "TriggeredBy",
    "RequiredBy",
    "BoundBy",
    "ConsistsOf",
    "RequisiteOf",
    "PropagatesStopTo",
    "RefuseManualStop",
    "Transient",
    "ControlGroup",
)
"""What is asked of systemd, by ``systemctl show --property``."""
TYPES = ("service", "socket", "timer", "path", "mount", "automount")
"""Those that a guest may want down or up."""
_STOPPING_WITH_IT = ("RequiredBy", "BoundBy", "ConsistsOf", "RequisiteOf", "PropagatesStopTo")
"""Who stops when a unit stops (src/core/unit-dependency-atom.c, UNIT_ATOM_PROPAGATE_STOP)."""
_ON = ("active", "reloading", "refreshing", "activating")
_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@")
_LONGEST = 255
_PROTECTED = ("libhook", "libvirt", "virt", "dbus", "systemd-", "init.", "-.", "user@", "session-", "machine-")
"""The first letters of units that no guest may stop: libvirt's, which wait for this hook; D-Bus; systemd's own."""


class Unit(NamedTuple):
    """One unit, as systemd sees it now."""

    name: str
    """Its own name. ``display-manager.service`` is an alias, which may lead elsewhere tomorrow."""
    load: str
    """``loaded``, ``masked``, ``not-found`` and so on."""
    active: str
    """``active``, ``inactive``, ``failed``, ``activating``, ``deactivating`` and so on."""
    has_job: bool
    """Something is queued for it. A guest that starts while the host boots may come before a unit's own start."""
    triggered_by: tuple[str, ...]
    """Sockets, paths and timers that start it again."""
    stops_with: tuple[str, ...]
    """Units that stop when it stops."""
    may_stop: bool
    is_transient: bool
    """It has no file. Once it is stopped, nobody can start it again."""
    control_group: str
    """Its folder below /sys/fs/cgroup; "" for none."""
    family: tuple[str, ...] = ()
    """All that may stop with it, or would start it again, directly or not (look/systemd.py)."""

    @property
    def is_on(self) -> bool:
        """Whether it runs, or is about to."""
        return self.active in _ON or (self.has_job and self.active != "deactivating")


def parse(text: str) -> Iterator[Unit]:
    """The units in the output of ``systemctl show``: a line for each property, and an empty line after each unit."""
    for block in text.split("\n\n"):
        fields = dict(line.partition("=")[::2] for line in block.split("\n") if "=" in line)
        if fields.get("Id"):
            yield Unit(
                name=fields["Id"],
                load=fields.get("LoadState", ""),
                active=fields.get("ActiveState", ""),
                has_job=fields.get("Job", "") not in ("", "0"),
                triggered_by=tuple(fields.get("TriggeredBy", "").split()),
                stops_with=tuple(name for key in _STOPPING_WITH_IT for name in fields.get(key, "").split()),
                may_stop=fields.get("RefuseManualStop", "no") != "yes",
                is_transient=fields.get("Transient", "no") == "yes",
                control_group=fields.get("ControlGroup", ""),
            )


def is_name(text: str, *, glob: bool = False) -> bool:
    """Whether this is a unit's name with its type, ``nvidia-persistenced.service``; with ``glob`` also a pattern.

    A template without an instance, ``getty@.service``, is no unit.
    """
    allowed = _CHARACTERS | set("*?[]") if glob else _CHARACTERS
    name, _, kind = text.rpartition(".")
    return (
        bool(name)
        and not name.endswith("@")
        and kind in TYPES
        and len(text) <= _LONGEST
        and set(text) <= allowed
        and text[0] != "-"
    )


def is_protected(name: str) -> bool:
    """Whether a guest may never stop this unit."""
    return name.startswith(_PROTECTED)
