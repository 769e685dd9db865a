# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the lines of a log say, whoever wrote them when; held against libaudit's own parser; where they come from."""

import io
import sys
import tempfile
from typing import IO

import pytest
from generated import generated
from hypothesis import example, given
from hypothesis import strategies as st
from trail_writing import BEGIN, ENRICHED, OTHER, UUID, Trail, life, read, told

from libhook.facts.domain import Domain, HostDevice
from libhook.handlers import record
from libhook.history.order import Sorted
from libhook.history.overlap import Overlap
from libhook.history.reading import Progress
from libhook.history.records import DeviceRecord, GuestRecord, Parser, Record, decode

HEAD = "pid=1 uid=0 auid=4294967295 ses=4294967295"


def _records(log: Trail | bytes) -> list[Record]:
    return list(Parser().records(b"\n" + bytes(log)))


def _auparse(log: Trail) -> list[list[tuple[str, str]]]:
    """Of each record each field and its value as libaudit has it, decoded, and the time; the hex of what is no UTF-8 is
    beyond its binding.
    """
    auparse = pytest.importorskip("auparse", reason="python3-audit is not installed")
    parser = auparse.AuParser(auparse.AUSOURCE_BUFFER, bytes(log).decode("ascii"))
    parser.set_escape_mode(auparse.AUPARSE_ESC_RAW)
    found = []
    while parser.parse_next_event():
        assert parser.get_num_records() == 1
        parser.first_record()
        fields, more = [], parser.first_field()
        while more:
            try:
                value = parser.interpret_field()
            except UnicodeDecodeError:
                value = bytes.fromhex(parser.get_field_str()).decode("utf-8", "surrogateescape")
            fields.append((parser.get_field_name(), value))
            more = parser.next_field()
        stamp = parser.get_timestamp()
        found.append([*fields, ("time", str(stamp.sec * 1000 + stamp.milli))])
    return found


FIELDS = ["type", "pid", "uid", "auid", "ses", "subj", "virt", "resrc", "reason", "vm", "uuid", "bus", "device", "exe"]
FIELDS += ["hostname", "addr", "terminal", "res", "time"]
"""Of our record; those in the second line are libaudit's."""
FORGERIES = (
    f'x" uuid={UUID} bus=pci device="0000:00:00.0" res=failed',
    f"x' uuid={UUID} res=failed",
    "x\ntype=VIRT_RESOURCE msg=audit(1.000:1): msg='virt=kvm resrc=dev reason=stop vm=\"other\" res=failed'",
    'x\x1dUID="nobody" AUID="nobody"',
    "x exe=/bin/true hostname=elsewhere res=failed",
    "x\x00y",
    "res=failed",
    "41",
    "(null)",
    "?",
    "",
)

_bytes = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_texts = st.one_of(_bytes, st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(FORGERIES))
# To libvirt a name ends at a null byte; what auparse makes of one is not always the same.
_names = _texts.filter(lambda text: "\0" not in text)


def _assert_comes_through(name: str, source: str) -> None:
    said = record.text(Domain(name, UUID, "kvm", ()), HostDevice("scsi", "hostdev", False, source), "start")
    assert (said.isascii(), said.isprintable()) == (True, True)
    (found,) = _auparse(Trail().message("VIRT_RESOURCE", said, "libhook", True, 0))
    assert [field for field, _ in found] == FIELDS
    values = dict(found)
    # What is no C string ends at its null byte for whoever reads it as one; the record holds all of it.
    assert [values[field] for field in ("vm", "device")] == [name.partition("\0")[0], source.partition("\0")[0]]
    assert [values[field] for field in ("uuid", "res", "reason")] == [UUID, "success", "start"]
    assert (values["uid"], values["auid"]) == ("root", "unset")  # of what auditd adds after a 0x1d


BYTES = [bytes([byte]) for byte in range(1, 256)]


@pytest.mark.parametrize(
    "raw", [*BYTES, b"".join(BYTES), b"".join(BYTES[::-1])], ids=[*map(repr, BYTES), "all", "back"]
)
def test_each_byte_of_a_name_or_an_address_comes_through(raw: bytes) -> None:
    """Alone and among others."""
    alone, among = (text.decode("utf-8", "surrogateescape") for text in (raw, b"a" + raw + b"b"))
    _assert_comes_through(alone, among)
    _assert_comes_through(among, alone)


@generated("names", _names, _names)
def test_any_name_and_any_address_come_through(name: str, source: str) -> None:
    """Whatever bytes, and whatever reads like the rest of a record."""
    _assert_comes_through(name, source)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_name_forges_no_field_and_no_record(name: str) -> None:
    """One record of these very fields, with our result, whatever the guest is called."""
    _assert_comes_through(name, name)


@pytest.mark.parametrize("style", ["libvirt", "2011"])
def test_the_reader_can_tell_a_forgery(style: record.Style) -> None:
    """Without the encoding the same names would be taken for fields: so these tests can fail."""
    name, log = FORGERIES[0], Trail().device("libhook", "start", vm=FORGERIES[0], style=style)
    assert dict(_auparse(log)[0])["vm"] == name
    log.lines = [log.lines[0].replace(record.encode("vm", name).encode(), f'vm="{name}"'.encode())]
    assert ("device", "0000:00:00.0") in _auparse(log)[0]


@given(vm=_names, device=_names)
@example(vm="a'b=c", device=f"x' res=failed' vm={record.encode('vm', 'y')}")
def test_what_was_encoded_is_read_back(vm: str, device: str) -> None:
    """Every byte of a name and an address, and what reads like a record: through record.py and back, in today's text
    and the first. What would end the field is hexadecimal; what would not is not believed either.
    """
    for style in ("libvirt", "2011"):
        (found,) = _records(Trail().device("libhook", "attach", vm=vm, device=device, style=style))
        assert isinstance(found, DeviceRecord)
        assert (found.subject.vm, found.subject.device, found.success) == (vm, device, True)


@given(vm=st.text(st.characters(codec="ascii", exclude_characters="\0")), success=st.booleans())
def test_libaudits_parser_reads_the_same(vm: str, success: bool) -> None:
    """Each field that both know, of a device's record and a guest's."""
    log = Trail().device("libvirtd", "start", success, vm=vm, device="a b").control("stop", success, vm=vm)
    device, guest = _records(log)
    assert isinstance(device, DeviceRecord)
    assert isinstance(guest, GuestRecord)
    theirs = [dict(reversed(fields)) for fields in _auparse(log)]  # the first of a name counts
    assert [one["uuid"] for one in theirs] == [device.subject.uuid, guest.uuid]
    assert [int(one["time"]) for one in theirs] == [device.time, guest.time]
    assert [one["res"] == "success" for one in theirs] == [device.success, guest.success]
    assert (theirs[0]["reason"], theirs[1]["op"]) == (device.reason, guest.operation)
    assert (theirs[0]["bus"], theirs[0]["device"], theirs[0]["exe"]) == ("pci", "a b", "/usr/sbin/libvirtd")
    if vm.isprintable() and vm:  # auparse escapes what is not, and cuts off what is empty
        assert [one["vm"] for one in theirs] == [device.subject.vm, vm] == [vm, vm]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"guest1"', "guest1"), ('""', ""), ('"?"', "?"), ("guest1", "guest1"), ("612062", "a b"),
        ("deadbeef", "deadbeef"), ("ABC", "ABC"), ("FF41", "\udcffA"), ("E280AE", "\u202e"),
    ],
)  # fmt: skip
def test_a_value_is_quoted_hexadecimal_or_bare(written: str, value: str) -> None:
    """Hexadecimal is what libaudit writes: pairs of digits in upper case."""
    assert decode(written.encode()) == value


OLD = f'resrc=dev reason=start vm="guest1" uuid={UUID} type=pci device="0000:00:1a.0"'
EXE = 'exe="/usr/sbin/libvirtd"'
HEXADECIMAL = f"exe={b'/usr/sbin/libvirtd'.hex().upper()}"
DELETED = f"exe={b'/usr/sbin/libvirtd (deleted)'.hex().upper()}"
"""A libvirtd that was upgraded, and not yet started anew."""
END = "hostname=? addr=? terminal=? res=success'"
VARIANTS = {
    "2011": f"{HEAD} subj=system_u:system_r:virtd_t:s0-s0:c0.c1023 msg='{OLD} {EXE} {END}",
    "before audit 2": f"user {HEAD} msg='{OLD}: {EXE} (hostname=?, addr=?, terminal=? res=success)'",
    "AppArmor": f"{HEAD} subj=libvirtd (enforce) msg='{OLD} {EXE} {END}{ENRICHED}",
    "hexadecimal": f"{HEAD} subj==unconfined msg='{OLD} {HEXADECIMAL} {END}{ENRICHED}",
    "upgraded": f"{HEAD} subj==unconfined msg='{OLD} {DELETED} {END}{ENRICHED}",
    "yes": f"{HEAD} subj==unconfined msg='{OLD} {EXE} {END.replace('success', 'yes')}{ENRICHED}",
    "1": f"{HEAD} subj==unconfined msg='{OLD} {EXE} {END.replace('success', '1')}{ENRICHED}",
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_records_of_other_times_and_places(text: str) -> None:
    """With and without what later releases of audit, and the security modules, put around the text."""
    log = Trail().raw("VIRT_RESOURCE", text)
    (entry,) = told(log)
    assert (entry["device"], entry["bus"], entry["vm"], entry["uuid"]) == ("0000:00:1a.0", "pci", "guest1", UUID)
    assert (entry["recorded_by"], entry["result"], entry["from"]) == (["libvirtd"], "success", 1)


@pytest.mark.parametrize("result", ["failed", "0", "no"])
def test_a_guests_record_of_other_times_names_the_guest(result: str) -> None:
    """A colon after the UUID is none of it: the failed start is that guest's."""
    log = Trail().device("libvirtd", "start")
    log.raw("VIRT_CONTROL", f"{HEAD} msg='op=start reason=booted vm=\"win11\" uuid={UUID}: {EXE} {END[:-8]}{result}'")
    assert [entry["result"] for entry in told(log)] == ["failed"]


@pytest.mark.parametrize(
    ("before", "node"),
    [
        ("Nov 24 18:30:00 kvm1 audisp-syslog[812]: ", "kvm1"), ("2026-11-24T18:30:00+01:00 kvm1 auditd: ", "kvm1"),
        ("<13>1 2026-11-24T18:30:00.000Z kvm1 audisp-syslog 812 - - ", None), ("audispd: ", None),
        ("18:30:00 audispd: ", None), (" \t", None), ("\ufeff", None),
    ],
)  # fmt: skip
def test_what_stands_before_a_record_does_not_hide_it(before: str, node: str | None) -> None:
    """A log that came through syslog, was indented, or begins with a byte order mark; auditd's name for the host is
    believed first.
    """
    plain = Trail().device("libhook", "start", False).device("libvirtd", "start").control("start", success=False)
    log = b"\n".join(before.encode() + line for line in plain.lines)
    (entry,) = told(plain)
    name = f"{node} {entry['entry']}" if node else entry["entry"]
    assert told(log) == [{**entry, "node": node, "entry": name}]
    named = Trail("kvm2").device("libhook", "start").raw("SYSTEM_BOOT", "x")
    log = b"\n".join(before.encode() + line for line in named.lines)
    assert told(log) == told(named)
    cut = before.encode() + plain.lines[0][:-80]
    assert read([cut + b"\n" + bytes(plain)])[2] == 1


@pytest.mark.parametrize(
    "before",
    [
        f"type=USER_CMD msg=audit(1.000:1): {HEAD} msg='cmd=",
        "Nov 24 18:30:00 kvm1 sudo[1]: root : COMMAND=/bin/echo ",
        "Nov 24 18:30:00 kvm1 audisp-syslog[1]: type=USER_CMD msg=audit(1.000:1): cmd=",
    ],
    ids=["audit", "syslog", "audit through syslog"],
)  # fmt: skip
def test_a_record_in_what_others_say_is_none(before: str) -> None:
    """Somebody's command, or his own audit message, holds a whole record."""
    assert _records(before.encode() + bytes(Trail().device("libvirtd", "start"))) == []


def test_nodes_and_enriched_fields_change_nothing_else() -> None:
    """With node= before it and the names of users after it, or neither."""
    plain = Trail(enriched=False).device("libhook", "start")
    (bare,) = told(plain)
    (full,) = told(Trail("kvm1.example.org").device("libhook", "start"))
    assert full == {**bare, "node": "kvm1.example.org", "entry": f"kvm1.example.org {bare['entry']}"}


def test_what_is_of_no_host_device_is_passed_over() -> None:
    """Other resources, other types, other operations."""
    log = Trail().message("VIRT_RESOURCE", f'virt=kvm resrc=disk reason=start vm="a" uuid={UUID}', "libvirtd", True, 1)
    log.message("VIRT_RESOURCE", f'virt=kvm resrc=device reason=start vm="a" uuid={UUID}', "libvirtd", True, 1)
    log.raw("VIRT_MACHINE_ID", f"{HEAD} msg='virt=kvm vm=\"a\" uuid={UUID} vm-ctx=+0:+0 res=success'")
    log.raw("SYSCALL", 'comm="type=VIRT_RESOURCE msg=audit(1.000:1): resrc=dev"')
    log.raw("CONFIG_CHANGE", "op=add_rule key=x res=1").raw("KERNEL", "something")
    assert (read([bytes(log)])) == ([], [], 0)


def test_what_a_container_is_given_is_read() -> None:
    """libvirtd's record of storage and misc names no bus, and the device by its kind."""
    log = Trail()
    for number, device in enumerate(('disk="/dev/sdb"', "chardev=2F6465762F612062", 'net="eth0"'), 1):
        about = f'virt=lxc resrc=hostdev reason=start vm="c{number}" uuid={UUID} {device}'
        log.message("VIRT_RESOURCE", about, "/usr/sbin/virtlxcd", True, 1000)
    assert [(entry["bus"], entry["device"], entry["recorded_by"]) for entry in told(log)] == [
        ("disk", "/dev/sdb", ["libvirtd"]),
        ("chardev", "/dev/a b", ["libvirtd"]),
    ]
    assert read([bytes(log)])[2] == 0


@pytest.mark.parametrize("end", range(1, 300, 7))
def test_a_line_that_was_cut_off_takes_nothing_from_the_next(end: int) -> None:
    """Wherever it ends: it is counted, and the next is read as what it is."""
    whole = Trail().device("libvirtd", "start", vm="cut").lines[0]
    following = Trail(now=BEGIN + 60_000).device("libhook", "start", vm="whole", uuid=OTHER).lines[0]
    entries, _, unreadable = read([whole[:end] + b"\n" + following])
    cut = whole.index(b"res=success'") + len("res=success'")
    assert [entry.vm for entry in entries] == (["whole"] if end < cut else ["cut", "whole"])
    assert entries[-1].start == BEGIN + 61_000
    assert unreadable == (len("type=VIRT_RESOURCE ") <= end < cut)


def test_rubbish_is_passed_over() -> None:
    """NUL bytes, long lines, lines that end in the middle of a character, times that cannot be."""
    log = Trail().device("libhook", "start")
    rubbish = [
        b"\0" * 100,
        b"x" * 100_000,
        b"type=VIRT_RESOURCE msg=audit(99999999999999.000:1): resrc=dev",
        b"\xff\xfe",
    ]
    rubbish += [b"type=VIRT_CONTROL msg=audit(1.000:1): msg=''", b"type=VIRT_RESOURCE ", b"node= type=VIRT_RESOURCE x"]
    entries, _, unreadable = read([b"\n".join([*rubbish, *log.lines, *rubbish])])
    assert len(entries) == 1
    assert unreadable == 6


@given(st.lists(st.binary(max_size=200)), st.booleans())
def test_no_bytes_raise(lines: list[bytes], known: bool) -> None:
    """Whatever stands in a log."""
    head = f"type=VIRT_RESOURCE msg=audit(1.000:1): {HEAD} msg='resrc=dev reason=".encode() if known else b""
    read([b"\n".join(head + line for line in lines)])


AUDIT_OFF, SWITCHED = "op=set audit_enabled=0 old=1 auid=1 res=1", "CONFIG_CHANGE"
NOT_RUN, NO_RECORD = "auditd did not run", "auditd ended without a record of it"
SILENCES: dict[str, tuple[Trail, list[tuple[float, float | None, str]]]] = {
    "from auditd's end to its start": (
        Trail().raw("DAEMON_START", "first").raw("DAEMON_END", "op").raw("DAEMON_START", "op", after=60_000),
        [(2, 62, NOT_RUN)],
    ),
    "from auditd's last line, where it did not say that it ended": (
        Trail().raw("SYSCALL", "x").raw("DAEMON_START", "op", after=30_000), [(1, 31, NO_RECORD)]
    ),
    "while audit was off": (
        Trail().raw(SWITCHED, AUDIT_OFF).raw("SYSCALL", "y", after=5000), [(1, 6, "audit was off")]
    ),
    "audit that could not be switched off, since the configuration is locked (auditctl -e 2), is on": (
        Trail().raw(SWITCHED, "op=set audit_enabled=0 old=2 auid=1 res=0").raw("SYSCALL", "x", after=60_000), []
    ),
    "until now": (Trail().raw("SYSCALL", "x").raw("DAEMON_END", "op"), [(2, None, NOT_RUN)]),
    "auditd gave up, and the host was booted": (
        Trail().raw("DAEMON_ABORT", "op=x").raw("SYSTEM_BOOT", "x", after=9_000), [(1, 10, NOT_RUN)]
    ),
    "auditd gave up, and another kernel began": (
        Trail().raw("DAEMON_ABORT", "op=x").raw("KERNEL", "state=initialized audit_enabled=0 res=1", after=9_000),
        [(1, 10, NOT_RUN)],
    ),
    "a clock that was set back, until auditd's start": (
        Trail().raw("DAEMON_END", "op").raw("DAEMON_START", "op", after=-3_600_000), [(1, -3599, NOT_RUN)]
    ),
    "a clock that was set back, until the host's boot": (
        Trail().raw("DAEMON_END", "op").raw("SYSTEM_BOOT", "op", after=-3_600_000), [(1, -3599, NOT_RUN)]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("log", "silences"), SILENCES.values(), ids=SILENCES)
def test_the_trail_tells_when_it_was_silent(log: Trail, silences: list[tuple[float, float | None, str]]) -> None:
    """From when to when, in seconds, and why."""
    found = read([bytes(log)])[1]
    assert [
        ((one.start - BEGIN) / 1000, None if one.end is None else (one.end - BEGIN) / 1000, one.why) for one in found
    ] == silences


@pytest.mark.parametrize("others", [0, 1])
def test_a_silence_is_over_with_the_next_line_wherever_the_log_is_cut(others: int) -> None:
    """Where the line with which audit was switched off is the last of a piece, the next piece begins later."""
    log = Trail("here").raw("CONFIG_CHANGE", "op=set audit_enabled=0 old=1 res=1")
    first = bytes(log) + bytes(Trail("there").raw("SYSCALL", "x")) * others
    log = Trail("here", now=log.now).raw("SYSCALL", "y", after=5000).device("libvirtd", "start", after=60_000)
    second = bytes(Trail("there").raw("SYSCALL", "x")) * others + bytes(log)
    (silence,) = read([first, second])[1]
    assert (silence.start - BEGIN, silence.end) == (1000, BEGIN + 6000)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_hosts_crash_is_seen_though_another_wrote_meanwhile(cut: int) -> None:
    """The line before auditd's start is the same host's, wherever the log is cut into pieces."""
    lines = Trail("here").raw("SYSCALL", "x").lines + Trail("there", now=BEGIN + 2000).raw("SYSCALL", "y").lines
    lines += Trail("here", now=BEGIN + 60_000).raw("DAEMON_START", "op=start").lines
    logs = [b"\n".join(part) + b"\n" for part in (lines[:cut], lines[cut:]) if part]
    (silence,) = read(logs)[1]
    assert silence[:4] == ("here", BEGIN + 1000, BEGIN + 61_000, "auditd ended without a record of it")


def test_what_logs_have_in_common_is_remembered_within_bounds() -> None:
    """Beyond, it is let through, and known to be; of logs that follow each other nothing is kept."""
    records = list(Parser().records(b"\n" + bytes(life("a")) + bytes(life("b", 60_000))))
    overlap = Overlap(most=1)
    overlap.log(records[0].time)
    assert list(overlap.new(records)) == records
    overlap.log(1 << 60)
    assert list(overlap.new(records)) == records[1:]
    assert (overlap.twice, overlap.full) == (1, True)
    overlap = Overlap()
    for part, following in ((records[:2], records[2].time), (records[2:], 1 << 60)):
        overlap.log(following)
        assert list(overlap.new(part)) == part
    assert (overlap.twice, overlap.full) == (0, False)


@given(st.lists(st.binary(max_size=4).map(lambda raw: raw.replace(b"\n", b"") + b"\n")), st.integers(1, 5))
def test_what_does_not_fit_is_sorted_all_the_same(lines: list[bytes], most: int) -> None:
    """In memory, or in as many files as it takes; and can be asked for again."""
    with Sorted(most) as ordered:
        for line in lines:
            ordered.add(line)
        assert list(ordered) == list(ordered) == sorted(lines)


def test_long_lines_wait_in_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded in bytes: a name in the log may be long."""
    files: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def kept() -> IO[bytes]:
        files.append(make())
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", kept)
    lines = [bytes([65 + number]) * (3 << 20) + b"\n" for number in range(24)]
    with Sorted() as ordered:
        for line in reversed(lines):
            ordered.add(line)
        assert len(files) == 2
        assert list(ordered) == lines


def test_progress_is_for_terminals_and_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar once a second has gone by, nothing before or elsewhere; it is wiped away."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        progress = Progress(200)
        progress.show(50)
        assert stream.getvalue() == ""
        now[0] += 2
        progress.show(100)
        progress.clear()
        assert (" 50%" in stream.getvalue()) is shown
        assert stream.getvalue().endswith("\r\033[K") is shown
