# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns TOML text into a Config. Every default is safe.

An unknown key or a wrong value is an error that names the key.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts.host import is_driver_name
from libhook.light import TYPE_CHECKING, Literal, MappingProxyType, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from libhook.facts.host import UseKind

_FILE = "/etc/libhook/config.toml"
_CHOICES: dict[str, tuple[str, ...]] = {
    "siblings": ("refuse", "bind"),
    "audit.record": ("libvirt", "2011"),
    "preflight.storage": ("refuse", "warn", "off"),
    "preflight.network": ("refuse", "warn", "off"),
    "preflight.display": ("refuse", "warn", "off"),
    "preflight.usb": ("refuse", "warn", "off"),
}
_SWITCHES = ("dry_run", "bind_managed", "audit.required", "audit.extra")
_SECONDS = ("write_deadline", "holder_wait")
_MOST_SECONDS = 3600.0
_LONGEST = 4096


def _texts(value: object) -> str:
    """For a table: each value must be a line of text or a whole number."""
    if isinstance(value, dict) and all(type(one) is int or _is_line(one) for one in value.values()):
        return ""
    return 'a table of lines of text and whole numbers: "vm.swappiness" = 10'


def _is_line(text: object) -> bool:
    is_text = isinstance(text, str) and 0 < len(text) <= _LONGEST
    return is_text and not any(character < " " and character != "\t" for character in str(text))


OF_KINDS: dict[str, Callable[[object], str]] = {
    "values": _texts,
}
"""The settings that ask for actions of a kind (kinds/), each with its check.

The check returns what the value should have been, or "" when the value is right."""
_KNOWN = (*_CHOICES, *_SWITCHES, *_SECONDS, "driver", *OF_KINDS)


Strictness = Literal["refuse", "warn", "off"]


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
    actions: Mapping[str, Any] = MappingProxyType({})
    """The settings of OF_KINDS that are set for this guest, by key."""

    def strictness(self, kind: UseKind) -> Strictness:
        """What becomes of a start where the host uses a device in this way."""
        return "refuse" if kind == "open" else getattr(self, f"preflight_{kind}")


def parse(text: str, name: str = "", uuid: str = "") -> Config:
    """The settings for the guest with this name and UUID.

    The most specific section wins, key by key. The order is: UUID, exact name, glob (a longer pattern beats a shorter
    one), top level. BadInput names the wrong key, or the line where the TOML itself is broken.
    """
    settings, sections = _settings(text)
    from fnmatch import fnmatchcase

    matching = []
    for pattern, own in sections.items():
        if _is_uuid(pattern.lower()):  # even where a guest has this text as its name
            if pattern.lower() == uuid:
                matching.append(((True, False, 0), own))
            continue
        exact = pattern == name
        if not exact and any(character in pattern for character in "*?["):
            # Consent to risk must name one guest: a pattern written once catches guests made later.
            for key in own:
                if _relaxes(key, own[key]):
                    raise BadInput(
                        f"{_FILE}: {_section(pattern)}{key} may not be set for a pattern",
                        "name one guest, by its exact name or UUID",
                    )
        if exact or fnmatchcase(name, pattern):
            matching.append(((False, exact, len(pattern)), own))
    for _, own in sorted(matching, key=lambda match: match[0]):
        settings.update(own)
    actions = {key: settings.pop(key) for key in OF_KINDS if key in settings}
    return Config(
        **{key.replace(".", "_"): value for key, value in settings.items()}, actions=MappingProxyType(actions)
    )


class Overview(NamedTuple):
    """What the whole file says, for all guests together. Each setting is written with its section."""

    is_default: bool
    """Every setting in the file has its default value."""
    relaxed: tuple[str, ...]
    """Each refusal that the file lifts: ``domains."win11".siblings = "bind"``."""
    dry: tuple[str, ...]
    """Each ``dry_run = true``."""
    wet: tuple[str, ...]
    """Each ``dry_run = false``. A section may say so where the top level says true."""
    requires_trail: bool
    """Some guest does not start without the audit trail."""


def overview(text: str) -> Overview:
    """The overview of a configuration in which parse() has found no fault."""
    settings, sections = _settings(text)
    every = [("", key, value) for key, value in settings.items()]
    every += [(_section(pattern), key, value) for pattern, own in sections.items() for key, value in own.items()]
    defaults = {**Config()._asdict(), **dict.fromkeys(OF_KINDS)}
    return Overview(
        is_default=all(value == defaults[key.replace(".", "_")] for _, key, value in every),
        relaxed=tuple(f'{where}{key} = "{value}"' for where, key, value in every if _relaxes(key, value)),
        dry=tuple(f"{where}dry_run = true" for where, key, value in every if (key, value) == ("dry_run", True)),
        wet=tuple(f"{where}dry_run = false" for where, key, value in every if (key, value) == ("dry_run", False)),
        requires_trail=any((key, value) == ("audit.required", True) for _, key, value in every),
    )


def _settings(text: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The top-level settings, and the settings of each section by its pattern. BadInput where one is wrong."""
    import tomllib  # takes 12 ms, and most hosts have no configuration

    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number or a nesting that Python rejects
        raise BadInput(f"{_FILE}: {error}") from None
    sections = document.pop("domains", {})
    if not isinstance(sections, dict):
        raise BadInput(f"{_FILE}: domains must be sections", 'write [domains."NAME"]')
    settings = _checked(document, "")
    for pattern, section in sections.items():
        where = _section(pattern)
        if not isinstance(section, dict):
            raise BadInput(f"{_FILE}: {where[:-1]} must be a section", f"write [{where[:-1]}]")
        sections[pattern] = _checked(section, where)
    return settings, sections


def _section(pattern: str) -> str:
    """The prefix that names a section's setting in a message."""
    return f'domains."{pattern}".'


def _relaxes(key: str, value: object) -> bool:
    """Whether this setting consents to a risk that libhook refuses by default."""
    return (key == "siblings" or key.startswith("preflight.")) and value != "refuse"


def _is_uuid(pattern: str) -> bool:
    """Whether the text has the form of libvirt's UUIDs: 8-4-4-4-12 lower-case hexadecimal digits."""
    return [len(part) for part in pattern.split("-")] == [8, 4, 4, 4, 12] and set(pattern) <= set("0123456789abcdef-")


def _checked(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The checked keys of one section. ``audit`` and ``preflight`` are flattened: ``audit.required``."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if key in ("audit", "preflight") and isinstance(value, dict):
            flat.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[key] = value
    for key, value in flat.items():
        if key not in _KNOWN:
            raise BadInput(f"{_FILE}: unknown key {where}{key}", f"the known keys are {', '.join(sorted(_KNOWN))}")
        wanted = _expectation(key, value)
        if wanted:
            raise BadInput(f"{_FILE}: {where}{key} is {_shown(value)}", f"it must be {wanted}")
        if key in _SECONDS:
            flat[key] = float(value)
    return flat


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):  # no key takes these, and repr fails on deep nesting
        return "a section" if isinstance(value, dict) else "a list"
    try:
        return repr(value)
    except ValueError:  # a whole number with thousands of digits, possible in hexadecimal
        return "a very large number"


def _expectation(key: str, value: object) -> str:
    """What the value should have been, or "" when it is right."""
    if key in _CHOICES:
        return "" if value in _CHOICES[key] else " or ".join(f'"{choice}"' for choice in _CHOICES[key])
    if key in OF_KINDS:
        return OF_KINDS[key](value)
    if key in _SWITCHES:
        return "" if isinstance(value, bool) else "true or false"
    if key in _SECONDS:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if number and 0 < value <= _MOST_SECONDS else f"seconds, more than 0 and at most {_MOST_SECONDS:.0f}"  # type: ignore[operator]
    return "" if isinstance(value, str) and is_driver_name(value) else 'a driver\'s name, or "auto"'
