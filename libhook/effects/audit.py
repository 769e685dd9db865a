# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sends audit records, and says so where one could not be sent."""

from collections.abc import Iterable

from libhook.effects.kernel import Machine
from libhook.effects.log import Log
from libhook.plan import Record


def send(machine: Machine, records: Iterable[Record], log: Log) -> None:
    """Send them. One that is not sent is logged whole: the trail must not be shorter than what happened.

    libaudit's answer above 0 says that the kernel took the message, not that anybody wrote it down; 0 that it was
    not allowed to send (no CAP_AUDIT_WRITE, a user namespace), which libaudit hides as if it were success.
    """
    for record in records:
        try:
            answer = machine.kernel.record(record.text, record.success)
            reason = f"the kernel answered {answer}"
        except (ImportError, OSError) as error:
            answer, reason = 0, str(error)
        result = "success" if record.success else "failed"
        if answer > 0:
            log.add("info", "recorded", device=record.device, result=result)
        else:
            log.add("error", "not recorded", device=record.device, record=f"{record.text} res={result}", reason=reason)
