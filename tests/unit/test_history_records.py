# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the lines of a log say, whoever wrote them when; held against libaudit's own parser; where they come from."""

import errno
import gzip
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import pytest
from disturbing import refusing
from hypothesis import given
from hypothesis import strategies as st
from trail_writing import BEGIN, ENRICHED, OTHER, ROOT, UUID, Trail, life, read, told

from libhook.command import parsing
from libhook.errors import LibhookError
from libhook.handlers.record import encode
from libhook.history import command
from libhook.history.order import Sorted
from libhook.history.overlap import Overlap
from libhook.history.reading import Progress
from libhook.history.records import DeviceRecord, GuestRecord, Parser, Record, TrailRecord, decode

_values = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
HEAD = "pid=1 uid=0 auid=4294967295 ses=4294967295"


def _records(log: Trail | bytes) -> list[Record]:
    return list(Parser().records(b"\n" + bytes(log)))


def _auparse(log: Trail) -> list[dict[str, str]]:
    """The fields of each record as libaudit reads them; names and addresses interpreted."""
    auparse = pytest.importorskip("auparse", reason="python3-audit is not installed")
    parser = auparse.AuParser(auparse.AUSOURCE_BUFFER, bytes(log).decode("ascii"))
    found = []
    while parser.parse_next_event():
        fields: dict[str, str] = {}
        while True:
            name = parser.get_field_name()
            value = parser.interpret_field() if name in ("vm", "device", "exe") else parser.get_field_str()
            fields.setdefault(name, value)
            if not parser.next_field():
                break
        stamp = parser.get_timestamp()
        fields["time"] = str(stamp.sec * 1000 + stamp.milli)
        found.append(fields)
    return found


@given(vm=_values, device=_values)
def test_what_was_encoded_is_read_back(vm: str, device: str) -> None:
    """Every byte of a name and an address, through record.py and back, in today's text and the first."""
    for style in ("libvirt", "2011"):
        (record,) = _records(Trail().device("libhook", "attach", vm=vm, device=device, style=style))
        assert isinstance(record, DeviceRecord)
        assert (record.subject.vm, record.subject.device) == (vm, device)


@given(vm=st.text(st.characters(codec="ascii", exclude_characters="\0")), success=st.booleans())
def test_libaudits_parser_reads_the_same(vm: str, success: bool) -> None:
    """Each field that both know, of a device's record and a guest's."""
    log = Trail().device("libvirtd", "start", success, vm=vm, device="a b").control("stop", success, vm=vm)
    device, guest = _records(log)
    assert isinstance(device, DeviceRecord)
    assert isinstance(guest, GuestRecord)
    theirs = _auparse(log)
    assert [record["uuid"] for record in theirs] == [device.subject.uuid, guest.uuid]
    assert [int(record["time"]) for record in theirs] == [device.time, guest.time]
    assert [record["res"] == "success" for record in theirs] == [device.success, guest.success]
    assert (theirs[0]["reason"], theirs[1]["op"]) == (device.reason, guest.operation)
    assert (theirs[0]["bus"], theirs[0]["device"], theirs[0]["exe"]) == ("pci", "a b", "/usr/sbin/libvirtd")
    if vm.isprintable() and vm:  # auparse escapes what is not, and cuts off what is empty
        assert [record["vm"] for record in theirs] == [device.subject.vm, vm] == [vm, vm]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"guest1"', "guest1"),
        ('""', ""),
        ('"?"', "?"),
        ("guest1", "guest1"),
        ("612062", "a b"),
        ("deadbeef", "deadbeef"),
        ("ABC", "ABC"),
        ("FF41", "\udcffA"),
        ("E280AE", "\u202e"),
    ],
)
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


SYSLOG = "Nov 24 18:30:00 kvm1 audisp-syslog[812]: "
RFC5424 = "<13>1 2026-11-24T18:30:00.000Z kvm1 audisp-syslog 812 - - "


@pytest.mark.parametrize(
    ("before", "node"),
    [
        (SYSLOG, "kvm1"),
        ("2026-11-24T18:30:00+01:00 kvm1 auditd: ", "kvm1"),
        (RFC5424, None),
        ("audispd: ", None),
        ("18:30:00 audispd: ", None),
        (" \t", None),
        ("\ufeff", None),
    ],
)
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


def test_a_record_in_what_syslog_has_of_others_is_none() -> None:
    """Somebody's command, or his own audit message, holds a whole record."""
    (inner,) = Trail().device("libvirtd", "start").lines
    around = ["sudo[1]: root : COMMAND=/bin/echo ", "audisp-syslog[1]: type=USER_CMD msg=audit(1.000:1): cmd="]
    assert [_records(f"Nov 24 18:30:00 kvm1 {text}".encode() + inner) for text in around] == [[], []]


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


def test_a_text_in_another_record_is_no_record() -> None:
    """A user's own message that holds a whole record begins another line."""
    inner = bytes(Trail().device("libvirtd", "start")).decode().strip()
    assert _records(Trail().raw("USER_CMD", f"{HEAD} msg='cmd={inner}'")) == []


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


def _happenings(log: Trail) -> list[Any]:
    return [
        (record.happening, record.before, record.after) for record in _records(log) if isinstance(record, TrailRecord)
    ]


def test_the_trail_tells_of_itself() -> None:
    """Boots, auditd's own words, and audit switched off; with when the lines around them were written."""
    log = Trail().raw("SYSCALL", "x").raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=60_000)
    log.raw("CONFIG_CHANGE", "op=set audit_enabled=0 old=1 auid=1 res=1").raw("SYSCALL", "y", after=5000)
    log.raw("SYSTEM_BOOT", "z").raw("KERNEL", "state=initialized audit_enabled=0 res=1").raw("DAEMON_ABORT", "op=x")
    now = BEGIN
    assert _happenings(log) == [
        ("daemon end", now + 1000, None),
        ("daemon start", now + 2000, None),
        ("audit off", None, now + 68_000),
        ("boot", now + 68_000, None),
        ("boot", now + 69_000, None),
        ("daemon end", now + 70_000, None),
    ]


def test_silences() -> None:
    """From auditd's end to its start, from its last line where it did not say, and while audit was off."""
    log = Trail().raw("DAEMON_START", "first").raw("DAEMON_END", "op").raw("DAEMON_START", "op", after=60_000)
    log.raw("SYSCALL", "x").raw("DAEMON_START", "op", after=30_000)
    log.raw("CONFIG_CHANGE", "op=set audit_enabled=0 old=1 res=1").raw("SYSCALL", "y", after=5000).raw(
        "DAEMON_END", "op"
    )
    found = [(s.start - BEGIN, None if s.end is None else s.end - BEGIN, s.why) for s in read([bytes(log)])[1]]
    assert found == [
        (2000, 62_000, "auditd did not run"),
        (63_000, 93_000, "auditd ended without a record of it"),
        (94_000, 99_000, "audit was off"),
        (100_000, None, "auditd did not run"),
    ]


@pytest.mark.parametrize("back", ["DAEMON_START", "SYSTEM_BOOT"])
def test_a_silence_ends_with_auditds_start_whatever_the_clock_says(back: str) -> None:
    """A host came back with its clock set back: the times are as they were recorded, and the silence is over."""
    log = Trail().raw("DAEMON_END", "op=terminate").raw(back, "op=start", after=-3_600_000)
    assert [silence.end for silence in read([bytes(log)])[1]] == [log.now]


def test_audit_that_could_not_be_switched_off_is_on() -> None:
    """The configuration is locked (auditctl -e 2): the kernel refuses, and says so."""
    log = Trail().raw("CONFIG_CHANGE", "op=set audit_enabled=0 old=2 auid=1000 ses=3 subj=unconfined res=0")
    assert read([bytes(log.raw("SYSCALL", "x", after=60_000))])[1] == []


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


def test_a_name_that_reads_like_a_record_is_a_name() -> None:
    """What would end the field is hexadecimal; what would not is not believed either."""
    name = f"x' res=failed' vm={encode('vm', 'y')}"
    (entry,) = told(Trail().device("libvirtd", "start", vm=name))
    assert (entry["vm"], entry["result"]) == (name, "success")
    (entry,) = told(Trail().device("libvirtd", "start", vm="a'b=c"))
    assert (entry["vm"], entry["result"]) == ("a'b=c", "success")


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


def test_stdin_and_standard_tools() -> None:
    """``-if -`` reads a pipe; a reader that goes away is no error."""
    log = b"".join(bytes(life("0000:01:00.0", number * 5000)) for number in range(5000))
    shell = f"{sys.executable} -m libhook history --json -if - | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"], input=log, cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)


def _failure(tmp_path: Path, *arguments: str) -> str:
    with pytest.raises(LibhookError) as caught:
        command.run(str(tmp_path), parsing.parser().parse_args(["history", *arguments]))
    return caught.value.line.replace(str(tmp_path), "")


def test_failures_say_what_to_do(tmp_path: Path) -> None:
    """No log, no file, no right to read it. That auditd is to be installed is said only where it is not."""
    log, configuration = "/var/log/audit/audit.log", "/etc/audit/auditd.conf"

    def said() -> str:
        return (
            _failure(tmp_path)
            .removeprefix(f"{log}: No such file or directory: ")
            .removesuffix(", or give a log with -if FILE")
        )

    assert said() == "install auditd"
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/auditd").touch()
    assert said() == f"see with which folder auditd runs (-c), since there is no {configuration}"
    (tmp_path / "etc/audit").mkdir(parents=True)
    (tmp_path / "etc/audit/auditd.conf").write_text("write_logs = no\n")
    assert said() == f"see whether auditd runs, and write_logs in {configuration}"
    with refusing("open", errno.EACCES, lambda path, *_: str(path).endswith("auditd.conf")):
        assert said() == f"run it as root, since {configuration} may name another"
    named = "No such file or directory: give an audit log, a folder with one, or - for stdin"
    assert _failure(tmp_path, "-if", f"{tmp_path}/none") == f"/none: {named}"
    with refusing("open", errno.EACCES):
        assert _failure(tmp_path) == f"{log}: Permission denied: run it as root, or give a copy of the log with -if"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (gzip.compress(b"\n".join(life("first").lines), mtime=0), "unpack it: zcat FILE | libhook history -if -"),
        (b"type=VIRT_RESOURCE msg=audit(11/24/26 18:30:00.000:1) : vm=win11\n", "use --raw)"),
        (b"Nov 24 18:30:00 host kernel: no trail\n", "give a log as auditd writes it (from ausearch, use --raw)"),
    ],
    ids=["compressed", "in words", "another log"],
)
def test_what_is_no_audit_log_is_not_called_an_empty_one(tmp_path: Path, content: bytes, hint: str) -> None:
    """A log that is compressed, or put into words by ausearch, holds devices that would not be shown."""
    (tmp_path / "log").write_bytes(content)
    line = _failure(tmp_path, "-if", f"{tmp_path}/log")
    assert line.startswith("/log: no audit record in it: ")
    assert line.endswith(hint)


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
