# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a handler in /etc/libhook/handlers imports: ``from libhook.handler import handler``.

The contract is docs/own-handlers.md. Things are only added here.
"""

from __future__ import annotations

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Function = Callable[[dict[str, Any]], dict[str, Any] | None]


def handler(
    *, api: int, operations: tuple[str, ...], needs: tuple[str, ...] = (), provides: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Mark the one function of a handler that libhook is to ask, and say when it is asked.

    ``api`` is the version of the contract, 1. ``needs`` and ``provides`` are names of your own: a handler is asked
    after all that provide what it needs, and is given their answers.
    """
    declared = {"api": api, "operations": operations, "needs": needs, "provides": provides}

    def mark(function: Function) -> Function:
        function.libhook = declared  # type: ignore[attr-defined] # that is the mark
        return function

    return mark
