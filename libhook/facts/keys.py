# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of the settings: what each may be, and which consent to a risk.

Does not belong here: which section a key stands in, and which section wins (facts/settings.py).
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts import command, legacy
from libhook.facts.address import PciAddress
from libhook.facts.config import HANDLERS, TAKE_ALONG
from libhook.facts.host import is_driver_name
from libhook.facts.mountpoint import is_mount_point, is_of_host, path_of
from libhook.facts.unit import TYPES, is_name, is_protected, of_guest
from libhook.light import TYPE_CHECKING, NamedTuple, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Checks = tuple[tuple[str, Callable[[object], bool], str], ...]

_CHOICES: dict[str, tuple[str, ...]] = {
    "siblings": ("refuse", "bind"),
    "audit.record": ("libvirt", "2011"),
    "preflight.storage": ("refuse", "warn", "off"),
    "preflight.network": ("refuse", "warn", "off"),
    "preflight.display": ("refuse", "warn", "off"),
    "preflight.usb": ("refuse", "warn", "off"),
    "identity": ("refuse", "warn", "off"),
}
REPLACE = "replace"
"""In a section: its lists and tables stand in place of those of less specific sections, not beside them."""
_SWITCHES = ("dry_run", "bind_managed", "audit.required", "audit.extra", REPLACE)
SECONDS = ("write_deadline", "holder_wait")
DEVICE = "device"
"""In the list ``modules``: the modules that drive the guest's devices."""
GROUPS = ("audit", "preflight")
"""The tables that only group keys: ``required`` in ``[audit]`` is ``audit.required``."""
_STATES = ("down", "up")
_MOST_SECONDS = 3600.0
_LONGEST = 4096
_NO_NUMBER = 1 << 64
"""The kernel has none as large. Of a very large one Python shows no text, or one that a journal entry does not take."""


def _texts(value: object) -> str:
    return "" if isinstance(value, dict) else 'a table: "vm.swappiness" = 10'


def is_line(text: object) -> bool:
    """Whether this is a line of text that is neither empty nor longer than a page, as the kernel counts: in bytes."""
    is_text = isinstance(text, str) and 0 < len(text.encode("utf-8", "surrogatepass")) <= _LONGEST
    return is_text and not any(character < " " and character != "\t" for character in str(text))


def _states(value: object) -> str:
    return "" if isinstance(value, dict) else 'a table of units: "display-manager.service" = "down"'


def _wrong_state(name: str, state: object) -> str:
    unit = of_guest(name, "x")
    path = name if name.startswith("/") else path_of(unit)
    if path.startswith("/dev/"):
        return 'a mount point, not a disk: "/srv/data"'
    if is_protected(unit) or (path and is_of_host(path)):
        return "a unit that neither libvirt nor the host depends on"
    if not is_name(unit) or (name.startswith("/") and not is_mount_point(name)):
        return f"the whole name of a {', '.join(TYPES[:-1])} or {TYPES[-1]}, or the path of a mount point"
    return "" if state in _STATES else '"down" or "up"'


def _wrong_value(name: str, value: object) -> str:
    from libhook.facts.value import is_act, path_of  # few guests have any

    try:
        path = path_of(name)
    except BadInput:
        return "a sysctl, or one file below /sys, by its name and no pattern"
    if is_act(path):
        return "left out, as a write to it does something, and keeps no value"
    is_right = is_line(value) or (type(value) is int and abs(value) < _NO_NUMBER)
    return "" if is_right else "a line of at most 4096 bytes, or a whole number"


def _sections(value: object) -> str:
    return "" if isinstance(value, dict) else 'sections with a name each: [run.NAME] command = ["/usr/bin/true"]'


def _wrong_handler(name: str, table: object) -> str:
    from libhook.facts import ownhandler  # few hosts have any

    return ownhandler.wrong_entry(name, table)


def _options(value: object) -> str:
    return "" if isinstance(value, dict) else "sections with a name each: [handlers.NAME]"


def _wrong_section(parse: Callable[[str, object], object], name: str, table: object) -> str:
    try:
        parse(name, table)
    except BadInput as error:
        return f"a section {error.message}"
    return ""


def _wrong_command(name: str, table: object) -> str:
    return _wrong_section(command.parse, name, table)


class Wrong(NamedTuple):
    """Something in a table that is wrong."""

    at: tuple[str, ...]
    """The entry's name, or the name and a key of the entry."""
    wanted: str
    """What it should have been; "" for a key that is not known."""
    near: tuple[str, ...] = ()
    """The known keys, where it is not known."""


def wrong_entries(key: str, value: object) -> Iterator[Wrong]:
    """What is wrong in a table: each key of each entry, or the entry as a whole."""
    if not isinstance(value, dict):
        return
    if key == LEGACY:
        yield from _wrong_fields((), value, legacy.CHECKS)
    for name, entry in value.items() if key in ENTRIES else ():
        fields = list(_wrong_fields((name,), entry, _FIELDS[key])) if key in _FIELDS and isinstance(entry, dict) else []
        yield from fields
        if not fields and (wanted := ENTRIES[key](name, entry)):
            yield Wrong((name,), wanted)


def _wrong_fields(where: tuple[str, ...], table: dict[str, object], checks: Checks) -> Iterator[Wrong]:
    known = {field: (is_right, wanted) for field, is_right, wanted in checks}
    for field, value in table.items():
        if field not in known:
            yield Wrong((*where, field), "", tuple(known))
        else:
            is_right, wanted = known[field]
            if not is_right(value):
                yield Wrong((*where, field), wanted)


def _addresses(value: object) -> str:
    """For a list: PCI addresses."""
    if isinstance(value, list) and all(isinstance(one, str) and is_address(one) for one in value):
        return ""
    return 'a list of PCI addresses: ["0000:05:00.0"]'


def is_address(text: str) -> bool:
    """Whether this is a PCI address as /sys writes it."""
    with suppress(BadInput):
        PciAddress.parse(text)
        return True
    return False


def _modules(value: object) -> str:
    """For a list: modules by name, ``device`` for those that drive the guest's devices, ``device:display`` for some."""
    if isinstance(value, list) and all(isinstance(one, str) and _is_module(one) for one in value):
        return ""
    return 'a list of modules, but none of vfio\'s, or "device" or "device:display": ["nvidia_drm", "nvidia"]'


def _is_module(name: str) -> bool:
    from libhook.facts.settings import is_device  # which imports this

    word, colon, device = name.partition(":")
    if colon:
        return word == DEVICE and is_device(device)
    return is_driver_name(name) and "vfio" not in name.lower()


ENTRIES: dict[str, Callable[[str, object], str]] = {
    "values": _wrong_value,
    "units": _wrong_state,
    "run": _wrong_command,
    HANDLERS: _wrong_handler,
}
"""The tables, each with what says of one entry what it should have been, or ""."""
_FIELDS: dict[str, Checks] = {"run": command.CHECKS}
"""Those whose entries have keys of their own."""
LEGACY = "legacy"
OF_KINDS: dict[str, Callable[[object], str]] = {
    TAKE_ALONG: _addresses,
    "values": _texts,
    "run": _sections,
    "units": _states,
    "modules": _modules,
    "legacy": legacy.complaint,
    HANDLERS: _options,
}
"""The settings that ask for actions of a kind (kinds/), or for handlers by others that may, each with its check.

The check returns what the value should have been, or "" when the value is right. Of what is in a table, wrong_entries
says it. Of a table the entries are merged key by key over the sections, and of a list the items add up."""

_IN_RECIPES = "; docs/recipes.md shows it"
FORMER = {
    "sleep": f"have a command in the background under run keep the host awake{_IN_RECIPES}",
    "require": f"have a command under run refuse the start{_IN_RECIPES}",
    "end": f"have a command under run end it{_IN_RECIPES}",
    "mounts": 'name the mount point under units: "/srv/data" = "down"',
}
"""What to write instead of a key that there is no more."""

TOLD = frozenset({"legacy"})
"""Those of them that ask something at each operation. A section about a device may not: at some operations the launcher
looks for no device."""


def known() -> tuple[str, ...]:
    """Every key."""
    return tuple(sorted((*_CHOICES, *_SWITCHES, *SECONDS, "driver", *OF_KINDS)))


def expectation(key: str, value: object) -> str:
    """What the value of this known key should have been, or "" when it is right."""
    if key in _CHOICES:
        return "" if value in _CHOICES[key] else " or ".join(f'"{choice}"' for choice in _CHOICES[key])
    if key in OF_KINDS:
        return OF_KINDS[key](value)
    if key in _SWITCHES:
        return "" if isinstance(value, bool) else "true or false"
    if key in SECONDS:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if number and 0 < value <= _MOST_SECONDS else f"seconds, more than 0 and at most {_MOST_SECONDS:.0f}"  # type: ignore[operator]
    return "" if isinstance(value, str) and is_driver_name(value) else 'a driver\'s name, or "auto"'


def relaxes(key: str, value: object) -> bool:
    """Whether this setting consents to a risk that libhook refuses by default."""
    return (key in ("siblings", "identity") or key.startswith("preflight.")) and value != "refuse"


def must_name(key: str, value: object) -> bool:
    """Whether the section that sets this must name the guests that it is about."""
    return relaxes(key, value) or (key == TAKE_ALONG and bool(value))


def is_for_one_guest(key: str) -> bool:
    """Whether this setting must name one guest, and may not be about all guests either."""
    return key == TAKE_ALONG


def shown(value: object) -> str:
    """A wrong value for a message."""
    if isinstance(value, (dict, list)):  # repr fails on deep nesting
        return "a section" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return repr(value)
    except ValueError:  # a whole number with thousands of digits, possible in hexadecimal
        return "a very large number"
