# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files and folders of /run/libhook replaced by what does not belong there: never followed, and in nobody's way.

The journal entry itself and the configuration are test_bad_input.py's: those are refused, since nobody may guess at
them.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from aftermath import recover
from amounts import FULL
from cases import DISK, NIC
from command import libhook
from disturbing import refusing
from scenario import Host, guest

from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.story.session import make_state
from libhook.testing import Outcome

pytestmark = pytest.mark.race

OTHER = "11111111-2222-3333-4444-555555555555"
UUID = Guest().uuid
TEXT = "not libhook's\n"
FILES = (
    f"claims/{NIC}",
    f"claims/{NIC}.new",
    f"domains/{UUID}.json.new",
    f"homes/{NIC}",
    f"homes/{NIC}.new",
    f"in-flight/{NIC}",
    "in-flight/nonsense",
    f"locks/domain-{UUID}",
    "locks/group-12",
    f"claims/{DISK}",
    "claims/nonsense",
    "domains/nonsense.json",
    f"domains/{OTHER}.json",
    f"unwaited/{UUID}",
)
FOLDERS = ("domains", "claims", "shared", "locks", "in-flight", "homes", "lost", "unwaited", "")


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file() or path.is_fifo() or path.is_char_device():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _link(path: Path) -> None:
    path.symlink_to(_elsewhere(path))


def _link_to_nothing(path: Path) -> None:
    path.symlink_to(_elsewhere(path).with_name("nothing"))


def _another_s(path: Path) -> None:
    path.write_text(OTHER)
    os.chown(path, 65534, 65534)


def _writable(path: Path) -> None:
    path.write_text(OTHER)
    path.chmod(0o666)


def _sparse(path: Path) -> None:
    """A GB that takes no room: whoever reads it whole is killed for it."""
    path.touch()
    os.truncate(path, 1 << 30)


FAKES: dict[str, Callable[[Path], object]] = {
    "a link": _link,
    "a link to nothing": _link_to_nothing,
    "a fifo": os.mkfifo,
    "a folder": Path.mkdir,
    "writable by all": _writable,
    "garbage": lambda path: path.write_bytes(b"../../../etc/passwd\xff\0\x1b[2J"),
    "empty": Path.touch,
    "half": lambda path: path.write_text(OTHER[:17]),
    "a GB of nothing": _sparse,
}
if os.geteuid() == 0:
    FAKES["another's"] = _another_s
    FAKES["a device"] = lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: never ends


def _fakes(where: str) -> list[str]:
    """All in the long run; in the ordinary one a few, others for each place."""
    return [what for at, what in enumerate(FAKES) if FULL or (at + FILES.index(where)) % 5 == 0]


def _elsewhere(path: Path) -> Path:
    """A file of somebody else's, in the host's /tmp."""
    root = path
    while not (root / "simulation").exists():
        root = root.parent
    return root / "tmp" / "elsewhere"


def _host(root: str) -> Host:
    host = Host(root, workstation())
    elsewhere = Path(root, "tmp", "elsewhere")
    elsewhere.parent.mkdir()
    elsewhere.write_text(TEXT)
    make_state(host.machine)
    return host


def _put(host: Host, where: str, what: str) -> Path:
    path = Path(host.machine.state, where)
    _remove(path)
    FAKES[what](path)
    return path


def _assert_nothing_followed(host: Host, outcomes: list[Outcome]) -> None:
    tmp = Path(host.root, "tmp")
    assert [path.name for path in tmp.iterdir()] == ["elsewhere"]
    assert (tmp / "elsewhere").read_text() == TEXT
    for outcome in outcomes:
        assert not [entry for entry in outcome.log if "itself failed" in str(entry)]
        assert all("itself failed" not in line and line.isprintable() for line in outcome.stderr)


@pytest.mark.parametrize("where", FILES)
def test_a_file_that_is_not_ours_keeps_no_guest_from_its_life(root: str, where: str) -> None:
    """It is replaced or passed over; where it cannot be, one line names it and nothing is touched."""
    host = _host(root)
    one = guest(NIC)
    for what in _fakes(where):
        path = _put(host, where, what)
        count = len(host.outcomes)
        prepared = host.event(one, "prepare")
        if prepared.code:
            marks = where.startswith("in-flight")
            assert what == "a folder" or (marks and "link" in what), what
            assert (NIC if marks else str(path).removesuffix(".new")) in prepared.line
            assert prepared.writes == ()
        else:
            assert host.driver(NIC) == "vfio-pci"
            assert [host.event(one, name).code for name in ("start", "started")] == [0, 0]
        assert host.event(one, "release", "failed" if prepared.code else "shutdown").code == 0
        assert host.changed == [], what
        assert host.state.load(UUID) is None
        recover(host)
        _assert_nothing_followed(host, host.outcomes[count:])
        _remove(path)


@pytest.mark.parametrize("where", FILES)
def test_a_file_that_is_not_ours_holds_no_device_back(root: str, where: str) -> None:
    """It appears while the guest runs; release gives back all the same, and forgets the entry."""
    host = _host(root)
    one = guest(NIC)
    for what in _fakes(where):
        count = len(host.outcomes)
        host.begin(one)
        path = _put(host, where, what)
        assert host.event(one, "release", "shutdown").code == 0
        assert host.changed == [], what
        assert host.state.load(UUID) is None
        recover(host)
        _assert_nothing_followed(host, host.outcomes[count:])
        _remove(path)


@pytest.mark.parametrize("what", ["a link", "a link to nothing", "a fifo", "writable by all", "empty"])
@pytest.mark.parametrize("where", FOLDERS)
def test_a_folder_that_is_not_ours_is_refused_in_one_line(root: str, where: str, what: str) -> None:
    """Prepare names it and touches nothing."""
    host = _host(root)
    path = _put(host, where, what)
    refused = host.event(guest(NIC), "prepare")
    assert refused.code == 1
    assert str(path).rstrip("/") in refused.line
    assert (refused.writes, refused.changed) == ((), ())
    assert host.event(guest(NIC), "release", "failed").code == 0
    recover(host)
    _assert_nothing_followed(host, host.outcomes)


@pytest.mark.parametrize("what", ["a link", "a fifo", "empty"])
@pytest.mark.parametrize("where", ["claims", "locks", "in-flight", "homes"])
def test_a_folder_that_is_not_ours_holds_no_device_back(root: str, where: str, what: str) -> None:
    """As long as the journal entry is there the device comes back; without a folder for locks as well."""
    host = _host(root)
    host.begin(guest(NIC))
    _put(host, where, what)
    assert host.event(guest(NIC), "release", "shutdown").code == 0
    assert host.changed == []
    assert host.state.load(UUID) is None
    recover(host)
    _assert_nothing_followed(host, host.outcomes)


def test_a_state_that_cannot_be_made_is_said(root: str) -> None:
    """Where /run is read-only: one line, nothing written, and the failure recorded."""
    host = Host(root, workstation())
    with refusing("mkdir", errno.EROFS):
        refused = host.event(guest(NIC), "prepare")
    assert refused.line == (
        f"{host.machine.state}: Read-only file system: make sure that root can write there: it holds libhook's journal"
    )
    assert (refused.code, refused.writes, host.records) == (1, (), [f"start {NIC} failed"])


@pytest.mark.parametrize("what", ["a file", "writable by others", "a link"])
def test_a_state_folder_that_is_not_ours_is_refused(root: str, what: str) -> None:
    """Whoever could write there could have root write anywhere; a guest that runs or ends goes on."""
    host = Host(root, workstation())
    folder = Path(host.machine.state)
    if what == "a file":
        folder.write_text("")
    elif what == "a link":
        Path(root, "elsewhere").mkdir()
        folder.symlink_to(Path(root, "elsewhere"))
    else:
        folder.mkdir()
        folder.chmod(0o777)
    for operation in ("prepare", "start", "started", "reconnect", "release"):
        outcome = host.event(guest(NIC), operation)
        assert outcome.code == (1 if operation in ("prepare", "start") else 0)
        assert outcome.writes == ()
        if outcome.code:
            assert str(folder) in outcome.line
    assert host.records == [f"start {NIC} failed"] * 2 or host.records == [f"start {NIC} failed"]
    assert UUID not in str(list(Path(root).rglob("*.json")))
    for command in ("status", "recover"):
        done = libhook(host, command)
        assert done.err.count("\n") <= 1
        assert "Traceback" not in done.err
