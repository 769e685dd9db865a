# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host on which the commands of the documents are run, for their test and for their pictures."""

import io
import os
import pty
import re
import select
import shlex
import subprocess
import termios
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import patience
from family import until
from trail_writing import OTHER, UUID, Trail

from libhook import cli
from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor
from libhook.simulation.libvirt import Libvirt

ROOT = Path(__file__).parents[2]
CARD = "0000:03:00.0"
GUEST = Guest("win11", (Assigned(CARD), Assigned("0000:03:00.1")))
COMMAND = 'import sys; sys.path.insert(0, "{}"); from libhook.cli import main; main()'
COLUMNS = 120
"""How wide the terminal is in which a person reads what the pages show."""
PATIENCE = 120
VIRSH = {
    "edit": "Domain '{}' XML configuration edited.\n",
    "start": "Domain '{}' started\n",
    "shutdown": "Domain '{}' is being shutdown\n",
}
"""What virsh says of what the simulated libvirtd does for it."""
ELSEWHERE = 'case "$*" in *--destdir*) ;; *) set -- "$@" --destdir {}/installed ;; esac'
"""install.sh does all below a folder, if the page does not name one."""
OLD_HOOK = """#!/bin/bash
if [ "$1" = win11 ] && [ "$2" = prepare ]; then
    systemctl stop display-manager
fi
if [ "$1" = win11 ] && [ "$2" = release ]; then
    systemctl start display-manager
fi
"""


class Stage:
    """A simulated host with a trail, its libvirtd, and a folder for a person's files and programs."""

    def __init__(self, root: str, folder: Path) -> None:
        self.root, self.folder = root, folder
        build(root, workstation())
        for name in ("bin", "work"):
            (folder / name).mkdir()
        self._launcher = patience.copy(folder / "libhook", 60.0)
        ours = self._launcher.parents[1]
        for name, script in (
            ("bin/libhook", f"exec /usr/bin/python3 -c '{COMMAND.format(ours)}' \"$@\""),
            ("bin/virsh", '[ "$1" = dumpxml ] && exec cat win11.xml'),
            ("bin/ausearch", f"exec cat {root}/var/log/audit/audit.log"),
            ("work/install.sh", f'{ELSEWHERE.format(folder)}\nexec {ROOT}/install.sh "$@"'),
        ):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        (folder / "work/win11.xml").write_bytes(GUEST.xml())
        (folder / "work/nic.xml").write_bytes(Assigned("0000:01:00.0").xml(0).strip().encode())
        self._hook_file = Path(root, "etc/libvirt/hooks/qemu")
        launcher = re.sub(r"^lib=\S+", f"lib={ours}", (ROOT / "hooks/qemu").read_text(), count=1, flags=re.M)
        for path, content in (
            ("var/log/audit/audit.log", bytes(trail())),
            ("etc/libvirt/qemu/win11.xml", GUEST._replace(devices=()).xml()),
            ("etc/libhook/handlers/night.py", _handler()),
            ("etc/libvirt/hooks/qemu", launcher.encode()),
        ):
            Path(root, path).parent.mkdir(parents=True, exist_ok=True)
            Path(root, path).write_bytes(content)
        self._hook_file.chmod(0o755)
        self.environment = {
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
            "TZ": "UTC",
            "COLUMNS": str(COLUMNS),
            "LIBHOOK_ROOT": root,
        }
        self.libvirt = Libvirt(root, self._hook)

    def old_hooks(self) -> None:
        """The host has old hooks, and not libhook's yet."""
        self._hook_file.write_text(OLD_HOOK)
        Path(self.root, "etc/libvirt/hooks/qemu.d").mkdir()

    def rotated(self) -> None:
        """auditd has rotated its log."""
        log = Path(self.root, "var/log/audit/audit.log")
        first, *rest = log.read_bytes().splitlines(keepends=True)
        log.with_name("audit.log.1").write_bytes(first)
        log.write_bytes(b"".join(rest))

    def card_changed(self) -> None:
        """The guest has run, and then its card was replaced by another."""
        self.run("virsh start win11")
        self.run("virsh shutdown win11")
        Path(self.root, f"sys/bus/pci/devices/{CARD}/device").write_text("0x744c\n")

    def run(self, command: str, *, at_terminal: bool = False) -> tuple[int, str]:
        """How a command ended, and what it printed. What libvirt does is done by the simulated libvirtd."""
        words = shlex.split(command, comments=True)
        if words[0] in ("libhook", "virsh") and words[1] not in ("devices", "doctor"):
            # by then a reader has configured the guest
            Path(self.root, "etc/libvirt/qemu/win11.xml").write_bytes(GUEST.xml())
        if words[:1] == ["virsh"] and words[1] in VIRSH:
            return self._virsh(*words[1:])
        if words[0] == "libhook" and words[1] in ("attach", "detach"):
            return self._plug(words)
        if words == ["./install.sh", "--purge"]:  # in the place of --uninstall, not after it
            self._in_pipe(["./install.sh"])
        if words[0] in ("mkdir", "mv", "sha256sum", "head"):
            command = re.sub(r" (?=/(?:etc|var)/)", f" {self.root}", command)
        line = ["/bin/bash", "-c", f"set -o pipefail; {command}"]
        return self._at_terminal(line) if at_terminal else self._in_pipe(line)

    def _in_pipe(self, line: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            line,
            cwd=self.folder / "work",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def _at_terminal(self, line: list[str]) -> tuple[int, str]:
        terminal, inside = pty.openpty()
        termios.tcsetwinsize(inside, (50, int(self.environment["COLUMNS"])))
        child = subprocess.Popen(
            line, cwd=self.folder / "work", env=self.environment, stdin=inside, stdout=inside, stderr=inside
        )
        os.close(inside)
        shown = b""
        try:
            while select.select([terminal], [], [], PATIENCE)[0]:
                shown += os.read(terminal, 4096)
        except OSError:  # EIO: the last process has closed it
            return child.wait(PATIENCE), shown.decode().replace("\r\n", "\n")
        finally:
            os.close(terminal)
        child.kill()
        raise TimeoutError(f"{line} prints nothing, and does not end")

    def _virsh(self, verb: str, name: str) -> tuple[int, str]:
        error = self.libvirt.start(GUEST).error if verb == "start" else ""
        if verb == "shutdown":
            self.libvirt.stop(GUEST.name, "shutdown")
        until(lambda: not Path(self.root, "run/libhook/locks", f"domain-{GUEST.uuid}").exists())
        return int(bool(error)), error or VIRSH[verb].format(name)

    def _plug(self, words: list[str]) -> tuple[int, str]:
        """In this process, where the simulated libvirtd is. The guest does not answer where it may take its time."""
        if not self.libvirt.guests:
            self.libvirt.start(GUEST)
        hypervisor = Hypervisor(self.libvirt, detach="silent" if "--timeout" in words else "gone")
        out = io.StringIO()
        with (
            mock.patch("libhook.command.commands.Hypervisor", return_value=hypervisor),
            mock.patch.dict("os.environ", self.environment, clear=True),
            mock.patch("sys.argv", [*words[:3], f"{self.folder}/work/{words[3]}", *words[4:]]),
            redirect_stdout(out),
            redirect_stderr(out),
        ):
            try:
                cli.main()
            except SystemExit as end:
                return int(end.code or 0), out.getvalue()
        raise AssertionError("main() returns")

    def _hook(self, *arguments: str | bytes) -> tuple[int, str]:
        *words, xml = arguments
        done = subprocess.run(
            [str(self._launcher), *map(str, words)], input=xml, env=self.environment, capture_output=True,
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
