# SPDX-License-Identifier: LGPL-2.1-or-later
"""The workers of one event, which read, write, and do what else needs a child."""

import errno
import os
import signal
from pathlib import Path
from unittest import mock

from errands import MACHINE, do, hang, look, note, until

from libhook.children.child import Deadline
from libhook.children.tracks import run
from libhook.children.worker import Crew
from libhook.effects.locks import is_locked
from libhook.look import patient


def test_a_crew_lends_a_worker_that_is_idle(tmp_path: Path) -> None:
    """Without the mark of its device, and it may not write any more. Else there is a new one."""
    with Crew(MACHINE, lambda name: f"{tmp_path}/{name}") as crew:
        first, second = (crew.worker(name, unmarked=False) for name in ("first", "second"))
        assert crew.worker("first", unmarked=False) is first
        assert crew.spare() not in (first, second), "neither has a child yet"
        assert do(second, (note, f"{tmp_path}/done")) == [0]
        (pid,) = Path(f"{tmp_path}/done").read_text().split()
        assert os.path.exists(f"{tmp_path}/second")
        spare = crew.spare()
        assert spare is second
        assert not os.path.exists(f"{tmp_path}/second")
        assert do(spare, (note, f"{tmp_path}/more")) == [errno.ENOENT]
        assert run([look(spare, f"{tmp_path}/look")], Deadline.after(20)) == [[0]]
        assert Path(f"{tmp_path}/look").read_text().split() == [pid]
        assert crew.worker("second", unmarked=False) is not second
        assert do(first, (note, f"{tmp_path}/done")) == [0]
        (other,) = Path(f"{tmp_path}/done").read_text().split()
    os.waitpid(int(other), 0)
    assert not os.path.exists(f"{tmp_path}/first")
    assert spare.is_idle, "that one is its borrower's"
    spare.abandon()
    os.waitpid(int(pid), 0)


def test_a_crew_lends_nobody_who_is_at_work(tmp_path: Path) -> None:
    """The call may never end."""
    begun, go = (f"{tmp_path}/{name}" for name in ("begun", "go"))
    with Crew(MACHINE, lambda name: f"{tmp_path}/{name}") as crew:
        busy = crew.worker("busy", unmarked=False)
        busy.begin(hang, (begun, go))
        assert crew.spare() is not busy
    assert is_locked(f"{tmp_path}/busy")
    Path(go).touch()
    until(lambda: not is_locked(f"{tmp_path}/busy"))


def test_an_attribute_is_read_by_the_worker_of_its_device(tmp_path: Path) -> None:
    """Each by its own: one that hangs, cannot be read or has no child any more leaves the others alone."""
    here, hung = tmp_path / "here", tmp_path / "hung"
    here.write_text("text\nmore\n")
    os.mkfifo(hung)
    with Crew(MACHINE, lambda name: f"{tmp_path}/mark-{name}") as crew:
        workers = [crew.worker(str(number), unmarked=True) for number in range(4)]
        run([look(workers[3], f"{tmp_path}/pid")], Deadline.after(20))
        pid = int((tmp_path / "pid").read_text())
        asked = [(workers[0], f"{here}"), (workers[2], f"{tmp_path}/absent")]
        assert patient.ask_each(asked, Deadline.after(20)) == ["text", None]
        assert patient.ask_each([(workers[1], f"{hung}")], Deadline.after(0.3)) == [patient.SILENT]
        assert workers[2].is_there, "it answered"
        assert not workers[1].is_there
        assert not is_locked(f"{tmp_path}/mark-1")
        assert not os.path.exists(f"{tmp_path}/mark-1"), "nothing is on its way"
        with mock.patch("os.fork", side_effect=OSError(errno.EAGAIN, "no more")):
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert patient.ask_each([(workers[3], f"{here}")], Deadline.after(20)) == [None]
        assert not workers[3].is_there
    hung.write_text("")
