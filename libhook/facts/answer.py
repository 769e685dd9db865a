# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the answer of a handler by others, as one would read an enemy's. Pure.

The answer's ``settings`` are checked by the checks of a section of the settings. So they can ask for nothing that a
section cannot.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts import keys, settings
from libhook.facts.config import Config
from libhook.facts.ownhandler import is_small
from libhook.facts.plan import Refusal
from libhook.facts.written import DOMAINS, named
from libhook.light import TYPE_CHECKING, MappingProxyType, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from libhook.facts.event import Operation

_MAY_SET = {
    "prepare": ("values", "units", "modules", "run"),
    "attach": ("values",),
}
"""What a handler may set, by the operation."""
_KEYS = ("refuse", "remedy", "warn", "settings")
_OF_REFUSAL = ("device", "reason", "remedy")
_LONGEST = 500
_MOST_LINES = 20


class Answer(NamedTuple):
    """What a handler answers."""

    refusals: tuple[Refusal, ...] = ()
    """The device of each is an address, or "" for the guest. The remedy is "" where the handler has none."""
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = MappingProxyType({})

    def to_json(self) -> dict[str, Any]:
        """The answer for handlers that need this one."""
        return {"warn": list(self.warnings), "settings": dict(self.settings)}


def read(value: object, operation: Operation, own: Collection[str]) -> Answer:
    """The answer. BadInput says what is wrong in it. ``own``: the addresses of the guest's devices."""
    if not is_small(value):
        raise BadInput("its answer is too large, too deep, or has a text or number that settings cannot have")
    return parse(value, operation, own)


def parse(value: object, operation: Operation, own: Collection[str]) -> Answer:
    """As ``read``, of data that is not large."""
    if value is None:
        return Answer()
    if not isinstance(value, dict):
        raise BadInput("it answers neither with a dict nor with None")
    _expect_known(value, _KEYS, "the answer")
    if "refuse" in value and not operation.may_veto:
        raise BadInput(f"it refuses at {operation.name}, where nothing can be refused")
    return Answer(_refusals(value, own), _warnings(value), _settings(value.get("settings", {}), operation))


def _expect_known(value: dict[str, Any], known: Collection[str], where: str) -> None:
    for key in value:
        if key not in known:
            raise BadInput(f"{where} has {keys.shown(key)}; it may have {', '.join(known)}")


def _refusals(value: dict[str, Any], own: Collection[str]) -> tuple[Refusal, ...]:
    remedy = value.get("remedy", "")
    if remedy != "" and not _is_text(remedy):
        raise BadInput("remedy is not a line of text")
    refuse = value.get("refuse", [])
    found = [{"reason": refuse}] if isinstance(refuse, str) else refuse
    if not isinstance(found, list) or len(found) > _MOST_LINES:
        raise BadInput(f"refuse is neither a line of text nor a list of up to {_MOST_LINES} refusals")
    return tuple(_refusal(one, remedy, own) for one in found)


def _refusal(value: object, remedy: str, own: Collection[str]) -> Refusal:
    if not isinstance(value, dict):
        raise BadInput("an entry of refuse is not a dict")
    _expect_known(value, _OF_REFUSAL, "a refusal")
    device, reason, remedy = value.get("device", ""), value.get("reason"), value.get("remedy", remedy)
    if not _is_text(reason) or (remedy != "" and not _is_text(remedy)):
        raise BadInput("a refusal has no line of text as its reason, or none as its remedy")
    if device != "" and (not isinstance(device, str) or device not in own):
        raise BadInput(f"it refuses {keys.shown(device)[:_LONGEST]}, which is no device of the guest")
    return Refusal(device, str(reason), remedy)


def _is_text(value: object) -> bool:
    return keys.is_line(value) and len(str(value)) <= _LONGEST


def _warnings(value: dict[str, Any]) -> tuple[str, ...]:
    lines = value.get("warn", [])
    if not isinstance(lines, list) or len(lines) > _MOST_LINES or not all(map(_is_text, lines)):
        raise BadInput(f"warn is not a list of up to {_MOST_LINES} lines of text")
    return tuple(lines)


def _settings(table: object, operation: Operation) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise BadInput("settings is not a dict")
    may = _MAY_SET.get(operation.name, ())
    if table and not may:
        raise BadInput(f"it sets something at {operation.name}; that is for {' and '.join(_MAY_SET)}")
    for key in table:
        if key not in may:
            raise BadInput(f"settings has {keys.shown(key)}; at {operation.name} it may have {', '.join(may)}")
    section = settings.section_of("", (DOMAINS, "?"), (settings.UUID, 0), table)
    for problem in section.problems:
        where = named(problem.keys[2:])
        raise BadInput(f"settings.{where}: {problem.remedy}" if where else problem.what)
    return section.values


def with_settings(config: Config, more: Mapping[str, Any]) -> Config:
    """The settings of a guest with those of a handler, as those of its most specific section."""
    actions = dict(config.actions)
    for key, value in more.items():
        before = actions.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            value = {**before, **value}
        elif isinstance(value, list) and isinstance(before, list):
            value = [*before, *(one for one in value if one not in before)]
        actions[key] = value
    return config._replace(actions=MappingProxyType(actions))


def contradiction(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What two answers set to different things, in words; "" if nothing."""
    for key, value in one.items():
        theirs = other.get(key)
        if isinstance(value, dict) and isinstance(theirs, dict):
            for entry in value.keys() & theirs.keys():
                if value[entry] != theirs[entry]:
                    return f"settings.{named((key, entry))}"
        elif theirs is not None and not isinstance(value, list) and value != theirs:
            return f"settings.{key}"
    return ""
