# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host on which the commands of the documents are run, for their test and for their pictures."""

import re
import shlex
import subprocess
from pathlib import Path

from family import until
from trail_writing import OTHER, UUID, Trail

from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.libvirt import Libvirt

ROOT = Path(__file__).parents[2]
CARD = "0000:03:00.0"
GUEST = Guest("win11", (Assigned(CARD), Assigned("0000:03:00.1")))
COMMAND = f'import sys; sys.path.insert(0, "{ROOT}"); from libhook.cli import main; main()'


class Stage:
    """A simulated host with a trail, its libvirtd, and a folder for a person's files and programs."""

    def __init__(self, root: str, folder: Path) -> None:
        self.root, self.folder = root, folder
        build(root, workstation())
        for name in ("bin", "work"):
            (folder / name).mkdir()
        (folder / "work/win11.xml").write_bytes(GUEST.xml())
        for name, script in (
            ("libhook", f"exec /usr/bin/python3 -c '{COMMAND}' \"$@\""),
            ("virsh", '[ "$1" = dumpxml ] && exec cat win11.xml'),
            ("ausearch", f"exec cat {root}/var/log/audit/audit.log"),
        ):  # fmt: skip
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / "bin" / name).chmod(0o755)
        for path, content in (
            ("var/log/audit/audit.log", bytes(trail())),
            ("etc/libvirt/qemu/win11.xml", GUEST._replace(devices=()).xml()),
            ("etc/libhook/handlers/night.py", _handler()),
        ):
            Path(root, path).parent.mkdir(parents=True, exist_ok=True)
            Path(root, path).write_bytes(content)
        self.environment = {
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "COLUMNS": "120",
            "LIBHOOK_ROOT": root,
        }
        self.libvirt = Libvirt(root, self._hook)

    def run(self, command: str) -> tuple[int, str]:
        """How a command ended, and what it printed. What virsh changes is done by the simulated libvirtd."""
        words = shlex.split(command, comments=True)
        if words[:2] not in (
            ["libhook", "devices"],
            ["libhook", "doctor"],
        ):  # by then a reader has configured the guest
            Path(self.root, "etc/libvirt/qemu/win11.xml").write_bytes(GUEST.xml())
        if words[:1] == ["virsh"] and words[1] in ("edit", "start", "shutdown"):
            error = self.libvirt.start(GUEST).error if words[1] == "start" else ""
            if words[1] == "shutdown":
                self.libvirt.stop(GUEST.name, "shutdown")
            until(lambda: not Path(self.root, "run/libhook/locks", f"domain-{GUEST.uuid}").exists())
            return int(bool(error)), error
        done = subprocess.run(
            ["/bin/bash", "-c", f"set -o pipefail; {command}"],
            cwd=self.folder / "work",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def _hook(self, *arguments: str | bytes) -> tuple[int, str]:
        *words, xml = arguments
        done = subprocess.run(
            [str(ROOT / "hooks/qemu"), *map(str, words)], input=xml, env=self.environment, capture_output=True,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stderr.decode()


def trail() -> Trail:
    """A guest's life, a start that failed, a silence, and a device that is held: what docs/history.md shows."""
    log = Trail().device("libhook", "start", device=CARD).device("libvirtd", "start", device=CARD, after=52)
    log.control("start").device("libhook", "stop", device=CARD, after=1_958_000).control("stop")
    log.device("libhook", "start", False, after=444_000, vm="build", uuid=OTHER, device=CARD)
    log.device("libvirtd", "start", vm="build", uuid=OTHER, device=CARD).control("start", False, vm="build", uuid=OTHER)
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=600_000)
    return log.device("libvirtd", "attach", bus="usb", device="001.004", uuid=UUID, after=30_000)


def _handler() -> bytes:
    """The first handler of docs/own-handlers.md, which the page has its reader enable."""
    text = (ROOT / "docs/own-handlers.md").read_text()
    code: str
    (code,) = re.findall(r"`night\.py` [^`]*\n\n```python\n(.*?)```", text, flags=re.S)
    return code.encode()
