# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scripts of an enemy: none gets out of the sandbox, hangs it, or fills anything."""

import os
import socket
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from libhook.errors import LibhookError
from libhook.importing import excess, life, sandbox, sources
from libhook.importing.imagined import imagine
from libhook.importing.life import Guest, Life


def played(tmp_path: Path, script: str, seconds: float = 100) -> Life:
    """What a hook of these lines does."""
    (tmp_path / "qemu").write_text(f'#!/bin/bash\n[ "$2" = prepare ] || exit 0\n{script}\n')
    with mock.patch.object(life, "SECONDS", seconds):
        return life.play(sources.read([str(tmp_path)]), Guest("any"), 4, time.monotonic() + 300)


def said(tmp_path: Path, script: str, seconds: float = 100) -> str:
    """What it printed."""
    return played(tmp_path, script, seconds).steps[0][0].output


def test_it_is_nobody_and_has_no_right(tmp_path: Path) -> None:
    """It takes itself for root. The kernel knows better: it has no capability, and root's files are not there."""
    looks = "grep -h Cap[EPB] /proc/self/status; echo owner $(stat -c %u /host/bin)"
    answer = said(tmp_path, f"{looks}; ls /root /home /etc/shadow /host/etc; echo $EUID")
    assert "CapEff:\t0000000000000000" in answer
    owner = answer.split("owner ")[1].split()[0]
    assert owner == "65534" or os.geteuid() != 0, "who is root inside is root outside"
    assert "CapBnd:\t0000000000000000" in answer
    assert "/etc/shadow" not in [line for line in answer.splitlines() if not line.startswith("ls:")]
    assert answer.splitlines()[-1] == "0"


def test_it_sees_no_process_or_socket_of_the_host(tmp_path: Path) -> None:
    """All namespaces are its own."""
    answer = said(tmp_path, "echo /proc/[0-9]*; find /run /var/run/ -type s | grep . || echo no socket")
    assert len(answer.splitlines()[0].split()) < 10
    assert f"/proc/{os.getpid()}" not in answer.split()
    assert "no socket" in answer


def test_it_has_no_network(tmp_path: Path) -> None:
    """It has one interface, and does not reach who listens on the host's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 60).close()
        answer = said(tmp_path, f"(exec 5<>/dev/tcp/127.0.0.1/{port}) && echo reached; cat /proc/net/dev")
    interfaces = [line.partition(":")[0].strip() for line in answer.splitlines() if ":" in line and "|" not in line]
    assert "reached" not in answer
    assert [name for name in interfaces if " " not in name and "/" not in name] == ["lo"]


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
        tmp_path, "systemctl stop sddm; trap '' TERM INT; (trap '' TERM; while :; do :; done) & while :; do :; done", 25
    )
    assert not found.steps[0][0].ended
    assert any(one.argv[1:] == ("stop", "sddm") for one in found.steps[0][1].done)
    assert time.monotonic() - begun < 250


def test_one_that_fills_the_disk_is_stopped(tmp_path: Path) -> None:
    """What can be written to is small, and in memory; /dev cannot be written to. No file is too large by itself."""
    folders = "/ /dev /dev/shm /tmp /run /sys /etc /var /opt /root /home /proc/sys /.state"
    one = "dd if=/dev/zero of=$d/big$i bs=8000000 count=1"
    fill = f"for d in {folders}; do for i in 1 2 3 4 5 6 7 8; do {one}; done; done"
    answer = said(tmp_path, f"{fill} 2>/dev/null; find {folders} -maxdepth 1 -name 'big*' -printf '%h %s\\n'", 60)
    sizes = dict[str, int]()
    for folder, size in (line.split() for line in answer.splitlines() if len(line.split()) == 2):
        sizes[folder] = sizes.get(folder, 0) + int(size)
    assert sizes["/tmp"] > 8_000_000
    assert max(sizes.values()) <= 32 << 20
    assert {"/", "/dev"} & {*sizes} == set()


def test_one_that_makes_files_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file takes memory of the kernel's, also an empty one, and no limit counts them."""
    monkeypatch.setattr(excess, "_MOST_FILES", 3000)
    begun = time.monotonic()
    with pytest.raises(LibhookError, match="a script has ended it, or took too much"):
        played(tmp_path, 'python3 -c \'for i in range(3000): open(f"/srv/{i}", "w")\'; while :; do :; done', 300)
    assert time.monotonic() - begun < 290


def test_it_needs_nothing_of_libhooks_own_folder(tmp_path: Path) -> None:
    """Which may be one that only root may enter, as a clone in /root."""
    assert str(Path(sandbox.__file__).parent) not in said(tmp_path, "cat /proc/self/mountinfo")


def test_it_makes_no_further_namespace(tmp_path: Path) -> None:
    """In one it could mount a folder without a bound."""
    assert sandbox._no_namespaces()
    script = "import os\ntry:\n os.unshare(os.CLONE_NEWUSER)\n print('unshared')\nexcept OSError: print('refused')"
    assert said(tmp_path, f'python3 -c "{script}"').strip() == "refused"


def test_one_that_forks_without_end_is_bounded(tmp_path: Path) -> None:
    """There is a limit to its processes, and they end with the call."""
    script = """import os, time
number = 0
try:
    while number < 400:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        number += 1
except OSError:
    pass
print('forked', number)"""
    answer = said(tmp_path, f'python3 -c "{script}"')
    assert 20 < int(answer.split("forked")[1]) <= 128


def test_only_the_user_of_the_sandbox_enters_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts may hold secrets, and they lie there."""
    seen, command = list[os.stat_result](), sandbox._command

    def looking(root: str) -> list[str]:
        seen.append(os.stat(root))
        return command(root)

    monkeypatch.setattr(sandbox, "_command", looking)
    said(tmp_path, "true")
    assert seen
    assert {status.st_mode & 0o777 for status in seen} == {0o700}
    assert all(status.st_uid not in (0, 65534) for status in seen) or os.geteuid() != 0


def test_no_second_round_after_a_call_that_did_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not end again."""
    rounds, run = list[object](), sandbox.run

    def counting(*given: Any) -> list[sandbox.Outcome]:  # noqa: ANN401 - whatever it is given
        rounds.append(given)
        return run(*given)

    monkeypatch.setattr(sandbox, "run", counting)
    played(tmp_path, "echo x > /nowhere/file; while :; do :; done", 1)
    assert len(rounds) == 1


def test_a_trace_that_is_empty_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that the scripts do would be taken for nothing."""
    call = sandbox.Call("a", "prepare", ("/x",))
    end = b'{"ended": true, "left": 0, "output": "ptrace: Operation not permitted", "size": 0}\n'
    monkeypatch.setattr(sandbox, "_bounded", lambda *_: (end, ""))
    with pytest.raises(LibhookError, match="strace tells nothing of /x: ptrace"):
        sandbox.run([], imagine((), (), 1), [call], 1, time.monotonic() + 100)


@pytest.mark.parametrize(
    "head",
    [b"[" * 200_000, b'{"size": 1e999, "ended": true, "left": 0, "output": ""}', b"9" * 9000, b"\xff", b"",
     b'{"size": -5, "ended": true, "left": 0, "output": ""}'],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_is_an_error(head: bytes) -> None:
    """The scripts may have written it."""
    with pytest.raises(LibhookError, match="the sandbox does not work here"):
        sandbox._outcomes([sandbox.Call("a", "prepare", ("/x",))], (head + b"\nrest", ""))


def test_one_that_kills_all_it_can_see_only_ends_itself(tmp_path: Path) -> None:
    """Who tells of it is gone, too: then nothing is known of it, and that is said."""
    with pytest.raises(LibhookError, match="sandbox"):
        played(tmp_path, "kill -9 -1; exec perl -e 'kill 9, -1'")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(sandbox, "missing", lambda: ["bubblewrap"])
    with pytest.raises(LibhookError) as refused:
        played(tmp_path, "true")
    assert refused.value.hint == "apt-get install bubblewrap"
