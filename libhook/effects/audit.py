# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sends audit records, and logs each one that could not be sent."""

from __future__ import annotations

import errno
import os

from libhook.children import telling
from libhook.children.child import Deadline
from libhook.effects.log import Log
from libhook.errors import LibhookError
from libhook.facts.host import Trail
from libhook.facts.machine import Machine
from libhook.facts.plan import Record
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SENT = b"sent"
_PATIENCE = 5.0
"""Seconds that the kernel gets to answer about its audit trail."""


def send(machine: Machine, records: Sequence[Record], log: Log, deadline: Deadline) -> frozenset[str]:
    """Send audit records; return the keys of the devices whose record the kernel did not take.

    A record that is not sent is logged whole, so that nothing is lost. When the deadline passes first, records without
    an answer may still be on their way. Their devices are not in the result.

    A child sends them. When the kernel's backlog is full, each send can block for 15 s, and libvirtd waits for us with
    the guest locked. libaudit answers above 0 when the kernel took the message, which does not mean that anybody wrote
    it down. It answers 0 when we may not send (no CAP_AUDIT_WRITE, or a user namespace), as if that were success.
    """
    if not records:
        return frozenset()

    def send_each(say: Callable[[bytes], None]) -> None:
        for record in records:
            try:
                answer = machine.kernel.record(record.text, record.success)
                say(_SENT if answer > 0 else os.strerror(-answer or errno.EPERM).encode())
            except (ImportError, OSError) as error:
                say(ascii(getattr(error, "strerror", "") or str(error)).strip("'").encode())

    try:
        answers = telling.lines(send_each, deadline)
    except LibhookError:
        # No child could be started, so this process sends. Otherwise nothing would be recorded.
        said: list[bytes] = []
        send_each(said.append)
        answers = [answer.decode() for answer in said]
    # If time is left, somebody killed the child. Then no record is on its way.
    known = len(records) if deadline.left else len(answers)
    unanswered = "the process that sent it was killed" if deadline.left else "no answer in time"
    answers += [unanswered] * (len(records) - len(answers))
    for record, answer in zip(records, answers, strict=True):
        result = "success" if record.success else "failed"
        if answer == _SENT.decode():
            log.add("info", "recorded", device=record.device, result=result)
        else:
            log.add("error", "not recorded", device=record.device, record=f"{record.text} res={result}", reason=answer)
    sent = _SENT.decode()
    return frozenset(record.device for record, answer in zip(records[:known], answers, strict=False) if answer != sent)


def trail(machine: Machine, deadline: Deadline) -> Trail | None:
    """Ask the kernel about its audit trail; None when it does not answer.

    A child asks. When the backlog is full, a process that asks sleeps like one that sends (kernel/audit.c,
    audit_receive).
    """

    def ask(say: Callable[[bytes], None]) -> None:
        answer = machine.kernel.trail()
        if answer is not None:
            say(b"%d %d %d %d %d" % answer)

    for line in telling.lines(ask, Deadline(min(deadline.at, Deadline.after(_PATIENCE).at))):
        enabled, daemon, lost, may_send, stopped = map(int, line.split())
        return Trail(bool(enabled), daemon, lost, bool(may_send), bool(stopped))
    return None
