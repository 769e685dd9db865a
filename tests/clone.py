# SPDX-License-Identifier: LGPL-2.1-or-later
"""A copy of the clone whose package and launcher are stand-ins, and from which install.sh is run below a --destdir.

What is fixed in it (the interpreter, /etc/os-release) is edited in the copy: a script that root runs should
not take such things from the environment.
"""

import re
import shutil
import stat
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOOK = "etc/libvirt/hooks/qemu"
MAIN = "import sys\ndef main():\n    print(sys.argv[1:], sys.flags.isolated)\n    return 3\n"
LAUNCHER = '#!/bin/sh\n# libhook\'s\nlib=$(dirname "$0")/.. # install.sh sets this\n'


class Clone:
    """A clone, the folder that plays the host, and programs put before the real ones."""

    def __init__(self, folder: Path) -> None:
        self.here = folder / "clone"
        self.host = folder / "host"
        self.bin = folder / "bin"
        parts = [self.here / part for part in ("libhook/handlers", "libhook/children", "hooks")]
        for made in (self.host, self.bin, *parts):
            made.mkdir(parents=True)
        shutil.copy(ROOT / "install.sh", self.here)
        shutil.copytree(ROOT / "packaging", self.here / "packaging")
        for name in ("__init__.py", "py.typed", "handlers/__init__.py"):
            (self.here / "libhook" / name).touch()
        for name in ("bundle.py", "children/version.py"):
            shutil.copy(ROOT / "libhook" / name, self.here / "libhook" / name)
        (self.here / "libhook/cli.py").write_text(MAIN)
        (self.here / "libhook/__main__.py").write_text("import sys\nprint('demo plays', sys.argv[1:])\n")
        (self.here / "hooks/qemu").write_text(LAUNCHER)
        (self.here / "docs").mkdir()
        for name in ("README.md", "LICENSE", "docs/tutorial.md"):
            (self.here / name).write_text(f"{name}\n")

    def run(self, *arguments: str, destdir: bool = True) -> subprocess.CompletedProcess[str]:
        """Call install.sh, below the host's folder unless told otherwise."""
        where = ["--destdir", str(self.host)] if destdir else []
        return subprocess.run(
            [str(self.here / "install.sh"), *where, *arguments],
            env={"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(self.host)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def fake(self, name: str, script: str) -> Path:
        """Put a program before the one of that name."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def set(self, constant: str, value: object) -> None:
        """Change what the scripts have fixed."""
        changed = 0
        for script in (self.here / "install.sh", self.here / "packaging/distribution.sh"):
            text, count = re.subn(rf"(?m)^{constant}=.*$", f"{constant}={value}", script.read_text())
            script.write_text(text)
            changed += count
        assert changed == 1, f"{constant} is set {changed} times"

    def python_that_misses(self, *modules: str, version_is_fine: bool = True) -> None:
        """Let the interpreter be one that cannot import these."""
        self.set(
            "python",
            self.fake(
                "fake-python",
                f"""case "$*" in
                *import_module*) for m in {" ".join(modules)}; do echo "$m"; done ;;
                *'sys.exit(sys.version_info'*) exit {0 if version_is_fine else 1} ;;
                *%d%d*) echo 313 ;;
                *-V*) echo "Python 3.10.12" ;;
                esac""",
            ),
        )

    def distribution(self, os_release: str) -> None:
        """Let the host be of this distribution."""
        (self.here / "os-release").write_text(os_release)
        self.set("os_release", self.here / "os-release")

    def put(self, name: str, text: str = "") -> Path:
        """Leave a file on the host."""
        path = self.host / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def version(self) -> str:
        """The folder that the hook names, as the host knows it."""
        (found,) = re.findall(r"(?m)^lib=/(.*) # install.sh sets this$", (self.host / HOOK).read_text())
        return str(found)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Everything on the host: path, mode, and for files the content."""
        return {
            str(path.relative_to(self.host)): (
                stat.S_IMODE(path.lstat().st_mode),
                path.read_bytes() if path.is_file() and path.suffix != ".pyc" else b"",
            )
            for path in self.host.rglob("*")
        }

    def hooks(self) -> list[str]:
        """Where our hook is."""
        return [name for name in self.files() if name.endswith("hooks/qemu") and "/versions/" not in name]
