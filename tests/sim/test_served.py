# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests without host devices: served where the settings ask for something."""

import os
import time
from pathlib import Path

import pytest
from command import libhook
from scenario import Host, guest

from libhook.facts.config import Source
from libhook.facts.settings import read
from libhook.simulation import commands, processes
from libhook.simulation.hosts import nic

PLAIN = guest()
PROGRAM = "/usr/bin/greet"
ALONG = 'take_along = ["0000:05:00.0"]\n'
RUN = f'run.greet = {{ command = ["{PROGRAM}"], undo = ["{PROGRAM}", "bye"] }}\n'


def host_with(root: str, config: str, *, launcher: bool = False) -> Host:
    """A host with these settings, written a while ago."""
    host = Host(root, nic(), config, launcher=launcher)
    commands.add(root, PROGRAM)
    for path in (Path(host.machine.config), Path(host.machine.config).parent):
        os.utime(path, (time.time() - 60,) * 2)
    return host


def greeted(host: Host) -> list[list[str]]:
    """What was run."""
    return [one["argv"] for one in commands.ran(host.root)]


@pytest.mark.parametrize("config", [RUN, f'[domains."win*"]\n{RUN}', f'[domains."{PLAIN.uuid}"]\n{RUN}'])
def test_a_whole_life_through_the_launcher(root: str, config: str) -> None:
    """The second start finds the list that the first has left."""
    host = host_with(root, config, launcher=True)
    for _ in range(2):
        assert host.libvirt.start(PLAIN).error == ""
        assert "run greet" in libhook(host, "status").out
        host.libvirt.stop("win11")
        assert greeted(host)[-2:] == [[PROGRAM], [PROGRAM, "bye"]]
        assert host.leftovers == []
    assert len(greeted(host)) == 4


def test_a_guest_that_is_not_meant_leaves_the_list(root: str) -> None:
    """So Python is not asked again, until the settings change."""
    host = host_with(root, f'[domains."linux"]\n{RUN}', launcher=True)
    assert host.libvirt.start(PLAIN).error == ""
    assert (Path(root, "run/libhook/served").read_text(), greeted(host)) == ("linux\n", [])
    host.libvirt.stop("win11")
    host.configure(f'[domains."win11"]\n{RUN}')
    assert host.libvirt.start(PLAIN).error == ""
    assert greeted(host) == [[PROGRAM]]


def test_a_list_is_left_where_the_settings_are_empty(root: str) -> None:
    """An empty file must not cost a Python at every start. Without a file nothing is written, and in a dry run."""
    host = Host(root, nic())
    assert host.event(PLAIN, "prepare").code == 0
    host.configure("")
    assert host.call(("win11", "prepare", "begin", "-"), PLAIN.xml(1, False), dry_run=True).code == 0
    assert not os.path.exists(f"{root}/run/libhook/served")
    assert host.event(PLAIN, "prepare").code == 0
    assert (Path(root, "run/libhook/served").read_text(), host.leftovers) == ("", [])


def test_a_list_that_cannot_be_written_harms_nothing(root: str) -> None:
    """The launcher asks again."""
    host = host_with(root, RUN)
    os.makedirs(f"{root}/run/libhook/served")
    assert host.event(PLAIN, "prepare").code == 0
    assert greeted(host) == [[PROGRAM]]


def test_the_list_is_dated_back(root: str) -> None:
    """A file may be written after it was read, and have an older time than the clock shows."""
    host = host_with(root, RUN)
    before = time.time_ns()
    host.event(PLAIN, "prepare")
    assert os.stat(f"{root}/run/libhook/served").st_mtime_ns <= time.time_ns() - 1_000_000_000
    assert os.stat(f"{root}/run/libhook/served").st_mtime_ns >= before - 1_000_000_000


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        (f"nonsense = 1\n{RUN}", True),
        (f'nonsense = 1\n[domains."win11"]\n{RUN}', True),
        ('[domains."win11".run.greet]\ncommand = "/usr/bin/greet"\n', True),
        (f"[domains.\"win11\".units]\n'x{{name}}@.wants' = 'down'\n[domains.\"win11\"]\n{RUN}", True),
        ("nonsense = 1\n", False),
        (f'nonsense = 1\n[domains."linux"]\n{RUN}', False),
        ("nonsense", False),
    ],
)
def test_settings_that_are_broken(root: str, config: str, refused: bool) -> None:
    """A guest that they ask something for is refused. Others need none of them to be safe."""
    host = host_with(root, config, launcher=True)
    begun = host.event(PLAIN, "prepare")
    assert (begun.code, greeted(host)) == (int(refused), [])
    assert not refused or "/etc/libhook/config.toml" in begun.line


def test_a_pattern_that_is_refused_is_none_for_the_shell(root: str) -> None:
    """Shells take long for many stars, so the launcher hands each guest over. Python refuses those that are meant."""
    host = host_with(root, f'[domains."w*i*n*"]\n{RUN}\n[domains."a*b*"]\n{RUN}', launcher=True)
    for _ in range(2):
        assert "has more than 2 stars" in host.event(PLAIN, "prepare").line
        assert Path(root, "run/libhook/served").read_text() == "*\na*b*\n"
        assert host.event(guest(name="linux"), "prepare").code == 0
    assert greeted(host) == []


def test_a_hook_that_was_killed_at_prepare_does_not_start_the_guest(root: str) -> None:
    """The launcher let prepare pass, since the guest has no devices. Nobody knows how far it came."""
    host = host_with(root, RUN)
    host.begin(PLAIN)
    held = host.state.load(PLAIN.uuid)
    assert held
    host.state.save(held._replace(phase="preparing"))
    assert (
        host.event(PLAIN, "start").line == "the hook was ended before it was done with prepare: start the guest again"
    )
    host.event(PLAIN, "release", "failed")
    assert (greeted(host)[-1], host.leftovers) == ([PROGRAM, "bye"], [])


def test_a_refusal_reaches_a_guest_without_devices(root: str) -> None:
    """And what was done is undone."""
    host = host_with(root, RUN)
    commands.add(root, PROGRAM, status=1)
    refused = host.event(PLAIN, "prepare")
    assert (refused.code, refused.records) == (1, ())
    assert "the command greet has ended with status 1" in refused.line
    host.event(PLAIN, "release", "failed")
    assert host.leftovers == []


def test_a_caller_that_is_gone_starts_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no device to name in the refusal, and is refused all the same."""
    host = host_with(root, RUN)
    monkeypatch.setattr("libhook.look.libvirtd.caller_is_gone", lambda: True)
    refused = host.event(PLAIN, "prepare")
    assert "the process that asked for the start is gone" in refused.line
    assert greeted(host) == []
    assert host.leftovers == []


def test_a_dead_guest_without_devices_is_settled(root: str) -> None:
    """By recover, as any other."""
    host = host_with(root, RUN)
    host.begin(PLAIN)
    processes.end(root, host.libvirt.pid)
    assert libhook(host, "recover").code == 0
    assert greeted(host)[-1] == [PROGRAM, "bye"]
    assert host.leftovers == []


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("", ()),
        ("dry_run = true\n", ()),
        (RUN, ("*",)),
        (f'[domains."a"]\n{RUN}[domains."b"]\ndry_run = true\n', ("a",)),
        (f'[domains."b*"]\n{RUN}[domains."a-1.X_"]\n{RUN}', ("a-1.X_", "b*")),
        (f'[domains."{PLAIN.uuid.upper()}"]\n{RUN}', (PLAIN.uuid,)),
        (f'[devices."display"]\n{RUN}', ()),
        (f'[domains."a"]\n{ALONG}[domains."b"]\ntake_along = []\n', ("+a", "a", "b")),
        (
            f"[domains.'a\\ ä']\n{ALONG}[domains.\"{PLAIN.uuid.upper()}\"]\n{ALONG}",
            ("*", "+a\\ ä", f"+{PLAIN.uuid}", PLAIN.uuid),
        ),
        (f'[domains.""]\n{ALONG}[domains."a\\n"]\n{ALONG}[domains."a*"]\n{ALONG}', ("*", "a*")),
        *((f"[domains.'{name}']\n{RUN}", ("*",)) for name in ("a?", "[ab]", "ä", "a b", "a\\", "$x", "")),
    ],
)
def test_who_is_served(text: str, served: tuple[str, ...]) -> None:
    """What a shell might read otherwise than Python is left to Python."""
    assert read([Source("config.toml", text)]).served == served
