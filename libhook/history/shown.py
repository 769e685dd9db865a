# SPDX-License-Identifier: LGPL-2.1-or-later
"""An entry as a line of JSON, and in words for people. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from json.encoder import encode_basestring_ascii
from typing import TypeVar

from libhook.history.entry import Entry

_ABOUT = ("device", "bus", "vm", "uuid")
_WORDS = {None: "null", "start": '"start"', "attach": '"attach"', "stop": '"stop"', "detach": '"detach"'}
_MOST = 8192
_Key = TypeVar("_Key")
_Text = TypeVar("_Text")

Clock = Callable[[int], str]
"""A time in words."""


def clock(before: str, after: str, zone: tzinfo | None = None) -> Clock:
    """Writes times, in a zone or in local time: strftime's ``before``, the seconds, ``after``.

    What is the same for a minute is kept: strftime takes longer than all else that is done for an entry.
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
    """The promised lines: the keys, their order and their values are an interface. In ASCII."""

    def __init__(self) -> None:
        self._seconds = clock('"%Y-%m-%dT%H:%M:', "", UTC)
        self._subjects: dict[tuple[str, str, str, str], str] = {}
        self._rest: dict[tuple[bool, tuple[str, ...], bool, str | None], str] = {}

    def __call__(self, entry: Entry) -> str:
        """An entry as an object."""
        node, vm, uuid, bus, device, began, ended, start, end, success, writers, disagree, _ = entry
        about, verdict = (device, bus, vm, uuid), (success, writers, disagree, node)
        if (head := self._subjects.get(about)) is None:
            names = ", ".join(f'"{name}": {_text(value)}' for name, value in zip(_ABOUT, about, strict=True))
            head = _keep(self._subjects, about, names)
        if (rest := self._rest.get(verdict)) is None:
            result, by = "success" if success else "failed", ", ".join(map(_text, writers))
            rest = (
                f'"result": "{result}", "recorded_by": [{by}], '
                f'"disagree": {"true" if disagree else "false"}, "node": {_text(node)}'
            )
            rest = _keep(self._rest, verdict, rest)
        return (
            f'{{{head}, "began": {_WORDS[began]}, "ended": {_WORDS[ended]}, '
            f'"from": {self._time(start)}, "to": {self._time(end)}, {rest}}}'
        )

    def _time(self, time: int | None) -> str:
        """``"2026-11-24T13:32:01.512+00:00"``, or null."""
        return "null" if time is None else f'{self._seconds(time)}.{time % 1000:03d}+00:00"'


def _text(text: str | None) -> str:
    return "null" if text is None else encode_basestring_ascii(text)


def _keep(kept: dict[_Key, _Text], key: _Key, text: _Text) -> _Text:
    if len(kept) >= _MOST:
        kept.clear()
    kept[key] = text
    return text


def what(entry: Entry) -> str:
    """How it began and ended."""
    if not entry.success:
        return f"{entry.began} failed"
    began = entry.began or "before the trail"
    if entry.end is None:
        return f"{began}, held"
    return f"{began}, {entry.ended or 'end unknown'}"


def remark(entry: Entry) -> str:
    """What is to be noticed, or nothing."""
    remarks = []
    if entry.disagree and not entry.success:
        remarks.append("libvirtd says success")
    elif entry.disagree:
        remarks.append("libvirtd says failed" if entry.began == "start" else "libhook says failed")
    if entry.unreturned:
        remarks.append("not back on the host")
    if (entry.bus, entry.device) == ("usb", "000.000"):
        remarks.append("which one is not known")
    return ", ".join(remarks)
