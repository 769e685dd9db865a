# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which programs root runs for ``run``: those that nobody else can change."""

import os
from pathlib import Path
from typing import Any

import hanging
import pytest
from scenario import Host, guest, reap
from test_run import LIGHT, SCREEN, SETTINGS, SHOW, WIN11, argvs, host_with

from libhook.children.child import Deadline
from libhook.facts.command import Command
from libhook.facts.config import Config
from libhook.kinds.kind import Work
from libhook.kinds.run import _untrusted
from libhook.look import executables
from libhook.simulation.hosts import nic
from libhook.story.session import make_state


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.chmod(0o777), "others may write to /usr/local/bin/screen, and root is to run"),
        (lambda path: path.parent.chmod(0o775), "others may write to /usr/local/bin, and root is to run"),
        (lambda path: path.unlink(), "cannot be run (/usr/local/bin/screen: No such file or directory)"),
        (
            lambda path: path.chmod(0o644),
            "/usr/local/bin/screen is not a program: if it is one, run: chmod 755 /usr/local/bin/screen",
        ),
        (lambda path: (path.unlink(), path.symlink_to("screen")), "leads through too many links"),
        (lambda path: (path.unlink(), path.mkdir()), "/usr/local/bin/screen is not a program"),
    ],
)
def test_root_runs_nothing_that_others_could_change(root: str, spoil: Any, said: str) -> None:  # noqa: ANN401 - a lambda
    """Refused before anything is done, and whoever runs it as another user is not."""
    host = host_with(root)
    spoil(Path(f"{root}{SCREEN}"))
    refused = host.event(WIN11, "prepare")
    assert said in refused.line
    assert refused.line.startswith("the command screen: ")
    assert argvs(host) == []
    host.configure(SETTINGS.replace("[run.light]", 'user = "tim"\n[run.light]'))
    assert host.event(WIN11, "prepare").code == 0


@pytest.mark.parametrize(("number", "code"), [(0, 1), (1000, 0), (None, 0)])
def test_another_name_of_root_is_root(
    root: str, monkeypatch: pytest.MonkeyPatch, number: int | None, code: int
) -> None:
    """Its programs are looked at, too."""
    monkeypatch.setattr(executables, "user_id", lambda _name: number)
    host = host_with(root, f'[run.screen]\ncommand = ["{SCREEN}"]\nuser = "toor"\n')
    Path(f"{root}{SCREEN}").chmod(0o777)
    assert host.event(WIN11, "prepare").code == code
    assert len(argvs(host)) == 1 - code


def test_users_have_numbers() -> None:
    """As the system has them."""
    assert (executables.user_id("root"), executables.user_id("no-such-user")) == (0, None)


def test_a_user_who_is_not_there_refuses(root: str) -> None:
    """While the plan is made. Only a real host knows its users."""
    machine = Host(root, nic()).machine._replace(root="")
    work = Work(machine, make_state(machine), Deadline.after(100), Config(), WIN11.uuid)
    one = Command("screen", ("/usr/bin/true",), user="no-such-user")
    assert _untrusted(work, [one, one._replace(name="other", user="nobody")]) == {
        "screen": "there is no user no-such-user: correct the user in the settings"
    }


def test_a_program_that_others_may_change_by_the_end_is_not_run(root: str) -> None:
    """The undo is looked at again, and so is what is run once the guest runs."""
    host = host_with(root)
    host.begin(WIN11)
    Path(f"{root}{SCREEN}").chmod(0o777)
    ended = host.event(WIN11, "release", "shutdown")
    (left,) = [entry["left"] for entry in ended.logged("done") if "left" in entry]
    assert f"the command screen cannot be executed: others may write to {SCREEN}" in left
    assert [SCREEN, "to host"] not in argvs(host)
    assert host.leftovers == []


def test_a_disk_that_does_not_answer(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is on it: the start is refused in time."""
    host = host_with(root)
    monkeypatch.setattr("libhook.kinds.run._note", lambda *_: hanging.hang(root))
    host.patience = 0
    hanging.late(root)
    assert f"{SCREEN}, {SCREEN}, {LIGHT}, {LIGHT}, {SHOW} cannot be looked at" in host.event(guest(), "prepare").line
    hanging.let_go(root)
    assert reap(60)


def test_links_lead_to_a_program_that_root_may_run(root: str) -> None:
    """Absolute ones, relative ones, and those of folders."""
    host = host_with(root)
    program = Path(f"{root}{SCREEN}")
    program.rename(f"{root}/real")
    program.symlink_to("../../.././real")
    os.symlink("usr/local", f"{root}/local")
    os.symlink("/local/bin/screen", f"{root}/usr/link")
    host.configure('[run.screen]\ncommand = ["/usr/link"]\n')
    assert host.event(WIN11, "prepare").code == 0
    Path(f"{root}/real").chmod(0o757)
    host.event(WIN11, "release", "failed")
    assert "others may write to /real, and root is to run /usr/link" in host.event(WIN11, "prepare").line


def test_a_programs_owner_is_looked_at(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns a folder may put another program there."""
    host = host_with(root)
    if os.geteuid() == 0:
        os.chown(f"{root}/usr", 12346, 0)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    found = executables.complaint(host.machine, SCREEN)
    assert found == (
        f"/usr does not belong to root, and root is to run {SCREEN}",
        "put the program where only root may write, such as /usr/local/sbin, and correct the path in the settings",
    )
