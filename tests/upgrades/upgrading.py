# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several versions of libhook, installed over each other by install.sh, as on a host that is upgraded."""

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import patience
from cases import NIC
from family import Begun, descendants, environment, program, until
from scenario import guest

WIN11 = guest(NIC)

ROOT = Path(__file__).parents[2]
RENAMED = {"first": "", "second": "printable", "third": "LibhookError"}
"""A name that is called otherwise in a version's every file: who imports from two versions finds that it is missing."""


class Versions:
    """What is installed below a folder that plays the host, and runs from there."""

    def __init__(self, folder: Path) -> None:
        """Nothing is installed yet; the prefix leads into the host, where the hook and the command look for it."""
        self.host = folder / "host"
        self.prefix = folder / "prefix"
        self.hook = self.host / "etc/libvirt/hooks/qemu"
        self.command = self.prefix / "bin/libhook"
        self.lib = self.prefix / "lib/libhook"
        inside = self.host / str(self.prefix)[1:]
        inside.mkdir(parents=True)
        self.prefix.symlink_to(inside)
        self.trees = {name: _tree(folder / name, renamed) for name, renamed in RENAMED.items()}

    def install(self, name: str, *options: str) -> Path:
        """Run that version's install.sh; the folder that the hook names afterwards."""
        done = self.run(name, *options)
        assert (done.returncode, done.stderr) == (0, "")
        return self.named

    def run(self, name: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """The same, however it ends."""
        where = ["--destdir", str(self.host), "--prefix", str(self.prefix)]
        return subprocess.run(
            [self.trees[name] / "install.sh", *where, *options],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def uninstall(self) -> "subprocess.Popen[str]":
        """install.sh --uninstall, which goes on beside what the test does."""
        command: list[str | Path] = [self.trees["first"] / "install.sh", "--destdir", self.host, "--uninstall"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_no_longer_than(self, seconds: int) -> None:
        """For whoever is at work, when it is uninstalled."""
        script = self.trees["first"] / "install.sh"
        text, count = re.subn(r"(?m)^patience=\d+", f"patience={seconds}", script.read_text())
        assert count == 1
        script.write_text(text)

    @property
    def named(self) -> Path:
        """The folder of the version that libvirtd would run now."""
        (found,) = re.findall(r"(?m)^lib=(.*) # install.sh sets this$", self.hook.read_text())
        return Path(found)

    @property
    def there(self) -> set[Path]:
        """Every version that is installed."""
        return set((self.lib / "versions").iterdir())


def _tree(folder: Path, renamed: str) -> Path:
    folder.mkdir()
    for name in ("libhook", "hooks", "packaging"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "install.sh", folder)
    patience.lengthen(folder)
    if renamed:
        for path in (folder / "libhook").rglob("*.py"):
            path.write_text(re.sub(rf"\b{renamed}\b", f"Other{renamed}", path.read_text()))
    return folder


@contextmanager
def begun(versions: Versions, root: str, operation: str) -> Iterator[Begun]:
    """The hook of this event, which has begun to read the guest's XML."""
    it = Begun([versions.hook, WIN11.name, operation, "begin", "-"], environment(root))
    until(lambda: "cat" in map(program, descendants(it.pid)))
    yield it
    assert it.poll() is not None


def is_locked(version: Path) -> bool:
    """Whether somebody runs from it."""
    with (version / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
