# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook import`` as it is typed: what it shows, what it writes, and what it says where it cannot."""

import io
import json
from pathlib import Path

import pytest
from command import libhook
from scenario import Host

from libhook.importing import command
from libhook.simulation.hosts import nic

SAMBA = str(Path(__file__).parent / "setups" / "samba")
DROP_IN = "etc/libhook/config.d/imported.toml"


@pytest.fixture
def host(root: str) -> Host:
    """A host to write to."""
    return Host(root, nic(), "")


def test_without_write_nothing_is_written(host: Host) -> None:
    """The drop-in is shown, and what became of each line."""
    shown = libhook(host, "import", SAMBA)
    assert (shown.code, shown.err) == (0, "")
    assert '"smbd.service" = "up"' in shown.out
    assert "Carried over:" in shown.out
    assert not Path(host.root, DROP_IN).exists()


def test_it_is_written_and_then_holds(host: Host) -> None:
    """Readable for all, as other settings are; and libhook reads it."""
    assert libhook(host, "import", SAMBA, "--write").code == 0
    written = Path(host.root, DROP_IN)
    assert written.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in written.parent.iterdir()] == ["imported.toml"]
    assert "smbd.service" in libhook(host, "config").out


def test_it_never_writes_over_a_file(host: Host) -> None:
    """Neither over its own nor over another's, and it says how to go on."""
    assert libhook(host, "import", SAMBA, "--write").code == 0
    Path(host.root, DROP_IN).write_text("# mine\n")
    refused = libhook(host, "import", SAMBA, "--write")
    assert refused.code == 1
    assert "is there already: take it away, or write to another with --name" in refused.err
    assert Path(host.root, DROP_IN).read_text() == "# mine\n"
    assert libhook(host, "import", SAMBA, "--write", "--name", "other").code == 0
    assert sorted(path.name for path in Path(host.root, DROP_IN).parent.iterdir()) == ["imported.toml", "other.toml"]


def test_an_empty_drop_in_is_not_written(host: Host, tmp_path: Path) -> None:
    """It says so in its only line, and the error says what may help."""
    (tmp_path / "qemu").write_text("#!/bin/bash\nif [ $1 = win11 ]; then echo nothing; fi\n")
    shown = libhook(host, "import", str(tmp_path))
    assert shown.code == 0
    assert shown.out.splitlines()[0].endswith("Nothing of it became a setting: see why.")
    refused = libhook(host, "import", str(tmp_path), "--write")
    assert (refused.code, Path(host.root, DROP_IN).exists()) == (1, False)
    assert "nothing of these scripts became a setting: name a guest with --guest" in refused.err


@pytest.mark.parametrize(
    ("terminal", "answer", "agreed"), [(True, "y\n", True), (True, "\n", False), (False, "y\n", False)]
)
def test_a_person_at_a_terminal_is_asked(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, answer: str, agreed: bool
) -> None:
    """And nobody else: what is not agreed to is not written."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    out = Stream()
    monkeypatch.setattr("sys.stdin", Stream(answer))
    monkeypatch.setattr("sys.stdout", out)
    assert command._agreed("/etc/\033x") is agreed
    assert ("Write this to /etc/\\x1bx? [y/N] " in out.getvalue()) is terminal


def test_a_value_is_as_this_host_shows_it(host: Host, tmp_path: Path) -> None:
    """It is read from the host's file. Only a guest that is named gets it."""
    mask = "/sys/devices/virtual/workqueue/cpumask"
    Path(f"{host.root}{mask}").parent.mkdir(parents=True)
    Path(f"{host.root}{mask}").write_text("ffff\n")
    (tmp_path / "qemu").write_text(f'#!/bin/bash\n[ "$1$2" = oneprepare ] && echo F > {mask}\nexit 0\n')
    assert f'[domains."one".values]\n"{mask}" = "000f"' in libhook(host, "import", str(tmp_path), "--guest", "one").out


def test_json_has_each_line(host: Host) -> None:
    """With its file, its number, and what it becomes."""
    shown = json.loads(libhook(host, "import", SAMBA, "--json").out)
    assert shown["errors"] == []
    assert {one["what"] for one in shown["lines"]} == {"kept", "undone"}
    assert all(one["file"].endswith("samba/qemu") and one["line"] for one in shown["lines"])


def test_nothing_of_a_script_reaches_the_terminal_as_it_is(host: Host, tmp_path: Path) -> None:
    """Neither its lines nor what it names: a terminal would obey them."""
    (tmp_path / "qemu").write_text(
        "#!/bin/bash\nsystemctl stop $'a\\033]0;x\\007'.service # \033[2J\nfoo $'\\033[3J'\nlogger '\033[2J'\n"
        "systemctl stop smbd\n"
    )
    shown = libhook(host, "import", str(tmp_path), "--write")
    assert "[2J" in shown.out
    assert "\033" not in shown.out + shown.err
    assert "\033" not in Path(host.root, DROP_IN).read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/nowhere",), "/nowhere: no file or folder that can be read: give a hook script, or its folder"),
        ((SAMBA, "--guest", "/nowhere.xml"), "/nowhere.xml: No such file or directory: give a guest's name"),
    ],
)
def test_what_cannot_be_read_is_named(host: Host, arguments: tuple[str, ...], said: str) -> None:
    """With what to give instead."""
    refused = libhook(host, "import", *arguments)
    assert refused.code == 1
    assert said in refused.err
