# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a handler by others can be asked, and what to do where it cannot. Nothing of it is run for that."""

from collections.abc import Mapping
from typing import NamedTuple

from libhook.errors import BadInput
from libhook.facts import ownhandler
from libhook.facts.machine import Machine
from libhook.facts.ownhandler import Enabled
from libhook.look import ownhandlers


class Standing(NamedTuple):
    """How it stands with a handler."""

    state: str
    """``enabled``, ``changed``, ``not enabled``, ``not trusted`` or ``missing``."""
    what: str = ""
    """What is wrong, after the handler's name; "" where it is enabled."""
    remedy: str = ""


def of(machine: Machine, name: str, index: Mapping[str, Enabled]) -> Standing:
    """Compare a handler's files with what the index has of them."""
    enable = f"run: libhook handlers enable {name}"
    try:
        code = ownhandlers.read(machine, name)
    except BadInput as error:
        state = "missing" if error.message.startswith("there is no ") else "not trusted"
        return Standing(state, error.message, ownhandler.then_enable(error.hint, name))
    enabled = index.get(name)
    if enabled is None:
        return Standing("not enabled", "it is not enabled", enable)
    if [file.stamp for file in code.files] != list(enabled.files):
        return Standing("changed", "it was changed since it was enabled", f"check what was changed, then {enable}")
    return Standing("enabled")
