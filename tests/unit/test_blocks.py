# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each command that a page shows is run on a simulated host, and prints what the page says; or here is said why not."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from page_stage import Stage

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]

INSTALLS = "changes this host: tests/test_install.py and tests/test_install_files.py run it below a folder"
SYSTEMD = "needs systemd as process 1: the lab with systemd runs it"
HOTPLUG = "needs a guest in QEMU that answers: tests/sim/test_hotplug.py, and the lab"
IMPORTS = "needs a folder of old hooks: tests/importing runs it on published ones"
PLAYED = "tests/unit/test_handler_example.py runs it as it is printed"
WHEEL = "tests/test_outside.py runs it as it is printed"
ACCEPTS = "needs a card that has changed: tests/sim/test_accept.py"
FOLLOWS = "goes on until it is ended: tests/unit/test_history_docs.py and test_history_follow.py"
HASHES = "needs a log that was rotated: tests/unit/test_history_page.py compares the hashes"
PACKAGES = "installs packages"
MOVES = "changes this host"
DEMO = "tests/unit/test_demo.py plays it"
NOT_RUN = {
    ("README.md", "./install.sh --demo"): DEMO,
    ("README.md", "tests/run"): "this is it",
    ("README.md", "./install.sh --dry-run"): INSTALLS,
    ("README.md", "./install.sh"): INSTALLS,
    ("README.md", "./install.sh --uninstall"): INSTALLS,
    ("CONTRIBUTING.md", "sudo tests/run --quick"): "this is it",
    ("compliance.md", "systemctl enable --now libhook-watch"): SYSTEMD,
    ("crashes.md", "systemctl enable libhook-recover"): SYSTEMD,
    ("decisions.md", "python3 -c"): "makes 50 MB, to measure a cost: tests/bench has the like",
    ("decisions.md", "time LIBHOOK_ROOT=/tmp/none bash hooks/qemu g prepare begin - <big.xml"): "the same",
    ("follow.md", "libhook history --follow"): FOLLOWS,
    ("follow.md", "libhook history --follow --json --cursor /var/lib/libhook-follow/cursor"): FOLLOWS,
    ("follow.md", "journalctl -u libhook-follow -o cat | jq 'select(.event == \"failed\")'"): SYSTEMD,
    ("handlers.md", "/usr/bin/python3 -m pytest -q tests/unit/test_reserved.py"): PLAYED,
    ("handlers.md", "/usr/bin/python3 -m libhook.simulation /tmp/host"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook devices"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook plan win11"): PLAYED,
    ("handlers.md", "/usr/bin/python3 -m libhook.simulation /tmp/host /tmp/host/win11.xml"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook status"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook recover"): PLAYED,
    ("handlers.md", "/usr/bin/python3 -m libhook.simulation /tmp/host /tmp/host/other.xml"): PLAYED,
    ("history.md", "libhook history"): "its table is that of a terminal: tests/unit/test_history_docs.py",
    ("history-page.md", "sha256sum /var/log/audit/audit.log.1"): HASHES,
    ("history-page.md", "head -c 48212 /var/log/audit/audit.log | sha256sum"): HASHES,
    ("hotplug.md", "libhook attach win11 nic.xml"): HOTPLUG,
    ("hotplug.md", "libhook detach win11 nic.xml --timeout 10"): HOTPLUG,
    ("identity.md", "libhook accept --dry-run win11"): ACCEPTS,
    ("identity.md", "libhook accept win11"): ACCEPTS,
    ("importing.md", "apt-get install bubblewrap strace"): PACKAGES,
    ("importing.md", "libhook import /etc/libvirt/hooks"): IMPORTS,
    ("importing.md", "libhook import /etc/libvirt/hooks --guest win11.xml --write"): IMPORTS,
    ("installing.md", "./install.sh --demo"): DEMO,
    ("installing.md", "./install.sh --dry-run"): INSTALLS,
    ("installing.md", "./install.sh"): INSTALLS,
    ("installing.md", "./install.sh --uninstall"): INSTALLS,
    ("installing.md", "./install.sh --purge"): INSTALLS,
    ("installing.md", './install.sh --destdir "$PWD/image" --prefix /usr --no-compile'): INSTALLS,
    ("old-scripts.md", "mkdir /etc/libvirt/old-hooks"): "changes this host",
    (
        "old-scripts.md",
        "mv /etc/libvirt/hooks/qemu /etc/libvirt/hooks/qemu.d /etc/libvirt/old-hooks/",
    ): "changes this host",
    ("testing.md", "/usr/bin/python3 -m venv --system-site-packages venv"): WHEEL,
    ("testing.md", "venv/bin/pip install --no-deps PATH-OF-A-CLONE-OF-LIBHOOK"): WHEEL,
    ("testing.md", "venv/bin/python -m pytest"): WHEEL,
    ("tutorial.md", "apt-get install virt-manager libvirt-daemon-system ovmf swtpm-tools"): PACKAGES,
    ("tutorial.md", "./install.sh"): INSTALLS,
}
"""Commands that are not run here, each with its page and the reason. What they say of libhook is still held to its
parser (tests/test_docs.py)."""
ENDS_WITH = {"libhook doctor": 1}
"""Commands that do not end with 0 on the simulated host: the doctor finds no hook there."""


class Shown(NamedTuple):
    """A command of a page, and the lines that the page shows below it."""

    page: str
    command: str
    printed: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Its name in NOT_RUN: without a comment, and only the first line of a program that it holds."""
        words = re.sub(r"\s+#\s.*", "", self.command).strip()
        return self.page, "python3 -c" if words.startswith("python3 -c") else words


def shown(page: Path) -> Iterator[Shown]:
    """The commands in the blocks of a page, in order. A block without a language is one of a shell's, if indented."""
    text = page.read_text()
    blocks = [(found[1], found[2]) for found in re.finditer(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S)]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    blocks += [("sh", found[1]) for found in re.finditer(r"(?:^|\n\n)((?:    [^\s*-].*\n)+)", rest)]
    for language, block in blocks:
        assert language, f"{page.name}: a block without a language: {block[:60]}"
        if language == "sh":
            for line in block.replace(" |\n", " | ").splitlines():
                yield Shown(page.name, line.strip(), ())
        if language == "console":
            for part in re.split(r"^[#$] ", block, flags=re.M)[1:]:
                command, *printed = part.splitlines()
                yield Shown(page.name, command, tuple(line for line in printed if line != "..."))


EVERYTHING = [one for page in PAGES for one in shown(page)]


def test_what_is_not_run_is_listed_and_nothing_else_is() -> None:
    """No command is passed over silently, and no reason stands here for what no page shows any more."""
    here = [one.key for one in EVERYTHING]
    assert [key for key in NOT_RUN if key not in here] == []
    assert len(set(here) - set(NOT_RUN)) > 15


@pytest.mark.parametrize("page", sorted({one.page for one in EVERYTHING if one.key not in NOT_RUN}))
def test_the_commands_of_a_page_do_what_it_shows(page: str, root: str, tmp_path: Path) -> None:
    """From its first to its last, on one host: each ends as it should, and each line that is shown is printed."""
    stage = Stage(root, tmp_path)
    try:
        for one in EVERYTHING:
            if one.page == page and one.key not in NOT_RUN:
                code, printed = stage.run(one.command)
                assert code == ENDS_WITH.get(one.key[1], 0), (one.command, printed)
                assert [line for line in one.printed if line not in printed.splitlines()] == [], (one.command, printed)
    finally:
        stage.libvirt.end()
        shutil.rmtree(tmp_path / "work")
