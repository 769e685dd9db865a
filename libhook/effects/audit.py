# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sends audit records, and logs each one that could not be sent."""

from __future__ import annotations

import errno
import os

from libhook.children.child import Deadline, ended
from libhook.children.worker import Crew, Worker
from libhook.effects.log import Log
from libhook.facts.host import Trail
from libhook.facts.machine import Machine
from libhook.facts.plan import Record
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SENT = "sent"
_SUCCESS, _FAILED = "success", "failed"
_PATIENCE = 5.0
"""Seconds that the kernel gets to answer about its audit trail."""


def send(
    machine: Machine, records: Sequence[Record], log: Log, deadline: Deadline, crew: Crew | None = None
) -> frozenset[str]:
    """Send audit records; return the keys of the devices whose record the kernel did not take.

    A record that is not sent is logged whole, so that nothing is lost. When the deadline passes first, records without
    an answer may still be on their way. Their devices are not in the result.

    A child sends them. When the kernel's backlog is full, each send can block for 15 s, and libvirtd waits for us with
    the guest locked. libaudit answers above 0 when the kernel took the message, which does not mean that anybody wrote
    it down. It answers 0 when we may not send (no CAP_AUDIT_WRITE, or a user namespace), as if that were success.
    """
    if not records:
        return frozenset()
    answers = _answers(machine, records, log, deadline, crew)
    if deadline.left and len(answers) < len(records):
        # Somebody killed the child, perhaps after the kernel took its record. Twice is better than never.
        answers += _answers(machine, records[len(answers) :], log, deadline, None)
    # If time is left even now, the second child was killed, too. Then no record is on its way.
    known = len(records) if deadline.left else len(answers)
    unanswered = "the process that sent it was killed" if deadline.left else "no answer in time"
    answers += [unanswered] * (len(records) - len(answers))
    for record, answer in zip(records, answers, strict=True):
        result = _SUCCESS if record.success else _FAILED
        if answer == _SENT:
            log.add("info", "recorded", device=record.device, result=result)
        else:
            log.add("error", "not recorded", device=record.device, record=f"{record.text} res={result}", reason=answer)
    return frozenset(record.device for record, answer in zip(records[:known], answers, strict=False) if answer != _SENT)


def _answers(machine: Machine, records: Sequence[Record], log: Log, deadline: Deadline, crew: Crew | None) -> list[str]:
    """Send records by a child. Return its answer to each, as far as it got."""
    worker = crew.spare() if crew else Worker(machine)
    try:
        texts = (text for record in records for text in (record.text, _SUCCESS if record.success else _FAILED))
        worker.begin(send_each, tuple(texts), looks=True)
    except OSError:
        # No child could be started, so this process sends. Otherwise nothing would be recorded.
        worker.abandon()
        return [_sent(machine, record.text, record.success) for record in records]
    has_ended = ended({worker.handle}, deadline)
    answers = worker.lines()
    if has_ended and worker.result() == 0:
        log.lend(worker)
    else:
        worker.abandon()
    return answers


def send_each(machine: Machine, output: int, *texts: str) -> None:
    """Send records, each given by its text and its result. A worker does it; it writes a line for each."""
    for text, result in zip(texts[::2], texts[1::2], strict=True):
        os.write(output, f"{_sent(machine, text, result == _SUCCESS)}\n".encode())


def _sent(machine: Machine, text: str, success: bool) -> str:
    """Send a record. Returns _SENT, or why it was not taken."""
    try:
        answer = machine.kernel.record(text, success)
    except (ImportError, OSError) as error:
        return ascii(getattr(error, "strerror", "") or str(error)).strip("'")
    return _SENT if answer > 0 else os.strerror(-answer or errno.EPERM)


def trail(machine: Machine, deadline: Deadline) -> Trail | None:
    """Ask the kernel about its audit trail; None when it does not answer.

    A child asks. When the backlog is full, a process that asks sleeps like one that sends (kernel/audit.c,
    audit_receive).
    """

    from libhook.children import telling  # few configurations ask for it

    def ask(say: Callable[[bytes], None]) -> None:
        answer = machine.kernel.trail()
        if answer is not None:
            say(b"%d %d %d %d %d" % answer)

    for line in telling.lines(ask, Deadline(min(deadline.at, Deadline.after(_PATIENCE).at))):
        enabled, daemon, lost, may_send, stopped = map(int, line.split())
        return Trail(bool(enabled), daemon, lost, bool(may_send), bool(stopped))
    return None
