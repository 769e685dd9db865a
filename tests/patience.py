# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has a second or a few in libhook has a minute in the tests: a machine that stands still makes nothing late.

A test in which something is late says so: it sets what it needs, or lets the clock of the tests go on (`overdue`).
"""

from libhook.command import completing, handlers
from libhook.effects import audit
from libhook.kinds.module import consoles
from libhook.look import descriptors, exports, sysfs, tenants, waiting
from libhook.story import consult, identities

_SECONDS = 60.0


def install() -> None:
    """Give each its minute, in this process and in those that are forked from it."""
    for module in (audit, completing, exports, identities, sysfs, tenants):
        vars(module)["_PATIENCE"] = _SECONDS
    for asking in (consult, handlers):
        vars(asking)["ASKED_FOR"] = _SECONDS
    consoles._FOR_FBCON = _SECONDS
    descriptors._PATIENCE_MS = 1000 * int(_SECONDS)
    waiting._TO_NAME = int(_SECONDS)
