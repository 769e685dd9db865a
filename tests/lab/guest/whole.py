# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole host, as far as a guest's settings may change it: what is there, one line a thing, and what differs."""

import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from host import PCI, STATE, driver_of, override_of, settled
from service import systemctl

Whole = dict[str, set[str]]
_OF_THE_LAB = ("sleep 5",)
"""Processes that come and go by themselves."""
_HELPERS = ("(udev-worker)", "systemd-userwork", "/systemd/systemd-executor ")
"""Of systemd. The last is any service in its first moment."""


def whole_host(values: Iterable[Path]) -> Whole:
    """The host as it is now, with these values."""
    addresses = (path.name for path in (PCI / "devices").iterdir())
    kept = (str(path.relative_to(STATE)) for path in STATE.rglob("*") if not path.is_dir())
    units = systemctl("list-units", "--full", "--plain", "--no-legend").splitlines()
    found: dict[str, Iterable[str]] = {
        "device": (f"{address} {driver_of(address)} {override_of(address)}" for address in addresses),
        "unit": (" ".join(line.split()[:4]) for line in units),
        "mount": map(_mount, Path("/proc/self/mountinfo").read_text().splitlines()),
        "value": (f"{path} {path.read_text().strip()}" for path in values),
        "module": map(_module, Path("/proc/modules").read_text().splitlines()),
        # Where a device was and who is served is kept on purpose.
        "kept": (name for name in kept if not name.startswith(("homes/", "served"))),
        "console": map(_console, Path("/sys/class/vtconsole").iterdir()),
        "file": map(_file, (path for path in Path("/etc").rglob("*") if not path.is_dir() or path.is_symlink())),
        "transient": map(str, Path("/run/systemd/transient").rglob("*")),
        "process": (line for line in map(_command, Path("/proc").glob("[0-9]*")) if line not in _OF_THE_LAB),
    }
    # A disk that comes back has another sequence number.
    return {what: {line for line in lines if line and "diskseq" not in line}
            for what, lines in found.items()}  # fmt: skip


def expect(before: Whole, now: Callable[[], Whole]) -> None:
    """The host is as before, or will be; a failure says what is not."""
    found = settled(lambda: differences(before, now()))
    assert not found, "the host is not as before: " + "; ".join(found)


def differences(before: Whole, now: Whole) -> list[str]:
    """What is missing, and what is new."""
    return [
        f"{sign} {what} {line}"
        for what in before
        for sign, lines in (("-", before[what] - now[what]), ("+", now[what] - before[what]))
        for line in sorted(lines)
    ]


def _mount(line: str) -> str:
    """Without its numbers, and that of its peer group: a new mount has them anew."""
    return " ".join(field for field in line.split()[3:] if not field.startswith(("shared:", "master:")))


def _module(line: str) -> str:
    """Its name, and what needs it."""
    fields = line.split()
    return f"{fields[0]} {' '.join(sorted(fields[3].split(',')))}"


def _console(path: Path) -> str:
    """What drives it, and whether it is bound."""
    return " ".join((path.name, *((path / name).read_text().strip() for name in ("name", "bind"))))


def _file(path: Path) -> str:
    seen = path.lstat()
    return f"{path} {seen.st_mode:o} {seen.st_uid} {seen.st_gid} {seen.st_size} {seen.st_ino} {seen.st_mtime_ns}"


def _command(process: Path) -> str:
    """Its arguments. The kernel's own processes have none, and systemd's helpers come and go."""
    with suppress(OSError):  # it has ended
        line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return "" if any(helper in line for helper in _HELPERS) else line
    return ""


def is_loaded(module: str) -> bool:
    """Whether the kernel has it, as a module."""
    return Path("/sys/module", module, "initstate").exists()


def states(*units: str) -> list[str]:
    """What systemd says of each: active, inactive."""
    return [systemctl("show", "--value", "--property=ActiveState", unit) for unit in units]


def run_quietly(*command: str) -> None:
    """Whatever comes of it."""
    subprocess.run(command, capture_output=True, check=False, timeout=600)
