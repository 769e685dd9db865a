# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever is handed to libhook may be wrong: one line that says what and where, an exit code, nothing changed."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import DISK, NIC
from command import libhook
from scenario import Host, document, guest

from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic, workstation

GOOD = guest(NIC).xml(1)
OTHER = "11111111-2222-3333-4444-555555555555"
BOMB = (
    b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>\n'
    + GOOD.replace(b"win11", b"&c;")
)
TWICE = GOOD.replace(b"</hostdev>", b"</hostdev>" + GOOD[GOOD.index(b"<hostdev") : GOOD.index(b"</hostdev>") + 10], 1)
TOO_LARGE = b"made when it is needed: every fork would pay for it"
DOCUMENTS = {
    "empty": (b"", "empty"),
    "blank": (b" \n ", "empty"),
    "no XML": (b"hello <hostdev ", "line 1"),
    "cut": (GOOD[: len(GOOD) // 2], "line "),
    "cut in a tag": (GOOD[: GOOD.index(b"slot=")], "line "),
    "something after it": (GOOD + b"<more/>", "line "),
    "not UTF-8": (GOOD.replace(b"win11", b"\xff\xfe"), "line "),
    "null byte": (GOOD.replace(b"win11", b"win\x0011"), "null byte"),
    "entity bomb": (BOMB, "DOCTYPE"),
    "external entity": (b'<!DOCTYPE d SYSTEM "file:///etc/shadow">' + GOOD, "DOCTYPE"),
    "another root": (GOOD.replace(b"<domain", b"<network").replace(b"</domain", b"</network"), "line "),
    "no name": (GOOD.replace(b"<name>win11</name>", b""), "name"),
    "no uuid": (GOOD.replace(b"<uuid>", b"<id>").replace(b"</uuid>", b"</id>"), "uuid"),
    "a bad uuid": (GOOD.replace(b"<uuid>c7", b"<uuid>../../"), "uuid"),
    "no type": (GOOD.replace(b" type='kvm'", b""), "type"),
    "bus out of range": (GOOD.replace(b"bus='0x01'", b"bus='0x100'"), "0x100"),
    "slot out of range": (GOOD.replace(b"slot='0x00'", b"slot='0x20'"), "0x20"),
    "function out of range": (GOOD.replace(b"function='0x0'", b"function='0x8'"), "0x8"),
    "no number": (GOOD.replace(b"bus='0x01'", b"bus='; rm -rf'"), "rm -rf"),
    "named twice": (TWICE, NIC),
    "deeply nested": (b"<a>" * 100000, "line "),
    "too large": (TOO_LARGE, "16 MiB"),
}


def _document(name: str) -> tuple[bytes, str]:
    xml, what = DOCUMENTS[name]
    return (b" " * (17 << 20) if xml is TOO_LARGE else xml), what


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_bad_document_is_refused_by_the_hook(root: str, name: str) -> None:
    """At prepare and start in one line; at every other operation with exit code 0 and no word. Nothing changes."""
    xml, what = _document(name)
    host = Host(root, nic())
    before = host.everything()
    for operation in ("prepare", "start"):
        outcome = host.event(guest(NIC), operation, xml=xml)
        assert outcome.code == 1
        assert what in outcome.line
        assert len(outcome.line) < 300
        assert outcome.logged("failed")[0]["reason"] == outcome.line
    for operation in ("started", "reconnect", "release", "stopped", "migrate", "restore"):
        outcome = host.event(guest(NIC), operation, xml=xml)
        assert (outcome.code, outcome.stderr, outcome.records) == (0, (), ())
    assert host.everything() == before


@pytest.mark.parametrize("command", [("inspect",), ("inspect", "--json"), ("plan",), ("plan", "--json")])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_bad_document_is_refused_by_the_command(root: str, name: str, command: tuple[str, ...]) -> None:
    """One line on stderr, exit code 1, nothing on stdout."""
    xml, what = _document(name)
    host = Host(root, nic())
    done = libhook(host, *command, "-", stdin=xml)
    assert (done.code, done.out) == (1, "")
    assert what in done.err
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()


@pytest.mark.parametrize("command", ["inspect", "plan"])
@pytest.mark.parametrize(("path", "what"), [("/no/such", "No such file or directory"), ("/", "Is a directory")])
def test_a_document_that_cannot_be_read(root: str, command: str, path: str, what: str) -> None:
    """The line names the path."""
    done = libhook(Host(root, nic()), command, path)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"{path}: {what}: give a file with a domain's XML, or a guest's name, or - for stdin\n"


def test_an_unknown_kind_of_hostdev_is_passed_over(root: str) -> None:
    """A newer libvirt may have it: a warning in the log, and the other devices are handed over."""
    host = Host(root, nic())
    unknown = b"<hostdev mode='subsystem' type='quantum'><source/></hostdev>"
    xml = GOOD.replace(b"</devices>", unknown + b"</devices>")
    outcome = host.event(guest(NIC), "prepare", xml=xml)
    assert (outcome.code, outcome.stderr) == (0, ())
    (warning,) = outcome.logged("device skipped")
    assert "quantum" in warning["reason"]
    assert host.driver(NIC) == "vfio-pci"
    assert host.event(guest(NIC), "release", "failed").code == 0
    assert (host.changed, host.leftovers) == ([], [])


CONFIGURATIONS = {
    "unknown key": ("dry_runn = true\n", "unknown key dry_runn"),
    "unknown section": ("[prefligth]\nstorage = 'off'\n", "unknown key prefligth"),
    "unknown key in a section": ("[audit]\nrecrod = '2011'\n", "unknown key audit.recrod"),
    "unknown key of a guest": ("[domains.win11]\nx = 1\n", "unknown key domains"),
    "wrong type": ("dry_run = 'yes'\n", "dry_run is 'yes'"),
    "wrong number": ("write_deadline = true\n", "write_deadline is true"),
    "no number at all": ("holder_wait = nan\n", "holder_wait is nan"),
    "wrong choice": ("siblings = 'take'\n", "siblings is 'take'"),
    "wrong choice in a section": ("[preflight]\nstorage = false\n", "preflight.storage is false"),
    "consent for a pattern": ("[domains.'win*']\nsiblings = 'bind'\n", "may not be set for a pattern"),
    "domains without sections": ("domains = 1\n", "domains must be sections"),
    "a guest without section": ("[domains]\nwin11 = 1\n", "must be a section"),
    "no TOML": ("dry_run = = true\n", "line 1"),
    "a nesting without end": ("a = " + "[" * 5000, "/etc/libhook/config.toml: "),
    "a very large number": ("write_deadline = " + "9" * 5000, "/etc/libhook/config.toml: "),
    "a number that cannot be shown": ("write_deadline = 0x" + "f" * 5000, "write_deadline is a very large number"),
    "a value with escapes": ("driver = 'a\u202eb'\n", "driver is"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_bad_configuration_is_said_in_one_line(root: str, name: str) -> None:
    """Prepare refuses and names the key; the command likewise; the device is not touched."""
    text, what = CONFIGURATIONS[name]
    host = Host(root, nic(), text)
    outcome = host.event(guest(NIC), "prepare")
    assert outcome.code == 1
    assert what in outcome.line
    assert (outcome.writes, outcome.changed) == ((), ())
    assert host.records == [f"start {NIC} failed"]
    planned = libhook(host, "plan", "-", stdin=GOOD)
    assert (planned.code, planned.out) == (1, "")
    assert planned.err == outcome.line + "\n"
    host.event(guest(NIC), "release", "failed")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_bad_configuration_holds_nothing_back(root: str, name: str) -> None:
    """What was handed over before it was broken comes back with the defaults, at release and by recover."""
    host = Host(root, nic())
    for release in (lambda: host.event(guest(NIC), "release", "shutdown"), lambda: libhook(host, "recover")):
        host.configure("")
        host.begin(guest(NIC))
        host.configure(CONFIGURATIONS[name][0])
        assert release().code == 0
        assert host.driver(NIC) == "e1000e"


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path) -> None:
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def _garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00\x1b[2J")


def _nested(path: Path) -> None:
    path.write_text("[" * 100000)


def _rename(path: Path, name: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))


def _another(path: Path) -> None:
    """What JSON takes for a number of the driver, a path in its name, a key too few."""
    fields = json.loads(path.read_text())
    fields["actions"][0]["now"] = ["../../../../tmp/x", ""]
    path.write_text(json.dumps(fields))


def _device(path: Path) -> None:
    """As /dev/zero, which never ends."""
    path.unlink()
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


def _sparse(path: Path) -> None:
    """A GB that takes no room: whoever reads it whole is killed for it."""
    path.write_text("")
    os.truncate(path, 1 << 30)


OWNERSHIPS: dict[str, Callable[[Path], object]] = {
    "a link": _link,
    "writable by the group": lambda path: path.chmod(0o664),
    "writable by others": lambda path: path.chmod(0o602),
    "a fifo": _fifo,
    "a folder": _folder,
}
if os.geteuid() == 0:
    OWNERSHIPS["another's"] = lambda path: os.chown(path, 65534, 65534)
    OWNERSHIPS["a device"] = _device
CONTENTS: dict[str, Callable[[Path], object]] = {
    "cut in half": _cut,
    "empty": lambda path: path.write_text(""),
    "garbage": _garbage,
    "a GB of nothing": _sparse,
    "deeply nested": _nested,
    "a list": lambda path: path.write_text("[]"),
    "an empty object": lambda path: path.write_text("{}"),
    "a path for a driver": _another,
    "a name with a null byte": lambda path: _rename(path, "\0"),
    "a name that is no file's": lambda path: _rename(path, "\ud800"),
}


@pytest.mark.parametrize("how", OWNERSHIPS)
def test_a_configuration_that_others_could_have_written_is_not_read(root: str, how: str) -> None:
    """The line names the file; a FIFO does not hang anybody."""
    host = Host(root, nic(), "dry_run = true\n")
    OWNERSHIPS[how](Path(host.machine.config))
    outcome = host.event(guest(NIC), "prepare")
    assert outcome.code == 1
    assert host.machine.config in outcome.line
    assert (outcome.writes, outcome.changed) == ((), ())


@pytest.mark.parametrize("how", [*OWNERSHIPS, *CONTENTS])
def test_a_broken_entry_is_never_guessed_at(root: str, how: str) -> None:
    """Prepare and start are refused with a line that names the file; the rest is logged; nothing is touched."""
    host = Host(root, workstation())
    host.begin(guest(NIC))
    path = Path(host.machine.state) / "domains" / f"{Guest().uuid}.json"
    (OWNERSHIPS | CONTENTS)[how](path)
    for operation in ("prepare", "start", "started", "reconnect", "release"):
        outcome = host.event(guest(NIC), operation, "shutdown" if operation == "release" else "-")
        assert (outcome.writes, outcome.changed) == ((), ())
        if operation in ("prepare", "start"):
            assert outcome.code == 1
            assert str(path) in outcome.line
        else:
            assert (outcome.code, outcome.stderr) == (0, ())
            assert any(str(path) in str(entry.values()) for entry in outcome.log if entry["level"] == "error")
    for command in (("status",), ("status", "--json"), ("recover",), ("recover", "--dry-run")):
        done = libhook(host, *command)
        assert done.code == 1
        assert str(path) in done.err
        assert done.err.count("\n") == 1
        assert done.err.rstrip("\n").isprintable()
    assert host.driver(NIC) == "vfio-pci"


@pytest.mark.parametrize("how", ["cut in half", "a link", "a name with a null byte"])
def test_one_broken_entry_does_not_stop_the_other_guests(root: str, how: str) -> None:
    """They start, stop and recover as ever; also where libvirt's document is broken as well."""
    host = Host(root, workstation())
    host.begin(guest(NIC))
    path = Path(host.machine.state) / "domains" / f"{Guest().uuid}.json"
    (OWNERSHIPS | CONTENTS)[how](path)
    other = guest(DISK, name="other")._replace(uuid=OTHER)
    for xml in (None, b"broken"):
        host.begin(other)
        assert host.driver(DISK) == "vfio-pci"
        assert host.event(other, "release", "shutdown", xml=xml).code == 0
        assert host.driver(DISK) == "nvme"
    assert host.event(other, "prepare").code == 0
    host.libvirt.restart()
    done = libhook(host, "recover")
    assert (done.code, done.out) == (1, "other: given back\n")
    assert str(path) in done.err
    assert host.driver(DISK) == "nvme"


def test_an_entry_of_another_boot_is_void(root: str) -> None:
    """A boot undoes every binding: the guest starts as if there were none, and ends like any other."""
    host = Host(root, nic())
    assert host.event(guest(NIC), "prepare").code == 0
    host.somebody_rebinds(NIC, "\n")
    Path(root, "proc/sys/kernel/random/boot_id").write_text("another\n")
    assert libhook(host, "status") == (0, "nothing is held\n", "")
    other = guest(NIC, name="other")._replace(uuid=OTHER)
    host.begin(other)
    assert host.event(other, "release", "shutdown").code == 0
    host.begin(guest(NIC))
    assert host.event(guest(NIC), "release", "shutdown").code == 0
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_a_wrong_number_of_arguments(root: str, count: int) -> None:
    """Exit code 2 and one line from the command."""
    host = Host(root, nic())
    done = libhook(host, "hook", *["prepare"] * count, stdin=GOOD)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"{count} arguments instead of 4: ")
    assert done.err.count("\n") == 1


def test_an_unknown_operation_is_logged(root: str) -> None:
    """Exit code 0: a newer libvirt may have it."""
    host = Host(root, nic())
    outcome = host.call(("win11", "resume\n", "begin", "-"), document())
    assert (outcome.code, outcome.stderr) == (0, ())
    (entry,) = outcome.logged("unknown operation")
    assert entry["operation"] == "resume\\n"
    assert host.leftovers == []
