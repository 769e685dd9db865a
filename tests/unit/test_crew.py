# SPDX-License-Identifier: LGPL-2.1-or-later
"""The workers of one event, which read, write, and do what else needs a child."""

import errno
import os
import signal
import time
from pathlib import Path
from unittest import mock

import hanging
from errands import MACHINE, do, hang, look, note, until

from libhook.children.child import Deadline
from libhook.children.tracks import run
from libhook.children.worker import Crew
from libhook.effects.locks import is_locked
from libhook.look import patient


def test_a_crew_lends_a_worker_that_is_idle(tmp_path: Path) -> None:
    """Without the mark of its device, and it may not write any more. Else there is a new one."""
    with Crew(MACHINE, lambda name: f"{tmp_path}/{name}") as crew:
        first, second = (crew.worker(name, unmarked=True) for name in ("first", "second"))
        assert crew.worker("first", unmarked=True) is first
        assert crew.spare() not in (first, second), "neither has a child yet"
        assert do(second, (note, f"{tmp_path}/done")) == [0]
        (pid,) = Path(f"{tmp_path}/done").read_text().split()
        os.link(f"{tmp_path}/second", f"{tmp_path}/kept")
        spare = crew.spare()
        assert spare is second
        assert not os.path.exists(f"{tmp_path}/second")
        assert not is_locked(f"{tmp_path}/kept"), "nor has its child the lock of a file that others opened before"
        assert do(spare, (note, f"{tmp_path}/more")) == [errno.ENOENT]
        assert run([look(spare, f"{tmp_path}/look")], Deadline.after(200)) == [[0]]
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
    """One that hangs, cannot be read or has no child any more leaves the others alone."""
    here, absent, hung = f"{tmp_path}/here", f"{tmp_path}/absent", f"{tmp_path}/hung"
    Path(here).write_text("text\nmore\n")
    os.mkfifo(hung)
    with Crew(MACHINE, lambda name: f"{tmp_path}/mark-{name}") as crew:
        workers = {path: crew.worker(path.rpartition("/")[2], unmarked=True) for path in (here, hung, absent)}
        late = {hung: workers.pop(hung)}
        assert patient.ask_each(workers, Deadline.after(200), 200) == {here: "text", absent: None}
        assert patient.ask_each(late, Deadline.after(200), 0.3) == {hung: patient.SILENT}
        workers |= late
        assert [workers[path].is_there for path in (here, hung, absent)] == [True, False, True]
        assert not os.path.exists(f"{tmp_path}/mark-hung"), "nothing is on its way"
        run([look(workers[here], f"{tmp_path}/pid")], Deadline.after(200))
        os.kill(pid := int(Path(f"{tmp_path}/pid").read_text()), signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with mock.patch("os.fork", side_effect=OSError(errno.EAGAIN, "no more")):
            assert patient.ask_each({here: workers[here]}, Deadline.after(200), 200) == {}
        assert not workers[here].is_there
    hanging.answer(hung)


def test_patience_counts_from_when_all_are_asked(tmp_path: Path) -> None:
    """Forks may be slow, and a device that nobody has asked yet does not hang."""
    paths = [f"{tmp_path}/{number}" for number in range(4)]
    for path in paths:
        Path(path).write_text("text\n")
    fork, clock, forks = os.fork, time.monotonic, []

    def slow() -> int:
        forks.append(100)  # seconds
        return fork()

    with (
        Crew(MACHINE, lambda name: f"{tmp_path}/mark-{name}") as crew,
        mock.patch("os.fork", slow),
        mock.patch("time.monotonic", side_effect=lambda: clock() + sum(forks)),
    ):
        workers = {path: crew.worker(path.rpartition("/")[2], unmarked=True) for path in paths}
        assert patient.ask_each(workers, Deadline.after(1000), 200) == dict.fromkeys(paths, "text")
