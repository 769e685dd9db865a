# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nothing left of what every process needs: no process, no descriptor. Given or refused, and in the end as it began."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from aftermath import recover, wrong
from amounts import QUICK
from cases import NIC
from scenario import Host, Outcome, guest

from libhook.simulation.hosts import nic

STEP = 4 if QUICK else 1
OPERATIONS = ("prepare", "start", "started", "release")


@contextmanager
def _no_process(after: int) -> Iterator[None]:
    """So many can be had, and no more: the limit of libvirtd's service (TasksMax) is reached."""
    fork, count = os.fork, [0]

    def refuse() -> int:
        count[0] += 1
        if count[0] > after:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    with mock.patch("os.fork", refuse):
        yield


@contextmanager
def _no_descriptor(after: int) -> Iterator[None]:
    """So many more can be had (LimitNOFILE)."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _assert_answered(outcome: Outcome) -> None:
    """One line that says what is missing, or none; never a traceback."""
    if outcome.operation in ("prepare", "start"):
        assert outcome.code in (0, 1)
        assert len(outcome.stderr) == outcome.code
        assert all(line.isprintable() for line in outcome.stderr)
    else:
        assert (outcome.code, outcome.stderr) == (0, ())
    assert "itself failed" not in str(outcome.stderr)


@pytest.mark.parametrize("after", range(0, 9, STEP))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_process_is_to_be_had(root: str, operation: str, after: int) -> None:
    """At any fork from the first to the last: what was begun is undone by whoever comes next, and recorded truly."""
    host = Host(root, nic())
    one = guest(NIC)
    for before in OPERATIONS[: OPERATIONS.index(operation)]:
        assert host.event(one, before).code == 0
    with _no_process(after):
        outcome = host.event(one, operation, "shutdown" if operation == "release" else "-")
    _assert_answered(outcome)
    if operation == "prepare":
        assert (outcome.code == 0) == (host.driver(NIC) == "vfio-pci")
    if operation == "started":
        assert outcome.records == (outcome.records[0],)
        assert outcome.records[0].endswith("res=success")
    host.event(one, "release", "failed" if outcome.code else "shutdown")
    recover(host)
    assert wrong(host) == []


@pytest.mark.parametrize("after", range(0, 8, STEP))
@pytest.mark.parametrize("operation", ["prepare", "release"])
def test_no_descriptor_is_to_be_had(root: str, operation: str, after: int) -> None:
    """Wherever the last one is used up, the host is in the end as it began."""
    host = Host(root, nic())
    one = guest(NIC)
    if operation == "release":
        host.begin(one)
    with _no_descriptor(after), mock.patch("scenario.snapshot", return_value={}):
        try:
            outcome = host.event(one, operation)
        except OSError:  # the test's own
            outcome = None
    if outcome is not None and operation == "prepare" and outcome.code == 0:
        assert host.driver(NIC) == "vfio-pci"
    host.event(one, "release", "failed" if outcome is None or outcome.code else "shutdown")
    recover(host)
    assert [line for line in wrong(host) if "itself failed" not in line and "journal not written" not in line] == []
