# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who defines a guest makes a name as long as it may be, or devices as many: what is journalled can be read again."""

import json
from pathlib import Path
from unittest import mock

import pytest
from aftermath import recover
from cases import DISK, NIC
from command import libhook
from scenario import Host, guest

from libhook.effects import files
from libhook.errors import BadInput
from libhook.facts.identity import Note
from libhook.simulation.hosts import nic, workstation
from libhook.xml import domxml

WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
_ISCSI = "<hostdev mode='subsystem' type='scsi'><source protocol='iscsi' name='{}'><host name='a'/></source></hostdev>"
_LUN = "iqn.1992-01.com.example:" + "a" * 199
"""223 bytes, as many as RFC 7143 allows."""


def _with(devices: str, name: str = "win11", one: bytes | None = None) -> bytes:
    document = (one or WIN11.xml(1, False)).decode()
    return document.replace("<devices>", f"<devices>{devices}", 1).replace(">win11<", f">{name}<", 1).encode()


def test_a_name_of_2_mib_refuses_the_start_before_anything_is_done(root: str) -> None:
    """As JSON each DEL has six characters; nothing is journalled, and the other device of the guest is not touched."""
    host = Host(root, nic())
    document = _with(_ISCSI.format("\x7f" * (2_800_000)))
    for dry_run in (True, False):
        outcome = host.call(("win11", "prepare", "begin", "-"), document, dry_run=dry_run)
        said = "\n".join(outcome.stderr)
        assert "the iSCSI name '" in said
        assert "has more than 255 bytes, line " in said
        assert len(said) < 1000
    assert (outcome.code, outcome.writes, host.driver(NIC)) == (1, (), "e1000e")
    assert host.records == [f"start {NIC} failed"]
    host.call(("win11", "release", "end", "failed"), document)
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("operation", ["started", "reconnect"])
def test_the_same_in_a_guest_that_runs_costs_that_device_and_nothing_else(root: str, operation: str) -> None:
    """An earlier libhook let it start. The others are recorded, and come back at its end."""
    host = Host(root, nic())
    document = _with(_ISCSI.format("a" * 300))
    assert host.event(WIN11, "prepare").code == 0
    assert host.event(WIN11, "start").code == 0
    outcome = host.call(("win11", operation, "begin", "-"), document)
    assert (outcome.code, outcome.stderr) == (0, ())
    assert [line["event"] for line in outcome.log].count("device skipped") == 1
    host.call(("win11", "release", "end", "shutdown"), document)
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


_LONG = {
    "iSCSI": _ISCSI.format("a" * 256),
    "iSCSI of two bytes each": _ISCSI.format("é" * 128),
    "adapter": "<hostdev type='scsi'><source><adapter name='" + "a" * 256 + "'/>"
    "<address bus='0' target='0' unit='0'/></source></hostdev>",
    "driver": "<hostdev type='pci'><driver model='" + "a" * 256 + "'/><source><address/></source></hostdev>",
}  # fmt: skip


@pytest.mark.parametrize("what", _LONG)
def test_each_name_has_a_bound(what: str) -> None:
    """The device is left out, with a line that has the beginning of the name; alone it is no device at all."""
    domain = domxml.parse(_with(_LONG[what]))
    assert [device.address for device in domain.devices] == [NIC]
    (line,) = domain.too_long
    assert "…' has more than 255 bytes, line " in line
    assert (domain.warnings, len(line) < 200) == ((), True)
    with pytest.raises(BadInput, match="has more than 255 bytes"):
        domxml.parse_device(_LONG[what].encode())


def test_a_guest_with_such_a_device_is_not_started(root: str) -> None:
    """Before anything is done: QEMU would have a device that libhook knows nothing of."""
    host = Host(root, nic())
    planned = json.loads(libhook(host, "plan", "--json", "-", stdin=_with(_LONG["iSCSI"])).out)
    refused = [one["reason"] for one in planned["actions"] if one["action"] == "refuse"]
    assert ["has more than 255 bytes" in reason for reason in refused] == [True]
    outcome = host.call(("win11", "prepare", "begin", "-"), _with(_LONG["iSCSI"]))
    assert (outcome.code, outcome.writes, "has more than 255 bytes" in outcome.line) == (1, (), True)
    assert host.call(("win11", "release", "end", "failed"), _with(_LONG["iSCSI"])).code == 0
    assert (host.changed, host.leftovers) == ([], [])


def test_inspect_says_which_device_is_left_out(root: str, tmp_path: Path) -> None:
    """By the beginning of its name, and its line."""
    host, path = Host(root, nic()), tmp_path / "win11.xml"
    path.write_bytes(_with(_ISCSI.format("a" * 256)))
    said = libhook(host, "inspect", str(path)).err
    assert said.startswith("skipped: the iSCSI name 'aaa")


def test_what_is_as_long_as_it_may_be_is_taken() -> None:
    """A name of RFC 7143 with a unit of 64 bits, a guest's name as of a file; an alias that is longer is none."""
    domain = domxml.parse(_with(_ISCSI.format(f"{_LUN}/{2**64 - 1}"), "g" * 255))
    assert (len(domain.devices), len(domain.name), domain.too_long) == (2, 255, ())
    for alias, taken in (("a" * 255, True), ("a" * 256, False), ("é" * 127, True), ("é" * 128, False)):
        one = f"<hostdev type='usb'><alias name='{alias}'/><source><address bus='1' device='2'/></source></hostdev>"
        assert [one.alias for one in domxml.parse(_with(one)).devices if one.kind == "usb"] == [alias * taken]
    with pytest.raises(BadInput, match=r"the guest's name 'ggg.*…' has more than 255 bytes"):
        domxml.parse(_with("", "g" * 256))
    with pytest.raises(BadInput, match=r"domain type 'aaa.*…' is not one of libvirt's"):
        domxml.parse(WIN11.xml(1, False).replace(b"type='kvm'", b"type='" + b"a" * 90 + b"'", 1))


def test_an_entry_that_could_not_be_read_again_is_refused_before_anything_is_done(root: str) -> None:
    """So many devices that each is short: the dry run says the same. What grows later has room."""
    host = Host(root, nic())
    usb = "".join(
        f"<hostdev type='usb'><source><address bus='1' device='{number}'/></source></hostdev>"
        for number in range(1, 200)
    )
    said = "the journal entry of the guest win11 would have more than 0 MiB"
    with mock.patch.object(files, "_ROOM", 20_000):
        dry = host.call(("win11", "prepare", "begin", "-"), _with(usb), dry_run=True)
        outcome = host.call(("win11", "prepare", "begin", "-"), _with(usb))
        assert any(said in line for line in dry.stderr)
        assert (outcome.code, said in outcome.line) == (1, True)
        assert (outcome.writes, host.driver(NIC)) == ((), "e1000e")
        host.call(("win11", "release", "end", "failed"), _with(usb))
    assert host.leftovers == []
    with mock.patch.object(files, "_ROOM", 2_000_000), mock.patch.object(files, "LONGEST", 40_000):
        assert host.call(("win11", "prepare", "begin", "-"), _with(usb)).code == 1
        host.call(("win11", "release", "end", "failed"), _with(usb))
    assert (host.changed, host.leftovers) == ([], [])


def test_a_claim_that_could_not_be_read_again_is_refused(root: str) -> None:
    """The other guest's stays, and in the end the value is as before."""
    value = "/proc/sys/kernel/core_pattern"
    host, before = Host(root, workstation(), f'[values]\n"{value}" = "{"a" * 120}"\n'), "b" * 3500
    host.put(value, before)
    host.begin(WIN11)
    with mock.patch.object(files, "_ROOM", 3_000):
        outcome = host.event(OTHER, "prepare")
    assert outcome.code == 1
    assert f"the file of {value} would have more than 0 MiB" in outcome.line
    host.event(OTHER, "release", "failed")
    host.event(WIN11, "release", "shutdown")
    assert (host.read(value), host.leftovers) == (before, [])


@pytest.mark.parametrize("write", [files.replace, files.overwrite])
def test_no_file_is_written_that_is_too_long_to_be_read(tmp_path: Path, write: object) -> None:
    """The old one stays. One that somebody else made so long is called broken, and not cut."""
    path = tmp_path / "entry.json"
    path.write_text('"old"')
    path.chmod(0o600)
    with mock.patch.object(files, "LONGEST", 100):
        with pytest.raises(OSError, match="File too large"):
            write(str(path), "x" * 101)  # type: ignore[operator]
        assert files.read(str(path)) == '"old"'
        files.replace(str(path), "y" * 100)
        assert files.read(str(path)) == "y" * 100
        path.write_text("z" * 101)
        with pytest.raises(BadInput, match="has more than 0 MiB"):
            files.read(str(path))


def test_a_broken_entry_keeps_only_what_its_guest_may_have(root: str) -> None:
    """Its guest is gone: what it claims of the host comes back with recover, and what others claim was never kept."""
    host = Host(root, workstation(), _TWO)
    for path in (_A, _B):
        host.put(path, "60")
    host.begin(WIN11)
    host.begin(OTHER)
    assert (host.read(_A), host.read(_B)) == ("10", "20")
    entry = Path(host.machine.state, "domains", f"{WIN11.uuid}.json")
    entry.write_text("x" * 100)
    host.event(OTHER, "release", "shutdown")
    assert (host.read(_A), host.read(_B), host.driver(DISK)) == ("60", "60", "nvme")
    remedy = f"give back by hand the devices that it names, then run: libhook recover --give-up {WIN11.uuid}"
    shown = libhook(host, "recover")
    assert shown.err == f"{entry} is broken (Expecting value: line 1 column 1 (char 0)): {remedy}\n"
    assert host.event(WIN11, "prepare").line.endswith(remedy)
    third = guest(NIC, name="third")._replace(uuid="22222222-2222-3333-4444-555555555555")
    assert "whose journal entry is broken" in host.event(third, "prepare").line
    host.event(third, "release", "failed")
    dry = libhook(host, "recover", "--give-up", WIN11.uuid, "--dry-run")
    line = f"the broken journal entry {WIN11.uuid} {{}} given up: left where they are: {NIC} on vfio-pci\n"
    assert (dry.code, dry.out, entry.exists()) == (0, line.format("would be"), True)
    done = libhook(host, "recover", "--give-up", str(entry))
    assert (done.code, done.out) == (0, line.format("is"))
    assert (host.driver(NIC), host.leftovers) == ("vfio-pci", [])
    host.begin(third)


def test_a_broken_entry_of_a_guest_that_runs_is_not_given_up(root: str) -> None:
    """Its claims count as long as libvirt has the guest, and go with its end."""
    host = Host(root, workstation(), _TWO)
    for path in (_A, _B):
        host.put(path, "60")
    assert host.libvirt.start(WIN11).error == ""
    host.begin(OTHER)
    Path(host.machine.state, "domains", f"{WIN11.uuid}.json").write_text("")
    kept = libhook(host, "recover", "--give-up", WIN11.uuid)
    assert (kept.code, kept.err) == (1, f"the broken journal entry {WIN11.uuid} left alone: its guest may run\n")
    host.event(OTHER, "release", "shutdown")
    assert (host.read(_A), host.read(_B)) == ("10", "60")
    host.libvirt.stop(WIN11.name, "shutdown")
    assert (host.read(_A), host.read(_B)) == ("60", "60")
    assert libhook(host, "recover", "--give-up", WIN11.uuid).code == 0
    recover(host)
    assert host.leftovers == []


_A, _B = "/proc/sys/vm/swappiness", "/proc/sys/vm/overcommit_ratio"
_TWO = f'[domains.win11.values]\n"{_A}" = 10\n[domains.other.values]\n"{_A}" = 10\n"{_B}" = 20\n'


def test_a_note_of_the_longest_parts_can_be_read_again() -> None:
    """What /sys says of a device is cut before it is noted."""
    from libhook.facts.host import Identity

    longest = Identity(f"{'a' * 62}:{'b' * 64}", f"{'a' * 62}:{'b' * 64}", "c" * 64)
    note = Note(WIN11.uuid, "g" * 255).with_start("g" * 255, {NIC: longest}, 1)
    assert Note.from_json(json.loads(json.dumps(note.to_json()))) == note
