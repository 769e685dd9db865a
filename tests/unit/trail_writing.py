# SPDX-License-Identifier: LGPL-2.1-or-later
"""Audit logs as auditd writes them, for tests that read them back."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from libhook.command import parsing
from libhook.facts.domain import Domain, Extra, HostDevice
from libhook.handlers.record import encode, text
from libhook.history import command, reader
from libhook.history.entry import Entry, Silence
from libhook.history.names import lookup
from libhook.history.pairing import Pairing
from libhook.history.records import Parser
from libhook.history.remembered import Remembered
from libhook.history.shown import Json

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
NOWHERE = "/nowhere"
"""A host without lists of names."""
BEGIN = 1_795_545_000_000
UUID = "46a8dd1a-e9d5-4506-a138-8b10789ffab2"
OTHER = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
EXE = {"libhook": "/usr/bin/python3.13", "libvirtd": "/usr/sbin/libvirtd", "virtqemud": "/usr/sbin/virtqemud"}
WHO = {"hook": "libhook", "virt": "libvirtd", "qemud": "virtqemud", "other": "/opt/a b"}
PLACES = {"": ("pci", "0000:01:00.0"), "2": ("pci", "0000:02:00.0"), "3": ("pci", "0000:03:00.0"),
          "redir": ("usb", "USB redirdev"), "none": ("usb", "000.000"), "usb": ("usb", "001.002"),
          "usb3": ("usb", "001.003")}  # fmt: skip
RECORD = re.compile(r"(\w+)(?::(\w+))?(!?)(?:@(\w+))?(&?)(?:=(\S+?))?(?:([+-]\d+))?")
ENRICHED = '\x1dUID="root" AUID="unset"'


class Trail:
    """A log that grows by a line a call; each line is a second later, unless told otherwise."""

    def __init__(self, node: str = "", *, enriched: bool = True, now: int = BEGIN) -> None:
        self.node, self.enriched, self.now = node, enriched, now
        self.serial = 10
        self.lines: list[bytes] = []

    def raw(self, kind: str, rest: str, *, after: int = 1000) -> "Trail":
        """A line of any type."""
        self.now += after
        self.serial += 1
        node = f"node={self.node} " if self.node else ""
        stamp = f"audit({self.now // 1000}.{self.now % 1000:03d}:{self.serial})"
        self.lines.append(f"{node}type={kind} msg={stamp}: {rest}".encode("utf-8", "surrogateescape"))
        return self

    def message(self, kind: str, message: str, who: str, success: bool, after: int) -> "Trail":
        """A line that a program sent."""
        end = f'exe="{EXE.get(who, who)}" hostname=? addr=? terminal=? res={"success" if success else "failed"}'
        head = "pid=402 uid=0 auid=4294967295 ses=4294967295 subj=unconfined"
        return self.raw(kind, f"{head} msg='{message} {end}'{ENRICHED if self.enriched else ''}", after=after)

    def device(
        self,
        who: str,
        reason: str,
        success: bool = True,
        *,
        vm: str = "win11",
        uuid: str = UUID,
        bus: str = "pci",
        device: str = "0000:01:00.0",
        style: str = "libvirt",
        ids: str = "",
        after: int = 1000,
    ) -> "Trail":
        """A record of a host device, as record.py has it; with its extra fields where there are ids."""
        more = Extra("e1000e", "14", ids) if ids else None
        kinds = Domain(vm, uuid, "kvm", ()), HostDevice(bus, "hostdev", False, device, None, extra=more)  # type: ignore[arg-type]
        said = text(*kinds, reason, style, extra=bool(ids))  # type: ignore[arg-type]
        return self.message("VIRT_RESOURCE", said, who, success, after)

    def control(
        self, operation: str, success: bool = True, *, vm: str = "win11", uuid: str = UUID, after: int = 1000
    ) -> "Trail":
        """libvirtd's record of the guest as a whole, with one of its memory before it."""
        head = f"{encode('vm', vm)} uuid={uuid}"
        if operation == "start":
            self.message(
                "VIRT_RESOURCE", f"virt=kvm resrc=mem reason=start {head} old-mem=0 new-mem=1", "libvirtd", True, 0
            )
        why = "booted" if operation == "start" else "shutdown"
        message = f"virt=kvm op={operation} reason={why} {head} vm-pid=1"
        return self.message("VIRT_CONTROL", message, "libvirtd", success, after)

    def __bytes__(self) -> bytes:
        return b"".join(line + b"\n" for line in self.lines)


def log_of(records: str, node: str = "", now: int = BEGIN) -> Trail:
    """The log of records: who wrote what; ! it failed, @ of which device, & of another guest, = with these ids,
    + after how many seconds instead of one.
    """
    log = Trail(node, now=now)
    for record in records.split():
        found = RECORD.fullmatch(record)
        assert found, record
        who, what, failed, place, other, ids, after = found.groups(default="")
        time, uuid = int(after or 1) * 1000, OTHER if other else UUID
        if who == "guest":
            log.control(what, not failed, uuid=uuid, after=time)
        elif who in WHO:
            bus, device = PLACES[place]
            log.device(WHO[who], what, not failed, uuid=uuid, bus=bus, device=device, ids=ids, after=time)
        else:
            log.raw({"boot": "SYSTEM_BOOT", "login": "USER_LOGIN"}.get(who, f"DAEMON_{who}"), "x", after=time)
    return log


def read(logs: Iterable[bytes]) -> tuple[list[Entry], list[Silence], int]:
    """Entries, oldest first; silences; and how many records could not be read."""
    entries: list[Entry] = []
    silences: list[Silence] = []
    parser, pairing = Parser(), Pairing(entries.append, silences.append)
    for log in logs:
        pairing.add(parser.records(b"\n" + log.removesuffix(b"\n")))
    pairing.close()
    entries.sort(key=lambda entry: (entry.start or 0, entry.bus, entry.device))
    return entries, silences, parser.unreadable


def told(*logs: "Trail | bytes") -> list[dict[str, Any]]:
    """The JSON of what logs come to, with seconds since BEGIN for times."""
    found = []
    for entry in read(bytes(log) for log in logs)[0]:
        line = json.loads(Json(lookup(NOWHERE))(entry))
        line["from"] = None if entry.start is None else (entry.start - BEGIN) / 1000
        line["to"] = None if entry.end is None else (entry.end - BEGIN) / 1000
        found.append(line)
    return found


def entries(text: str) -> list[dict[str, Any]]:
    """The entries of what ``history --json`` has printed; not the times without a trail, nor the hosts."""
    return [one for one in map(json.loads, text.splitlines()) if "entry" in one]


def sources(*paths: Path) -> list[reader.Source]:
    """Open logs; close them with reader.close."""
    return reader.trail([str(path) for path in paths])


@contextlib.contextmanager
def zone(name: str) -> Iterator[None]:
    """Local time is that of a place."""
    try:
        with mock.patch.dict(os.environ, TZ=name):
            time.tzset()
            yield
    finally:
        time.tzset()


@contextlib.contextmanager
def terminal(width: int) -> Iterator[None]:
    """stdout is a terminal of so many columns, without colours."""
    with (
        mock.patch.dict(os.environ, NO_COLOR="1"),
        mock.patch.object(sys.stdout, "isatty", return_value=True),
        mock.patch.object(sys.stdout, "fileno", return_value=1),
        mock.patch.object(os, "get_terminal_size", return_value=os.terminal_size((width, 24))),
    ):
        yield


class Said(NamedTuple):
    """What ``libhook history`` said."""

    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of stdout."""
        return self.out.splitlines()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Of what --json said."""
        return entries(self.out)

    @property
    def devices(self) -> list[str]:
        """Of these entries."""
        return [entry["device"] for entry in self.entries]

    @property
    def seen(self) -> str:
        """Of a page: what a reader sees, all blanks as one."""
        body = self.out.split("<body>")[1].split('<script type="application/json" id="facts">')[0]
        return " ".join(unescape(re.sub("<[^>]*>", " ", re.sub("</?time[^>]*>", "", body))).split())

    @property
    def facts(self) -> dict[str, Any]:
        """Of a page: what its script knows."""
        facts: dict[str, Any] = json.loads(
            self.out.split('<script type="application/json" id="facts">')[1].split("</script>")[0]
        )
        return facts

    @property
    def rows(self) -> list[list[str]]:
        """Of a page: the cells of all entries."""
        rows = re.findall(r'<tr class="g\d+[^"]*">(.*)', self.out)
        return [[unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in row.split("<td>")[1:]] for row in rows]


class History:
    """``libhook history`` in this process, on the host in a folder."""

    def __init__(self, folder: Path, captured: "pytest.CaptureFixture[bytes]") -> None:
        self.folder, self.log, self.captured = folder, folder / "log", captured
        self.audit = folder / "var/log/audit"
        self.notes = Remembered("", lambda _: [])

    def __call__(self, logs: "Trail | bytes | Sequence[Trail | bytes] | None", *arguments: str) -> Said:
        """Of these logs, each given with -if; None: of the host's own, or of those among the arguments."""
        given = []
        logs = [] if logs is None else [logs] if isinstance(logs, (Trail, bytes)) else logs
        for number, log in enumerate(logs):
            path = self.folder / f"log{number or ''}"
            path.write_bytes(bytes(log))
            given += ["-if", str(path)]
        options = parsing.parser().parse_args(["history", *given, *arguments])
        assert command.run(str(self.folder), options, lambda: self.notes) == 0
        out, err = self.captured.readouterr()
        return Said(out.decode(), err.decode())

    def own(self, log: "Trail | bytes", *arguments: str) -> Said:
        """Of the host's own log, which is this."""
        self.audit.mkdir(parents=True, exist_ok=True)
        (self.audit / "audit.log").write_bytes(bytes(log))
        return self(None, *arguments)

    def page(self, logs: "Trail | bytes | Sequence[Trail | bytes] | None", *arguments: str) -> Said:
        """The page of it."""
        return self(logs, "--html", "-", *arguments)


def life(device: str = "0000:01:00.0", now: int = 0, vm: str = "win11", uuid: str = UUID, node: str = "") -> Trail:
    """A guest had a device for a second."""
    log = Trail(node, now=BEGIN + now).device("libhook", "start", device=device, vm=vm, uuid=uuid)
    return log.device("libhook", "stop", device=device, vm=vm, uuid=uuid)
