# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lives of a guest with two devices, by whatever hook is installed at each event; as a program, with ROOT HOOK COUNT.

A process of its own, since it waits for all its children. It fails where a life leaves anything, and says what.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cases import DISK, NIC
from scenario import Host, guest

from libhook.simulation import store
from libhook.simulation.hosts import workstation


def play(root: str, hook: str, count: int) -> list[str]:
    """What is wrong, of each life."""
    host = Host(root, workstation(), launcher=True)
    before = {address: host.driver(address) for address in (NIC, DISK)}

    def launch(command: list[str], document: bytes, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
        done = subprocess.run([hook, *command[1:]], input=document, capture_output=True, env=environment, check=False)
        return done.returncode, done.stdout, done.stderr

    host.launching = launch
    wrong = []
    for life in range(count):
        started = host.libvirt.start(guest(NIC, DISK))
        if not started.error:
            host.libvirt.stop("win11", "shutdown")
        now = {address: host.driver(address) for address in before}
        said = [line for outcome in host.outcomes for line in outcome.stderr]
        log = [entry for entry in store.lines(f"{root}/var/log/libhook.jsonl") if entry["level"] == "error"]
        records = [" ".join(record.split()[:2]) for outcome in host.outcomes for record in outcome.records]
        if started.error or now != before or said or log or host.leftovers or len(records) != 4:
            wrong.append(f"life {life}: {started.error} {now} {said} {log} {host.leftovers} {records}")
        host.outcomes.clear()
        Path(root, "var/log/libhook.jsonl").unlink(missing_ok=True)
    return wrong


if __name__ == "__main__":
    found = play(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
