# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others under a real libvirtd and kernel: one that works, and such as try what they may not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import Guest, libhook, pci
from host import NIC, driver_of, wait_for
from trail import expect_returned, in_log

FOLDER, INDEX = Path("/etc/libhook/handlers"), Path("/etc/libhook/handlers.json")
SWAPPINESS = Path("/proc/sys/vm/swappiness")
WANTS = "[handlers.lab]\n"
METADATA = "<metadata><lab:host xmlns:lab='https://example.org/lab' swappiness='17'/></metadata>"
GOOD = """
from xml.etree import ElementTree
from libhook.handler import handler

@handler(api=1, operations=("prepare",))
def asked(given):
    found = ElementTree.fromstring(given["document"]).find("metadata/{https://example.org/lab}host")
    return {"settings": {"values": {"vm.swappiness": int(found.get("swappiness"))}}}
"""
ENEMIES = {
    "raises": ("1 / 0", "line 6): ZeroDivisionError"),
    "loops": ("while True: pass", "lab.py): it "),
    "allocates": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "MemoryError"),
    "forks": ("re.enum.sys.modules['os'].fork()", "line 6): BlockingIOError"),
    "answers nonsense": ("return {'start': True}", "the answer has 'start'; it may have refuse"),
    "takes another's device": (
        "return {'settings': {'take_along': ['0000:00:1f.2']}}",
        "settings has 'take_along'; at prepare it may have",
    ),
    "refuses another's device": (
        "return {'refuse': [{'device': '0000:00:1f.2', 'reason': 'x'}]}",
        "it refuses '0000:00:1f.2', which is no device of the guest",
    ),
    "writes": ("open('/etc/lab-was-here', 'w')", "line 6): OSError"),
    "makes a folder": ("re.enum.sys.modules['os'].mkdir('/lab-was-here')", "line 6): "),
    "opens a socket": (
        "b = re.enum.sys.modules['_frozen_importlib']\nb._load(b.BuiltinImporter.find_spec('_socket')).socket()",
        "line 7): OSError",
    ),
}


@pytest.fixture(autouse=True)
def folder() -> Iterator[None]:
    """There is no other handler."""
    FOLDER.mkdir(exist_ok=True)
    yield
    shutil.rmtree(FOLDER)
    INDEX.unlink(missing_ok=True)


def _enable(text: str) -> str:
    (FOLDER / "lab.py").write_text(text)
    return libhook("handlers", "enable", "lab")


def _expect_recorded(one: Guest) -> None:
    wait_for("the record", lambda: [record.result for record in in_log(one, "start", ours=True)] == ["success"])


def _enemy(name: str, operations: str = '"prepare",') -> str:
    lines = "".join(f"    {line}\n" for line in ENEMIES[name][0].splitlines())
    head = "import re\nfrom libhook.handler import handler\n\n"
    return f"{head}@handler(api=1, operations=({operations}))\ndef asked(given):\n{lines}"


def test_a_value_from_the_guests_metadata(guest: MakeGuest, configure: Configure) -> None:
    """It holds as long as the guest, and the devices are handed over, recorded and given back as ever."""
    configure(WANTS)
    assert "prepare" in _enable(GOOD)
    before = SWAPPINESS.read_text()
    one = guest(pci(NIC), more=METADATA).start()
    assert (SWAPPINESS.read_text(), driver_of(NIC)) == ("17\n", "vfio-pci")
    _expect_recorded(one)
    assert "lab" in libhook("handlers")
    one.destroy()
    wait_for("the value", lambda: SWAPPINESS.read_text() == before)
    expect_returned(one)


@pytest.mark.rest
@pytest.mark.parametrize("name", list(ENEMIES))
def test_what_it_tries_refuses_the_guest_that_wants_it(guest: MakeGuest, configure: Configure, name: str) -> None:
    """In one line with its file, and nothing else comes of it."""
    configure(WANTS)
    _enable(_enemy(name))
    refusal = guest(pci(NIC)).start_refused()
    assert "handler lab (/etc/libhook/handlers/lab.py" in refusal
    assert ENEMIES[name][1] in refusal
    assert driver_of(NIC) == "e1000e"
    assert not [path for path in ("/etc/lab-was-here", "/lab-was-here") if Path(path).exists()]
    assert not [*Path("/run").glob("handler-*")]


@pytest.mark.rest
def test_where_nothing_can_be_refused_it_is_in_nobodys_way(guest: MakeGuest, configure: Configure) -> None:
    """The guest runs, its records are written, and its device comes back."""
    configure(WANTS)
    _enable(_enemy("loops", '"started", "release"'))
    one = guest(pci(NIC)).start()
    _expect_recorded(one)
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    expect_returned(one)


@pytest.mark.rest
def test_one_that_is_skipped(guest: MakeGuest, configure: Configure) -> None:
    """The settings say so."""
    configure(f'{WANTS}on_fault = "skip"\n')
    _enable(_enemy("raises"))
    guest(pci(NIC)).start().destroy()
