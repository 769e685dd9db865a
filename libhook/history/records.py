# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parses the audit log: bytes in, records out. Pure.

A million lines must not take much longer than with ausearch. So one regular expression finds the records that matter
in a whole piece of the log. Lines of these types with another layout are then read one by one, field by field.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeVar

from libhook.history.around import AROUND, Around, Stamp

Reason = Literal["start", "attach", "stop", "detach"]
Happening = Literal["boot", "daemon start", "daemon end", "audit on", "audit off"]


class Subject(NamedTuple):
    """The guest and the device that a record is about. Lone surrogates stand for bytes that are not UTF-8."""

    vm: str
    uuid: str
    bus: str
    device: str
    key: str
    """Bus and device. Together they identify a device of the guest."""
    ids: str = ""
    """Vendor and product, as ``8086:10d3``; "" where the record does not say."""


class DeviceRecord(NamedTuple):
    """A VIRT_RESOURCE record of a host device."""

    time: int
    """Milliseconds since 1970, as in all records here."""
    node: str | None
    writer: str
    """libvirtd, libhook, or the executable of another program."""
    reason: str
    subject: Subject
    success: bool
    serial: bytes = b"0"
    """The number of the event in auditd's log. With the time it names the record, as ``ausearch -a`` takes it."""


class GuestRecord(NamedTuple):
    """A VIRT_CONTROL record, about the guest as a whole."""

    time: int
    node: str | None
    operation: str
    uuid: str
    success: bool
    serial: bytes = b"0"


class TrailRecord(NamedTuple):
    """Something that happened to the trail itself."""

    time: int
    node: str | None
    happening: Happening
    before: int | None = None
    """When the node's line before this was written, if that line is near. Until then there was a trail."""
    after: int | None = None
    """For "audit off": when the node's next younger line was written. Nothing is logged when auditing is on again."""


Record = DeviceRecord | GuestRecord | TrailRecord

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

# "Not a blank" is the fastest class, much faster than \\S. It may run past the end of a truncated line. Then the match
# fails, because the next line begins with type= or node=.
_STAMP = rb" msg=audit\((\d{1,11})\.(\d{3})"
_SENT = rb"\): pid=[^ ]+ uid=[^ ]+ auid=[^ ]+ ses=[^ ]+ (?:subj=[^'\n]* )?msg='(?:virt=[^ ]+ )?"
_KINDS = rb"(?:VIRT_(?:RESOURCE|CONTROL)|DAEMON_(?:START|END|ABORT)|SYSTEM_BOOT|KERNEL|CONFIG_CHANGE)"
_SCAN = re.compile(
    rb"\n(?:(?:node=([^ \n]+) )?type=(?:VIRT_RESOURCE" + _STAMP + rb":(\d{1,10})" + _SENT + rb"resrc=(?:dev "
    rb"reason=([^ ]+) (vm=[^ ]+ uuid=[^ ]+ (?:bus|type)=[^ ]+ device=[^ ]*[^ :]"
    rb"(?: driver=[^ ]+)?(?: iommu-group=[^ ]+)?(?: device-id=[^ ]+)?) exe=([^ ]+) hostname=[^']* res=(\w+)'"
    rb"|(?!(?:host)?dev )\w+ )"  # memory, processors and so on
    rb"|VIRT_CONTROL" + _STAMP + rb":(\d{1,10})" + _SENT + rb"op=([^ ]+) "
    rb"reason=[^ ]+ vm=[^ ]+ uuid=([^ ]*[^ :]) [^']* res=(\w+)'"
    rb"|(" + _KINDS + rb" [^\n]*))"
    rb"|(?!type=)(?!node=)([^=\n]*(?:node=[^ \n]+ )?type=" + _KINDS + rb" msg=audit\([^\n]*))"
)  # fmt: skip
"""The groups: the node. For a device: seconds, thousandths, serial, reason, subject, exe, result. For a guest:
seconds, thousandths, serial, operation, UUID, result. Another line from its type on. A whole line that begins with
something else.
"""
_LINE_HEAD = re.compile(
    rb"(?:(?:[^=\n]* )?([^ :=\n]+) [^ =\n]+: |[^=\n]*?)"  # "Nov 24 18:30:00 kvm1 audisp-syslog[812]: ", or anything
    rb"(?:node=(\S+) )?type=(\w+(?:\[\d+\])?) msg=audit\((\d{1,11})\.(\d{3}):(\d{1,10})\)"
)
"""The groups: the host's name from syslog, and from auditd; type; seconds; thousandths; serial. auditd writes
UNKNOWN[1334] for a type that its version does not know. The text that syslog puts before a record has no equals sign.
So a record that is quoted in another record's text does not match.
"""
_TEXT = re.compile(rb"msg='(.*)'", re.S)
_FIELD = re.compile(rb'(?:^|(?<=[\s(]))([a-z-]+)=("[^"]*"|[^\s,:)]*)')
_SWITCH = re.compile(rb"[ :]audit_enabled=(\d) (?!.* res=0)")
"""The new state of auditing. It does not match if the kernel refused, as it does once the configuration is locked."""
_IDS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}", re.ASCII)
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
"""How many decoded texts each cache keeps."""


def decode(value: bytes) -> str:
    """Undo libaudit's encoding of a value: in quotes, in upper-case hexadecimal, or as it is."""
    if value[:1] == b'"':
        value = value[1:-1] if value[-1:] == b'"' else value[1:]
    elif _HEX.fullmatch(value):
        value = bytes.fromhex(value.decode())
    return value.decode("utf-8", "surrogateescape")


def head_of(line: bytes) -> tuple[str | None, int, str, int] | None:
    """Return a line's node, time, type and the number of its event. None if it is no record."""
    head = _LINE_HEAD.match(line)
    if head is None:
        return None
    node = (head[2] or head[1] or b"").decode("utf-8", "surrogateescape") or None
    return node, int(head[4] + head[5]), head[3].decode(), int(head[6])


def writer(exe: str) -> str:
    """Return who wrote a record, from the executable of the sender."""
    program = exe.removesuffix(" (deleted)").rpartition("/")[2]  # the program was upgraded and still runs
    if program.startswith("python"):  # the hook's executable is its interpreter
        return "libhook"
    if program in ("libvirtd", "virtqemud", "virtlxcd", "virtxend", "libvirt_lxc"):
        return "libvirtd"
    return exe


class Parser:
    """Parses pieces of a log, and counts the records that it could not read."""

    def __init__(self) -> None:
        self.unreadable = 0
        self._subjects: dict[bytes, Subject] = {}
        self._writers: dict[bytes, str] = {}
        self._nodes: dict[bytes, str | None] = {}
        self._tail = b""
        """The end of the piece before."""
        self._off: TrailRecord | None = None
        """The record that auditing was switched off, if no younger line of that node has come yet."""

    def records(self, piece: bytes) -> Iterator[Record]:
        """Give the records of a piece of the log, in order. Each line must begin with the line feed before it."""
        subjects, writers, nodes = self._subjects, self._writers, self._nodes
        new = tuple.__new__  # takes half the time of calling the class
        where = 0
        around = Around(self._tail, piece, self._stamp)
        if self._off and (on := around.after(self._off.node, self._off.time, -1)):
            yield TrailRecord(on, self._off.node, "audit on")
            self._off = None
        for groups in _SCAN.findall(piece):
            node, time, part, serial, reason, about, exe, result, at, more, last, op, uuid, outcome, line, odd = groups
            if about:
                subject = subjects.get(about) or self._subject(about)
                who = writers.get(exe) or self._writer(exe)
                host = nodes[node] if node in nodes else self._node(node)
                word = _REASONS.get(reason) or reason.decode("latin-1")
                yield new(DeviceRecord, (int(time + part), host, who, word, subject, result in _SUCCESS, serial))
            elif uuid:
                host = nodes[node] if node in nodes else self._node(node)
                guest, word = uuid.decode("utf-8", "surrogateescape"), op.decode("latin-1")
                yield new(GuestRecord, (int(at + more), host, word, guest, outcome in _SUCCESS, last))
            elif line or odd:
                found = self._patiently(odd or (b"node=%b type=%b" % (node, line) if node else b"type=" + line))
                if isinstance(found, TrailRecord):
                    where = piece.find(line or odd, where)
                    yield self._between(found, around, piece.rfind(b"\n", 0, where + 1))
                elif found is not None:
                    yield found
        self._tail = piece[-AROUND:]

    def _subject(self, about: bytes) -> Subject:
        vm, uuid, bus, device, *more = about.split(b" ")
        ids = more[-1][10:] if more and more[-1].startswith(b"device-id=") else b""
        return _keep(self._subjects, about, _subject(vm[3:], uuid[5:], bus.partition(b"=")[2], device[7:], ids))

    def _writer(self, exe: bytes) -> str:
        return _keep(self._writers, exe, writer(decode(exe)))

    def _node(self, name: bytes) -> str | None:
        return _keep(self._nodes, name, name.decode("utf-8", "surrogateescape") or None)

    def _stamp(self, line: bytes) -> Stamp | None:
        head = _LINE_HEAD.match(line)
        return (self._node(head[2] or head[1] or b""), int(head[4] + head[5])) if head else None

    def _between(self, record: TrailRecord, around: Around, start: int) -> TrailRecord:
        """Add the times of the node's lines before or after the record."""
        if record.happening == "audit off":
            record = record._replace(after=around.after(record.node, record.time, start))
            self._off = record if record.after is None else None
            return record
        return record._replace(before=around.before(record.node, start))

    def _patiently(self, line: bytes) -> Record | None:
        """Parse one line that has another layout, or is not about a guest."""
        head = _LINE_HEAD.match(line)
        if head is None:
            self.unreadable += 1
            return None
        node, time, kind = self._node(head[2] or head[1] or b""), int(head[4] + head[5]), head[3].decode()
        if kind in ("VIRT_RESOURCE", "VIRT_CONTROL"):
            text = _TEXT.search(line)
            found = _from_fields(kind, time, node, text[1], head[6]) if text else None
            self.unreadable += found is None
            return found or None
        if kind == "CONFIG_CHANGE":
            switch = _SWITCH.search(line)
            return TrailRecord(time, node, "audit off" if switch[1] == b"0" else "audit on") if switch else None
        if kind == "KERNEL" and b" state=initialized " not in line:
            return None
        return TrailRecord(time, node, _HAPPENINGS[kind])


def _from_fields(
    kind: str, time: int, node: str | None, text: bytes, serial: bytes
) -> DeviceRecord | GuestRecord | tuple[()] | None:
    """Parse a record's text field by field. () if it is about no device, None if a field is missing."""
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(text):
        fields.setdefault(name, value)
    resource = fields.get(b"resrc", b"dev")
    if kind == "VIRT_RESOURCE" and resource != b"dev":
        given = next((name for name in (b"disk", b"chardev") if name in fields), None)
        if resource != b"hostdev" or given is None:
            return ()
        fields |= {b"bus": given, b"device": fields[given]}  # a file that is given to a container
    try:
        uuid, success = fields[b"uuid"], fields[b"res"] in _SUCCESS
        if kind == "VIRT_CONTROL":
            operation, guest = fields[b"op"].decode("latin-1"), uuid.decode("utf-8", "surrogateescape")
            return GuestRecord(time, node, operation, guest, success, serial)
        bus, ids = fields.get(b"bus") or fields[b"type"], fields.get(b"device-id", b"")
        subject = _subject(fields[b"vm"], uuid, bus, fields[b"device"], ids)
        reason = fields[b"reason"].decode("latin-1")
        return DeviceRecord(time, node, writer(decode(fields[b"exe"])), reason, subject, success, serial)
    except KeyError:
        return None


def _subject(vm: bytes, uuid: bytes, bus: bytes, device: bytes, ids: bytes) -> Subject:
    """Decode a subject. libaudit encodes only names and addresses. What cannot be ids is none."""
    kind, address, known = bus.decode("utf-8", "surrogateescape"), decode(device), decode(ids)
    known = known if _IDS.fullmatch(known) else ""
    parts = decode(vm), uuid.decode("utf-8", "surrogateescape"), kind, address, f"{kind} {address}", known
    return tuple.__new__(Subject, parts)


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(kept) >= _MOST:
        kept.clear()
    kept[key] = value
    return value
