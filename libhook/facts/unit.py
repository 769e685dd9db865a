# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of systemd: what ``systemctl show`` says of them, and which may never be stopped. Pure."""

from __future__ import annotations

from libhook.facts.mountpoint import escaped, is_of_host, path_of, unit_of
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
    "RefuseManualStart",
    "Transient",
    "FragmentPath",
    "ControlGroup",
)
"""What is asked of systemd, by ``systemctl show --property``."""
TYPES = ("service", "socket", "timer", "path", "mount", "automount")
"""Those that a guest may want down or up."""
_STOPPING_WITH_IT = ("RequiredBy", "BoundBy", "ConsistsOf", "RequisiteOf", "PropagatesStopTo")
"""Who stops when a unit stops (src/core/unit-dependency-atom.c, UNIT_ATOM_PROPAGATE_STOP)."""
AS_WANTED = "the units are as wanted"
"""The state that the units and mount points of a guest's settings provide together."""
_ALL_MOUNTS = frozenset(("local-fs.target", "remote-fs.target"))
"""They require every mount of fstab. Starting one would mount what other guests have away, and where that fails it
begins the emergency mode (local-fs.target, OnFailure=). So they are neither stopped with a mount nor started."""
_ON = ("active", "reloading", "refreshing", "activating")
_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@")
_LONGEST = 255
_PROTECTED = (
    *("libhook", "libvirtd", "libvirt-guests", "virtlogd", "virtlockd", "virtproxyd", "virtnetworkd", "virtstoraged"),
    *("virtnodedevd", "virtinterfaced", "virtsecretd", "virtnwfilterd", "virtqemud", "virtlxcd", "virtxend", "virtchd"),
    *("virtvboxd", "virtvzd", "virtbhyved", "virt-secret-init"),
    *("dbus", "systemd-", "init.", "user@", "session-", "machine-"),
)
"""The first letters of units that no guest may stop: libvirt's, which wait for this hook (the daemons of libvirt's
docs/daemons.rst); D-Bus; systemd's own. What somebody else calls libvirt-nosleep@ is not among them."""


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
    may_start: bool
    is_transient: bool
    """It has no file. Once it is stopped, nobody can start it again."""
    has_file: bool
    """There is a file of it, also one made from fstab. What was mounted by hand has none."""
    control_group: str
    """Its folder below /sys/fs/cgroup; "" for none."""
    family: tuple[str, ...] = ()
    """All that may stop with it, or would start it again, directly or not (look/systemd.py)."""
    lost: tuple[str, ...] = ()
    """Those of the family that are on, and that nobody could start again."""

    @property
    def is_on(self) -> bool:
        """Whether it runs, or is about to."""
        return self.active in _ON or (self.has_job and self.active != "deactivating")

    @property
    def may_return(self) -> bool:
        """Whether it can be started again once it is stopped."""
        return self.load == "loaded" and self.has_file and self.may_start and not self.is_transient


def parse(text: str) -> Iterator[Unit]:
    """The units in the output of ``systemctl show``: a line for each property, and an empty line after each unit."""
    for block in text.split("\n\n"):
        fields = dict(line.partition("=")[::2] for line in block.split("\n") if "=" in line)
        if _is_plain(fields.get("Id", "")):
            never = _ALL_MOUNTS if path_of(fields["Id"]) else frozenset[str]()
            yield Unit(
                name=fields["Id"],
                load=fields.get("LoadState", ""),
                active=fields.get("ActiveState", ""),
                has_job=fields.get("Job", "") not in ("", "0"),
                triggered_by=_names(fields.get("TriggeredBy", "")),
                stops_with=tuple(
                    name for key in _STOPPING_WITH_IT for name in _names(fields.get(key, "")) if name not in never
                ),
                may_stop=fields.get("RefuseManualStop", "no") != "yes",
                may_start=fields.get("RefuseManualStart", "no") != "yes",
                is_transient=fields.get("Transient", "no") == "yes",
                has_file=fields.get("FragmentPath", "") != "",
                control_group=fields.get("ControlGroup", ""),
            )


def _names(text: str) -> tuple[str, ...]:
    r"""The units in a list of ``systemctl show``, which has quotes where a name has a backslash: ``"a\\x2db.mount"``.

    See shell_maybe_quote() in systemd's basic/escape.c.
    """
    words = (one[1:-1].replace("\\\\", "\\") if one[:1] == one[-1:] == '"' else one for one in text.split())
    return tuple(filter(_is_plain, words))


def _is_plain(name: str) -> bool:
    """Whether it may be a unit's name, of whatever type."""
    return 0 < len(name) <= _LONGEST and set(name) <= _CHARACTERS and (name[0] != "-" or name in ("-.mount", "-.slice"))


def of_guest(name: str, guest: str) -> str:
    """The unit that a name in the settings means for this guest: with the guest's name, escaped, in its instance.

    A path is that of a mount point.
    """
    if name.startswith("/"):
        return unit_of(name)
    first, at, instance = name.partition("@")
    return f"{first}{at}{instance.replace('{name}', escaped(guest))}"


def is_name(text: str) -> bool:
    """Whether this is a unit's name with its type, ``nvidia-persistenced.service``.

    A template without an instance, ``getty@.service``, is no unit.
    """
    name, _, kind = text.rpartition(".")
    return bool(name) and not name.endswith("@") and kind in TYPES and _is_plain(text) and text[0] != "-"


def is_protected(name: str) -> bool:
    """Whether a guest may never stop this unit."""
    if path := path_of(name):
        return is_of_host(path)
    return name.startswith(_PROTECTED)
