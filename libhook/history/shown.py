# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows an entry as a line of JSON, and in words. Pure."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import TypeVar

from libhook.history.entry import Entry, Host, Silence, name_of
from libhook.history.names import NameOf

NOTED = "*"
"""Marks a name that is from libhook's notes."""
_MOST = 8192
_quoted = json.encoder.encode_basestring_ascii
_Key = TypeVar("_Key")
_Text = TypeVar("_Text")

Clock = Callable[[int], str]
"""Turns milliseconds since 1970 into text."""


def clock(before: str, after: str, zone: tzinfo | None = None) -> Clock:
    """Make a function that writes times in ``zone``, or in local time: ``before``, the seconds, ``after``.

    ``before`` and ``after`` are patterns of strftime. Their text is cached for each minute, because strftime takes
    longer than all other work for an entry.
    """
    minutes: dict[int, tuple[str, str]] = {}

    def write(time: int) -> str:
        second = time // 1000
        if (kept := minutes.get(second // 60)) is None:
            moment = datetime.fromtimestamp(second, UTC).astimezone(zone)
            kept = _keep(minutes, second // 60, (moment.strftime(before), moment.strftime(after)))
        return f"{kept[0]}{second % 60:02d}{kept[1]}"

    return write


class Json:
    """Writes entries, times without a trail, and hosts as JSON in ASCII.

    The keys, their order and their values are a promised interface.
    """

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of
        self._verdicts: dict[tuple[object, ...], tuple[str, str]] = {}
        self._minutes: dict[int, str] = {}

    def __call__(self, entry: Entry, until: int | None = None) -> str:
        """Return an entry as an object. ``until`` is when its host's trail ends, where that is known."""
        node, vm, uuid, bus, device, began, ended, start, end, success, writers, disagree, _, ids, _, noted, _ = entry
        key: tuple[object, ...] = began, ended, success, writers, disagree, node
        if ids:
            key = *key, bus, ids, noted
        how, verdict = self._verdicts.get(key) or self._verdict(key, entry)
        return (
            f'{{"entry": {_quoted(name_of(entry))}, "device": {_quoted(device)}, "bus": {_quoted(bus)}, '
            f'"vm": {_quoted(vm)}, "uuid": {_quoted(uuid)}, {how}'
            f"{self._between(start, end)}, "
            f'"known_until": {"null" if until is None else self._time(until)}, {verdict}'
        )

    def silence(self, silence: Silence) -> str:
        """Return a time without a trail as an object."""
        first, last = silence.missing or (0, -1)
        missing = {"count": last - first + 1, "from": first, "to": last} if silence.missing else None
        return (
            f'{{"silence": {json.dumps(silence.why)}, "node": {json.dumps(silence.node)}, '
            f'{self._between(silence.start, silence.end)}, "missing": {json.dumps(missing)}}}'
        )

    def host(self, host: Host) -> str:
        """Return what is known of a host's trail as an object."""
        times = self._between(host.first, host.last)
        return f'{{"trail": {json.dumps(host.trail)}, "node": {json.dumps(host.node)}, {times}}}'

    def _between(self, first: int | None, last: int | None) -> str:
        start, end = "null" if first is None else self._time(first), "null" if last is None else self._time(last)
        return f'"from": {start}, "to": {end}'

    def _verdict(self, key: tuple[object, ...], entry: Entry) -> tuple[str, str]:
        """Return and cache the parts that are the same for most entries."""
        result = "success" if entry.success else "failed"
        how = json.dumps({"began": entry.began, "ended": entry.ended})
        verdict = {"result": result, "recorded_by": entry.recorded_by, "disagree": entry.disagree, "node": entry.node}
        name = self._name_of(entry.bus, entry.ids)
        verdict |= {"ids": name.ids or None, "vendor": name.vendor or None, "model": name.model or None}
        verdict["ids_from"] = ("notes" if entry.noted else "record") if entry.ids else None
        return _keep(self._verdicts, key, (f"{how[1:-1]}, ", json.dumps(verdict)[1:]))

    def _time(self, time: int) -> str:
        """Return a time as ``"2026-11-24T13:32:01.512+00:00"``."""
        second = time // 1000
        if (minute := self._minutes.get(second // 60)) is None:
            text = datetime.fromtimestamp(second, UTC).strftime('"%Y-%m-%dT%H:%M:')
            minute = _keep(self._minutes, second // 60, text)
        return f'{minute}{second % 60:02d}.{time % 1000:03d}+00:00"'


def _keep(kept: dict[_Key, _Text], key: _Key, text: _Text) -> _Text:
    if len(kept) >= _MOST:
        kept.clear()
    kept[key] = text
    return text


def name(entry: Entry, name_of: NameOf) -> str:
    """Return what the device is called, with ``NOTED`` behind it if that is not from the records; "" without ids."""
    return f"{name_of(entry.bus, entry.ids).text}{NOTED if entry.noted else ''}" if entry.ids else ""


def what(entry: Entry) -> str:
    """Say how the entry began and ended."""
    if not entry.success:
        return f"{entry.began} failed"
    began = entry.began or "before the trail"
    if entry.end is None:
        return f"{began}, held"
    return f"{began}, {entry.ended or 'end unknown'}"


def remark(entry: Entry) -> str:
    """Return what the reader should notice, or ""."""
    remarks = []
    if entry.disagree and not entry.success:
        remarks.append("libvirtd: success")
    elif entry.disagree:
        remarks.append("libvirtd: failed" if entry.began == "start" else "libhook: failed")
    if entry.unreturned:
        remarks.append("not back on the host")
    if (entry.bus, entry.device) == ("usb", "000.000"):
        remarks.append("which one is not known")
    return ", ".join(remarks)
