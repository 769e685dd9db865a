# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several versions of libhook, installed over each other by install.sh, as on a host that is upgraded."""

import re
import shutil
import subprocess
from pathlib import Path

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
            timeout=120,
            check=False,
        )

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
    if renamed:
        for path in (folder / "libhook").rglob("*.py"):
            path.write_text(re.sub(rf"\b{renamed}\b", f"Other{renamed}", path.read_text()))
    return folder
