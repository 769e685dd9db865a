# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a child reads of a guest's XML is what this process would have read; and what it cannot say is read here."""

import errno
import os
import signal
from collections.abc import Callable
from unittest import mock

import pytest
from family import children
from xml_reading import DOCUMENTS, document, pci

from libhook.errors import BadInput
from libhook.facts.domain import Disk
from libhook.story import reading
from libhook.xml import domxml

DISK = "<disk type='nvme'><source type='pci'><address bus='3'/></source><target dev='vda'/></disk>"
GOOD = document(
    pci("bus='1'") + pci("bus='2'", "<driver name='vfio' model='mlx5_vfio_pci'/>") + DISK, name='\u00e9 "\\'
)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every document that this very process parses."""
    parsed: list[bytes] = []
    me, parse = os.getpid(), reading.parse

    def counted(document: bytes) -> object:
        if os.getpid() == me:
            parsed.append(document)
        return parse(document)

    monkeypatch.setattr(reading, "parse", counted)
    return parsed


def test_a_child_reads_the_same(here: list[bytes]) -> None:
    """Every field of every device of what libvirtd wrote; names that are no UTF-8 come through."""
    named = GOOD.replace(b"<name>", b'<name>\xc3\xa9 "\\', 1)
    for text in (*(path.read_bytes() for path in DOCUMENTS[::5]), GOOD, named):
        read = reading.begin(text)(text)
        assert read == domxml.parse(text)
        assert all(isinstance(disk, Disk) for device in read.devices for disk in device.disks)
    assert here == []


def test_what_a_child_refuses_is_refused_here(here: list[bytes]) -> None:
    """In the same words."""
    bad = GOOD[:-20]
    with pytest.raises(BadInput) as once:
        domxml.parse(bad)
    with pytest.raises(BadInput) as twice:
        reading.begin(bad)(bad)
    assert twice.value.line == once.value.line
    assert here == [bad]


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hangs() -> None:
    signal.pause()


@pytest.mark.parametrize("ends", [_dies, _hangs])
def test_a_child_that_does_not_answer_is_not_needed(
    here: list[bytes], ends: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parser that crashes, or hangs, costs its child; this process then parses as if there had been none."""
    monkeypatch.setattr(reading, "_PATIENCE", 0.2)
    parse, me = reading.parse, os.getpid()
    monkeypatch.setattr(reading, "parse", lambda document: parse(document) if os.getpid() == me else ends())
    waiting = reading.begin(GOOD)
    assert waiting(GOOD) == domxml.parse(GOOD)
    assert here == [GOOD]
    if ends is _hangs:
        for left in children():
            os.kill(left, signal.SIGKILL)
            os.waitpid(left, 0)


def test_where_no_process_is_to_be_had_it_is_parsed_here(here: list[bytes]) -> None:
    """The limit of libvirtd's service is reached."""
    with mock.patch("os.fork", side_effect=BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))):
        assert reading.begin(GOOD)(GOOD) == domxml.parse(GOOD)
    assert here == [GOOD]
