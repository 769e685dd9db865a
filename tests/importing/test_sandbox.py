# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scripts of an enemy: none gets out of the sandbox, hangs it, or fills anything."""

import os
import time
from pathlib import Path

import pytest

from libhook.errors import LibhookError
from libhook.importing import importer, life, sandbox, sources
from libhook.importing.life import Guest, Life


def played(tmp_path: Path, script: str, seconds: float = 10) -> Life:
    """What a hook of these lines does."""
    (tmp_path / "qemu").write_text(f'#!/bin/bash\n[ "$2" = prepare ] || exit 0\n{script}\n')
    return life.play(sources.read([str(tmp_path)]), Guest("any"), 4, seconds)


def said(tmp_path: Path, script: str, seconds: float = 10) -> str:
    """What it printed."""
    return played(tmp_path, script, seconds).steps[0][0].output


def test_it_is_nobody_and_has_no_right(tmp_path: Path) -> None:
    """It takes itself for root. The kernel knows better: it has no capability, and root's files are not there."""
    looks = "grep -h Cap[EPB] /proc/self/status; cat /proc/self/uid_map"
    answer = said(tmp_path, f"{looks}; ls /root /home /etc/shadow /host/etc; echo $EUID")
    assert "CapEff:\t0000000000000000" in answer
    inside, outside, count = next(line.split() for line in answer.splitlines() if len(line.split()) == 3)
    assert (inside, count) == ("0", "1")
    assert int(outside) >= 65534 or os.geteuid() != 0
    assert "CapBnd:\t0000000000000000" in answer
    assert "/etc/shadow" not in [line for line in answer.splitlines() if not line.startswith("ls:")]
    assert answer.splitlines()[-1] == "0"


def test_it_sees_no_process_socket_or_network_of_the_host(tmp_path: Path) -> None:
    """All namespaces are its own."""
    answer = said(
        tmp_path, "cat /proc/[0-9]*/comm; cat /proc/net/dev; find /run /var/run/ -type s; echo x >/dev/tcp/127.0.0.1/22"
    )
    assert "pytest" not in answer
    assert "eth0" not in answer
    assert "refused" in answer or "unreachable" in answer


def test_what_it_writes_stays_inside(tmp_path: Path) -> None:
    """Its /tmp, its /etc and its /sys are gone with it."""
    marker = f"/tmp/out-of-sandbox-{os.getpid()}"
    answer = said(
        tmp_path, f"echo x > {marker}; echo x > /etc/out; echo x > /usr/bin/out; echo x > /usr/lib/out; ls {marker}"
    )
    assert marker in answer
    assert not os.path.exists(marker)
    assert not os.path.exists("/etc/out")
    assert not os.path.exists("/usr/lib/out")


def test_one_that_never_ends_is_ended(tmp_path: Path) -> None:
    """At the deadline, with all that it has started; and what it did until then is known."""
    begun = time.monotonic()
    found = played(
        tmp_path, "systemctl stop sddm; trap '' TERM INT; (trap '' TERM; while :; do :; done) & while :; do :; done", 2
    )
    assert not found.steps[0][0].ended
    assert any(one.argv[1:] == ("stop", "sddm") for one in found.steps[0][1].done)
    assert time.monotonic() - begun < 60


def test_one_that_fills_the_disk_is_stopped(tmp_path: Path) -> None:
    """What can be written to is small, and in memory."""
    fill = "for d in / /dev/shm /tmp /run /sys /etc /var; do dd if=/dev/zero of=$d/big bs=1M count=200; done"
    answer = said(tmp_path, f"{fill}; stat -c '%s %n' /*/big", 20)
    sizes = [int(line.split()[0]) for line in answer.splitlines() if line.endswith("/big") and line[:1].isdigit()]
    assert sizes
    assert max(sizes) <= 32 << 20


def test_one_that_forks_without_end_is_bounded(tmp_path: Path) -> None:
    """There is a limit to its processes, and they end with the call."""
    found = played(tmp_path, "bomb() { bomb | bomb & }; bomb; sleep 1", 3)
    assert len(found.steps) == 9


def test_one_that_kills_all_it_can_see_only_ends_itself(tmp_path: Path) -> None:
    """Who tells of it is gone, too: then nothing is known of it, and that is said."""
    with pytest.raises(LibhookError, match="sandbox"):
        played(tmp_path, "kill -9 -1; exec perl -e 'kill 9, -1'", 3)


def test_what_it_prints_is_never_printed_as_it_is(tmp_path: Path) -> None:
    """Neither its output nor its lines reach the terminal with what a terminal would obey."""
    (tmp_path / "qemu").write_text(
        "#!/bin/bash\nsystemctl stop $'a\\033]0;x\\007'.service # \033[2J\nlogger '\033[2J'\n"
    )
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], 4)
    from libhook.errors import printable

    assert "\033" not in found.text
    assert all("\033" not in printable(line) for line in found.lines)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(sandbox, "missing", lambda: ["bubblewrap"])
    with pytest.raises(LibhookError) as refused:
        played(tmp_path, "true")
    assert refused.value.hint == "apt-get install bubblewrap"
