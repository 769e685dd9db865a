# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a line of the audit log says: bytes in, records out. Pure.

A million lines must not take much longer than ausearch takes for them, so one regular expression finds the records
that matter in a whole piece of the log. What it does not take is read again, line by line, with more patience.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeVar

from libhook.history.around import AROUND, Around, Stamp

Reason = Literal["start", "attach", "stop", "detach"]
Happening = Literal["boot", "daemon start", "daemon end", "audit on", "audit off"]


class Subject(NamedTuple):
    """Which device of which guest a record is about. Lone surrogates stand for bytes that are no UTF-8."""

    vm: str
    uuid: str
    bus: str
    device: str
    key: str
    """Bus and device, which tell the devices of a guest apart."""


class DeviceRecord(NamedTuple):
    """A VIRT_RESOURCE record of a host device."""

    time: int
    """Milliseconds since 1970, as all times here."""
    node: str | None
    writer: str
    """libvirtd, libhook, or the executable of whoever else wrote it."""
    reason: str
    subject: Subject
    success: bool


class GuestRecord(NamedTuple):
    """A VIRT_CONTROL record: the guest as a whole."""

    time: int
    node: str | None
    operation: str
    uuid: str
    success: bool


class TrailRecord(NamedTuple):
    """Something that happened to the trail itself."""

    time: int
    node: str | None
    happening: Happening
    before: int | None = None
    """The time of the node's line before, where it is not far: until then the trail was written."""
    after: int | None = None
    """Of audit off: the time of the next line of the node that is younger. That it is on again is not logged."""


Record = DeviceRecord | GuestRecord | TrailRecord

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

# "Not a blank" is the fastest class there is, much faster than \\S. It may run past the end of a line that was cut off,
# but then what must follow does not: the next begins with type= or node=.
_STAMP = (
    rb" msg=audit\((\d{1,11})\.(\d{3}):\d+\): pid=[^ ]+ uid=[^ ]+ auid=[^ ]+ ses=[^ ]+ (?:subj=[^'\n]* )?"
    rb"msg='(?:virt=[^ ]+ )?"
)
_KINDS = rb"(?:VIRT_(?:RESOURCE|CONTROL)|DAEMON_(?:START|END|ABORT)|SYSTEM_BOOT|KERNEL|CONFIG_CHANGE)"
_SCAN = re.compile(
    rb"\n(?:(?:node=([^ \n]+) )?type=(?:VIRT_RESOURCE" + _STAMP + rb"resrc=(?:dev "
    rb"reason=([^ ]+) (vm=[^ ]+ uuid=[^ ]+ (?:bus|type)=[^ ]+ device=[^ ]*[^ :])"
    rb"(?: driver=[^ ]+)?(?: iommu-group=[^ ]+)?(?: device-id=[^ ]+)? exe=([^ ]+) hostname=[^']* res=(\w+)'"
    rb"|(?!(?:host)?dev )\w+ )"  # memory, processors and so on
    rb"|VIRT_CONTROL" + _STAMP + rb"op=([^ ]+) reason=[^ ]+ vm=[^ ]+ uuid=([^ ]*[^ :]) [^']* res=(\w+)'"
    rb"|(" + _KINDS + rb" [^\n]*))"
    rb"|(?!type=)(?!node=)([^=\n]*(?:node=[^ \n]+ )?type=" + _KINDS + rb" msg=audit\([^\n]*))"
)  # fmt: skip
"""Its groups: node; of a device time, thousandths, reason, subject, exe, result; of a guest time, thousandths,
operation, UUID, result; any other line from its type on; a whole line that begins with something else. A subject that
comes again is read once.
"""
_LINE_HEAD = re.compile(
    rb"(?:(?:[^=\n]* )?([^ :=\n]+) [^ =\n]+: |[^=\n]*?)"  # "Nov 24 18:30:00 kvm1 audisp-syslog[812]: ", or anything
    rb"(?:node=(\S+) )?type=(\w+) msg=audit\((\d{1,11})\.(\d{3}):\d+\)"
)
"""Its groups: the host by syslog's word, and by auditd's; type; seconds; thousandths. What syslog puts before a record
has no equals sign, so that a record that stands in another's text is not one.
"""
_TEXT = re.compile(rb"msg='(.*)'", re.S)
_FIELD = re.compile(rb'(?:^|(?<=[\s(]))([a-z-]+)=("[^"]*"|[^\s,:)]*)')
_SWITCH = re.compile(rb"[ :]audit_enabled=(\d) (?!.* res=0)")
"""Which it is switched to; not where the kernel refused, as it does once the configuration is locked."""
_HEX = re.compile(rb"(?:[0-9A-F]{2})+")
_HAPPENINGS: dict[str, Happening] = {
    "DAEMON_START": "daemon start",
    "DAEMON_END": "daemon end",
    "DAEMON_ABORT": "daemon end",
    "SYSTEM_BOOT": "boot",
    "KERNEL": "boot",
}
_REASONS = {word.encode(): word for word in ("start", "attach", "stop", "detach")}
_SUCCESS = (b"success", b"yes", b"1")
_MOST = 8192
"""Entries of what is kept to save decoding the same text again and again."""


def decode(value: bytes) -> str:
    """A value as it was before libaudit encoded it: quoted, in upper-case hexadecimal, or as it is."""
    if value[:1] == b'"':
        value = value[1:-1] if value[-1:] == b'"' else value[1:]
    elif _HEX.fullmatch(value):
        value = bytes.fromhex(value.decode())
    return value.decode("utf-8", "surrogateescape")


def writer(exe: str) -> str:
    """Who wrote a record, by the executable of the process that sent it."""
    program = exe.removesuffix(" (deleted)").rpartition("/")[2]  # upgraded, and not yet started anew
    if program.startswith("python"):  # a hook's is its interpreter
        return "libhook"
    if program in ("libvirtd", "virtqemud", "virtlxcd", "virtxend", "libvirt_lxc"):
        return "libvirtd"
    return exe


class Parser:
    """Reads pieces of a log, and counts what it could not read."""

    def __init__(self) -> None:
        self.unreadable = 0
        self._subjects: dict[bytes, Subject] = {}
        self._writers: dict[bytes, str] = {}
        self._nodes: dict[bytes, str | None] = {}
        self._tail = b""
        """How the piece before ended."""
        self._off: TrailRecord | None = None
        """Audit was switched off there, and no line of the node has come since."""

    def records(self, piece: bytes) -> Iterator[Record]:
        """The records of a piece of the log, in its order. Each of its lines begins with the line feed before it."""
        subjects, writers, nodes = self._subjects, self._writers, self._nodes
        new = tuple.__new__  # half the time of the class's own
        where = 0
        around = Around(self._tail, piece, self._stamp)
        if self._off and (on := around.after(self._off.node, self._off.time, -1)):
            yield TrailRecord(on, self._off.node, "audit on")
            self._off = None
        for groups in _SCAN.findall(piece):
            node, time, part, reason, about, exe, result, when, fraction, operation, uuid, outcome, line, odd = groups
            if about:
                subject = subjects.get(about) or self._subject(about)
                who = writers.get(exe) or self._writer(exe)
                host = nodes[node] if node in nodes else self._node(node)
                word = _REASONS.get(reason) or reason.decode("latin-1")
                yield new(DeviceRecord, (int(time + part), host, who, word, subject, result in _SUCCESS))
            elif uuid:
                host = nodes[node] if node in nodes else self._node(node)
                guest, word = uuid.decode("utf-8", "surrogateescape"), operation.decode("latin-1")
                yield new(GuestRecord, (int(when + fraction), host, word, guest, outcome in _SUCCESS))
            elif line or odd:
                found = self._patiently(odd or (b"node=%b type=%b" % (node, line) if node else b"type=" + line))
                if isinstance(found, TrailRecord):
                    where = piece.find(line or odd, where)
                    yield self._between(found, around, piece.rfind(b"\n", 0, where + 1))
                elif found is not None:
                    yield found
        self._tail = piece[-AROUND:]

    def _subject(self, about: bytes) -> Subject:
        vm, uuid, bus, device = about.split(b" ")
        return _keep(self._subjects, about, _subject(vm[3:], uuid[5:], bus.partition(b"=")[2], device[7:]))

    def _writer(self, exe: bytes) -> str:
        return _keep(self._writers, exe, writer(decode(exe)))

    def _node(self, name: bytes) -> str | None:
        return _keep(self._nodes, name, name.decode("utf-8", "surrogateescape") or None)

    def _stamp(self, line: bytes) -> Stamp | None:
        head = _LINE_HEAD.match(line)
        return (self._node(head[2] or head[1] or b""), int(head[4] + head[5])) if head else None

    def _between(self, record: TrailRecord, around: Around, start: int) -> TrailRecord:
        """With what the lines around it say of when the trail was written."""
        if record.happening == "audit off":
            record = record._replace(after=around.after(record.node, record.time, start))
            self._off = record if record.after is None else None
            return record
        return record._replace(before=around.before(record.node, start))

    def _patiently(self, line: bytes) -> Record | None:
        """One line that is not laid out as today's, or not about a guest."""
        head = _LINE_HEAD.match(line)
        if head is None:
            self.unreadable += 1
            return None
        node, time, kind = self._node(head[2] or head[1] or b""), int(head[4] + head[5]), head[3].decode()
        if kind in ("VIRT_RESOURCE", "VIRT_CONTROL"):
            text = _TEXT.search(line)
            found = _from_fields(kind, time, node, text[1]) if text else None
            self.unreadable += found is None
            return found or None
        if kind == "CONFIG_CHANGE":
            switch = _SWITCH.search(line)
            return TrailRecord(time, node, "audit off" if switch[1] == b"0" else "audit on") if switch else None
        if kind == "KERNEL" and b" state=initialized " not in line:
            return None
        return TrailRecord(time, node, _HAPPENINGS[kind])


def _from_fields(kind: str, time: int, node: str | None, text: bytes) -> DeviceRecord | GuestRecord | tuple[()] | None:
    """From the text, field by field; nothing where it is of no device, None where a field is missing."""
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(text):
        fields.setdefault(name, value)
    resource = fields.get(b"resrc", b"dev")
    if kind == "VIRT_RESOURCE" and resource != b"dev":
        given = next((name for name in (b"disk", b"chardev") if name in fields), None)
        if resource != b"hostdev" or given is None:
            return ()
        fields |= {b"bus": given, b"device": fields[given]}  # what a container is given
    try:
        uuid, success = fields[b"uuid"], fields[b"res"] in _SUCCESS
        if kind == "VIRT_CONTROL":
            operation, guest = fields[b"op"].decode("latin-1"), uuid.decode("utf-8", "surrogateescape")
            return GuestRecord(time, node, operation, guest, success)
        subject = _subject(fields[b"vm"], uuid, fields.get(b"bus") or fields[b"type"], fields[b"device"])
        reason = fields[b"reason"].decode("latin-1")
        return DeviceRecord(time, node, writer(decode(fields[b"exe"])), reason, subject, success)
    except KeyError:
        return None


def _subject(vm: bytes, uuid: bytes, bus: bytes, device: bytes) -> Subject:
    """Only names and addresses are encoded."""
    kind, address = bus.decode("utf-8", "surrogateescape"), decode(device)
    parts = decode(vm), uuid.decode("utf-8", "surrogateescape"), kind, address, f"{kind} {address}"
    return tuple.__new__(Subject, parts)


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(kept) >= _MOST:
        kept.clear()
    kept[key] = value
    return value
