# SPDX-License-Identifier: LGPL-2.1-or-later
"""Audit records on their way to the kernel: what was taken, what was not, and what nobody knows."""

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from unittest import mock

import overdue
import pytest
from disturbing import refusing
from family import until

from libhook.children.child import Deadline
from libhook.effects import audit
from libhook.effects.log import Log
from libhook.facts.host import Trail
from libhook.facts.machine import Machine
from libhook.facts.plan import Record
from libhook.look.linux import LinuxKernel

pytestmark = pytest.mark.usefixtures("childless")

RECORDS = (Record("pci a", "reason=start device=a", True), Record("pci b", "reason=stop device=b", False))
SENT = ["recorded device=pci a result=success", "recorded device=pci b result=failed"]


class Kernel(LinuxKernel):
    """One whose answer is whatever a test says."""

    def __init__(self, *answers: int | Exception | Callable[[], None], trail: Trail | None = None) -> None:
        """One for each record."""
        self._answers = dict(zip((record.text for record in RECORDS), answers, strict=False))
        self._trail = trail

    def record(self, text: str, success: bool) -> int:
        """Answer, or hang, or die."""
        assert success is (text == RECORDS[0].text)
        answer = self._answers[text]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer()
            return 1
        return answer

    def trail(self) -> Trail | None:
        """As it was said."""
        return self._trail


def _not_sent(record: Record, reason: str) -> str:
    result = "success" if record.success else "failed"
    return f"not recorded device={record.device} record={record.text} res={result} reason={reason}"


def _send(kernel: Kernel, seconds: float = 200) -> tuple[frozenset[str], list[str]]:
    machine = Machine("", kernel)
    log = Log(machine)
    missing = audit.send(machine, RECORDS, log, Deadline.after(seconds))
    lines = log.lines()
    log._entries.clear()
    return missing, lines


NOT_TAKEN: Mapping[str, tuple[int | Exception, str]] = {
    "not allowed": (0, os.strerror(errno.EPERM)),
    "refused": (-errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
    "no library": (ImportError("libaudit.so.1: no such file"), "libaudit.so.1: no such file"),
    "no socket": (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), os.strerror(errno.EMFILE)),
    "nothing said": (OSError(), ""),
}


@pytest.mark.parametrize("by", ["a child", "this process"])
@pytest.mark.parametrize("what", NOT_TAKEN)
def test_a_record_that_is_not_taken_stands_whole_in_the_log(what: str, by: str) -> None:
    """With the reason, and nobody else's record is said to be missing; also where no process is to be had."""
    answer, reason = NOT_TAKEN[what]
    with refusing("fork", errno.EAGAIN, lambda: by == "this process"):
        assert _send(Kernel(1, answer)) == (frozenset({"pci b"}), [SENT[0], _not_sent(RECORDS[1], reason)])
        assert _send(Kernel(answer, 7)) == (frozenset({"pci a"}), [_not_sent(RECORDS[0], reason), SENT[1]])
        assert _send(Kernel(1, 1)) == (frozenset(), SENT)


def test_where_a_child_cannot_be_told_what_to_send_this_process_sends() -> None:
    """There was no memory for it. The child is not left behind."""
    before = os.listdir("/proc/self/fd")
    with refusing("pwrite", errno.ENOSPC):
        assert _send(Kernel(1, 1)) == (frozenset(), SENT)
    assert os.listdir("/proc/self/fd") == before
    os.waitpid(-1, 0)


def test_of_a_record_that_is_still_on_its_way_nobody_says_that_it_is_missing(tmp_path: Path) -> None:
    """The kernel's backlog is full: the log has it all the same, since it may be lost."""
    begun, go = tmp_path / "begun", tmp_path / "go"

    def hang() -> None:
        begun.touch()
        until(go.exists)

    for first, missing in ((1, frozenset[str]()), (0, frozenset({"pci a"}))):
        overdue.reset()
        begun.unlink(missing_ok=True)
        overdue.when(begun.exists)
        answers = _send(Kernel(first, hang))
        assert (answers[0], answers[1][1]) == (missing, _not_sent(RECORDS[1], "no answer in time"))
    go.touch()
    os.waitpid(-1, 0)
    os.waitpid(-1, 0)


def test_what_a_killed_sender_had_not_sent_is_missing() -> None:
    """Nothing is on its way any more."""
    missing, lines = _send(Kernel(1, lambda: os.kill(os.getpid(), 9)))
    assert (missing, lines) == (
        frozenset({"pci b"}),
        [SENT[0], _not_sent(RECORDS[1], "the process that sent it was killed")],
    )


def test_what_a_killed_sender_had_not_sent_another_sends(tmp_path: Path) -> None:
    """Once: what it had sent is not sent again."""
    sent, killed = tmp_path / "sent", tmp_path / "killed"

    def note() -> None:
        sent.open("a").write("x")

    def be_killed_once() -> None:
        with suppress(FileExistsError):
            killed.mkdir()
            os.kill(os.getpid(), 9)

    assert _send(Kernel(note, be_killed_once)) == (frozenset(), SENT)
    assert (killed.exists(), sent.read_text()) == (True, "x")


def test_no_records_cost_no_child() -> None:
    """And none is missing."""
    with mock.patch("os.fork", side_effect=AssertionError):
        assert audit.send(Machine("", Kernel()), [], Log(Machine("", Kernel())), Deadline.after(200)) == frozenset()


@pytest.mark.parametrize(
    "trail", [None, Trail(True, 5, 7), Trail(False, 0, 0, False), Trail(True, 5, 0, False, stopped=True)]
)
def test_what_the_kernel_says_of_its_trail_comes_through(trail: Trail | None) -> None:
    """All of it, or that it does not say; each number as what it is."""
    found = audit.trail(Machine("", Kernel(trail=trail)), Deadline.after(200))
    assert found == trail
    assert found is None or [type(field) for field in found] == [bool, int, int, bool, bool]


@pytest.mark.parametrize("ours", [20.0, 1000.0])
def test_a_trail_that_does_not_answer_is_waited_for_only_so_long(
    tmp_path: Path, ours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the event's time, or by ours where that is shorter."""
    begun, go = tmp_path / "begun", tmp_path / "go"

    def hang(_: Kernel) -> None:
        begun.touch()
        until(go.exists)

    monkeypatch.setattr(Kernel, "trail", hang)
    monkeypatch.setattr(audit, "_PATIENCE", ours)
    overdue.when(begun.exists)
    assert audit.trail(Machine("", Kernel()), Deadline.after(1020 - ours)) is None
    go.touch()
    os.waitpid(-1, 0)
