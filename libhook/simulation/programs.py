# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of the simulated effects.kernel.Kernel that runs programs, and signals processes."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from libhook.simulation.answers import Answers

if TYPE_CHECKING:
    from libhook.facts.launch import Launch
    from libhook.simulation.kernel import SimulatedKernel


class Programs(Answers):
    """Plays them on the host in the folder ``root``."""

    def systemctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """Do what systemctl does."""
        from libhook.simulation import systemd

        answer: list[tuple[int, str]] = []
        call = f"systemctl {' '.join(arguments)}"
        self._answer(call, lambda: answer.append(systemd.systemctl(self.root, arguments, seconds)))
        return answer[0] if answer else (0, "")

    def systemd_run(self, arguments: tuple[str, ...], document: bytes, seconds: float) -> tuple[int, str]:
        """Do what systemd-run does."""
        from libhook.simulation import commands

        answer: list[tuple[int, str]] = []
        call = f"systemd-run {' '.join(arguments)}"
        self._answer(call, lambda: answer.append(commands.systemd_run(self.root, arguments, document, seconds)))
        return answer[0] if answer else (0, "")

    def run_group(self, launch: "Launch", seconds: float, *, whole: bool) -> tuple[int | None, str]:
        """Run a command that does nothing, and leaves nothing."""
        del whole
        from libhook.simulation import commands

        answer: list[tuple[int | None, str]] = []
        call = f"run-group {' '.join(launch.argv)}"
        self._answer(call, lambda: answer.append(commands.run_group(self.root, launch, seconds)))
        return answer[0] if answer else (0, "")

    def journalctl(self, arguments: tuple[str, ...], _seconds: float) -> tuple[int, str]:
        """Do what journalctl does."""
        from libhook.simulation import commands

        answer: list[tuple[int, str]] = []
        self._answer(
            f"journalctl {' '.join(arguments)}", lambda: answer.append(commands.journalctl(self.root, arguments))
        )
        return answer[0] if answer else (0, "")

    def _answer(self, call: str, react: Callable[[], None]) -> None:
        """React to a call, unless a fault is due."""
        if not os.path.lexists(f"{self.root}/simulation/faults"):
            react()
            return
        from libhook.simulation import faults

        faults.play(cast("SimulatedKernel", self), call, react)
