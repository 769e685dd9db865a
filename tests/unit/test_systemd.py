# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemctl says, and what it is told: by a program in its place, and by answers that systemd may give."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from libhook.children.child import Deadline
from libhook.children.tracks import run
from libhook.effects import systemd as acting
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.facts.unit import is_name, is_protected, parse
from libhook.look import systemd
from libhook.look.linux import LinuxKernel

Answer = Callable[[tuple[str, ...]], tuple[int, str]]


class Kernel(LinuxKernel):
    """One whose systemctl answers as a test says, and notes what it was asked."""

    def __init__(self, answer: Answer) -> None:
        """``answer`` gets the arguments."""
        self.asked: list[tuple[str, ...]] = []
        self._answer = answer

    def systemctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """See Kernel."""
        assert seconds > 0
        self.asked.append(arguments)
        return self._answer(arguments)


def _block(name: str, **more: str) -> str:
    fields = {"Id": name, "LoadState": "loaded", "ActiveState": "active", **more}
    return "".join(f"{key}={value}\n" for key, value in fields.items())


@pytest.fixture(autouse=True)
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which systemd runs, wherever the tests do."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def _machine(kernel: LinuxKernel) -> Machine:
    return Machine(os.getcwd(), kernel)


def _units(answer: Answer, *names: str, seconds: float = 200) -> dict[str, str]:
    found = systemd.units(_machine(Kernel(answer)), names, Deadline.after(seconds))
    return {name: one.load for name, one in found.items()}


def test_a_unit_is_read_from_what_systemctl_prints() -> None:
    """Values may hold anything but a line feed; what an older systemd does not know is missing."""
    text = _block("a.service", Job="17", TriggeredBy="a.socket b.timer", RequiredBy="c.service", ControlGroup="/x=y")
    first, second = parse(text + "\n" + _block("b.service", ActiveState="deactivating", Job="3", Transient="yes"))
    assert (first.name, first.has_job, first.triggered_by) == ("a.service", True, ("a.socket", "b.timer"))
    assert (first.stops_with, first.control_group, first.may_stop) == (("c.service",), "/x=y", True)
    assert (first.is_on, second.is_on, second.is_transient, second.has_job) == (True, False, True, True)
    (waiting,) = parse(_block("c.service", ActiveState="inactive", Job="9"))
    assert waiting.is_on, "its start is queued"
    assert list(parse("\n\nno unit at all\n")) == []


def test_a_list_of_units_has_quotes_where_a_name_has_a_backslash() -> None:
    """As systemctl prints lists; what is no name at all goes nowhere."""
    lists = {"RequiredBy": r'"a\\x2db.mount" c.service "a$b.service" ../x -H', "TriggeredBy": r'"c\\x2dd.automount" "'}
    (one,) = parse(_block(r"a\x20b.mount", **lists))
    assert one.name == r"a\x20b.mount"
    assert (one.stops_with, one.triggered_by) == ((r"a\x2db.mount", "c.service"), (r"c\x2dd.automount",))


@pytest.mark.parametrize("name", ["a.service", "a@b.service", "dev-x\\x2dy.mount", "x.socket"])
def test_what_is_the_name_of_a_unit(name: str) -> None:
    """With its type."""
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a.target",
        "-a.service",
        ".service",
        "a@.service",
        "a b.service",
        "a/b.service",
        "ä.service",
        "*.service",
        f"{'x' * 255}.service",
    ],
)
def test_what_is_not(name: str) -> None:
    """Nothing that systemctl could take for something else, and no template without an instance."""
    assert not is_name(name)


def test_what_may_never_be_stopped() -> None:
    """libvirt's, D-Bus, systemd's own and libhook's."""
    protected = ("libvirtd.service", "virtqemud.socket", "dbus-broker.service", "systemd-logind.service")
    assert all(map(is_protected, (*protected, "libhook-watch.service", "user@1000.service", "session-2.scope")))
    assert not is_protected("sddm.service")


def test_one_block_a_name_or_nothing_is_believed() -> None:
    """systemctl ends at a name that it does not take, and the units behind it would be passed over."""
    with pytest.raises(LibhookError, match=r"does not say what a.service b.service does \(it leaves some out\)"):
        _units(lambda _: (1, _block("a.service")), "a.service", "b.service")


@pytest.mark.parametrize(("status", "why"), [(1, "Connection refused"), (errno.ETIMEDOUT, "Connection timed out")])
def test_no_answer_is_not_taken_for_none(status: int, why: str) -> None:
    """A unit that there is not has an answer, too."""
    with pytest.raises(LibhookError, match=why):
        _units(lambda _: (status, ""), "a.service")
    absent = _block("a.service", LoadState="not-found")
    assert _units(lambda _: (0, absent), "a.service") == {"a.service": "not-found"}


def test_a_family_that_has_no_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say what would stop."""
    monkeypatch.setattr(systemd, "_MOST", 100)

    def answer(arguments: tuple[str, ...]) -> tuple[int, str]:
        names = arguments[arguments.index("--") + 1 :]
        more = " ".join(f"{name.removesuffix('.service')}{n}.service" for name in names for n in range(20))
        return 0, "\n".join(_block(name, RequiredBy=more) for name in names)

    with pytest.raises(LibhookError, match=r"a\.service has more than 100 units that stop with it"):
        _units(answer, "a.service")


def test_a_host_without_systemd_is_told_so() -> None:
    """systemctl may be there all the same, as in a container."""
    os.rmdir("run/systemd/system")
    with pytest.raises(LibhookError, match=r"^systemd does not run on this host$"):
        _units(lambda _: (0, _block("a.service")), "a.service")


def test_a_systemd_that_is_late() -> None:
    """The child is left, and the reason says who does not answer."""
    gate, go = os.pipe()

    def answer(_: tuple[str, ...]) -> tuple[int, str]:
        os.read(gate, 1)
        return 0, ""

    kept = Kernel(answer)
    os.set_inheritable(gate, True)
    with pytest.raises(LibhookError, match="systemd does not answer in time"):
        systemd.units(_machine(kept), ["a.service"], Deadline.after(0.0))
    os.close(go)
    os.close(gate)


def test_the_family_of_a_unit() -> None:
    """All that stops with it or starts it again, but what does not exist."""
    blocks = {
        "a.service": _block("a.service", TriggeredBy="a.socket", RequiredBy="gone.service"),
        "a.socket": _block("a.socket", BoundBy="b.service a.service"),
        "b.service": _block("b.service"),
        "gone.service": _block("gone.service", LoadState="not-found", ActiveState="inactive"),
    }

    def answer(arguments: tuple[str, ...]) -> tuple[int, str]:
        return 0, "\n".join(blocks[name] for name in arguments[arguments.index("--") + 1 :])

    (found,) = run([systemd.family(Machine("", Kernel(answer)), "a.service")], Deadline.after(200))
    assert [one.name for one in found] == ["a.service", "a.socket", "b.service"]
    assert found[0].family == ("a.socket", "b.service", "gone.service")


def test_who_is_left_in_a_control_group(tmp_path: Path) -> None:
    """A folder that is gone has nobody. A unit without one has none of those that the root of the tree tells of."""
    machine = Machine(str(tmp_path), Kernel(lambda _: (0, "")))
    here, gone, none = parse("\n".join(_block("x.service", ControlGroup=group) for group in ("/x", "/y", "")))
    (tmp_path / "sys/fs/cgroup/x").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.events").write_text("populated 1\nfrozen 0\n")
    events = tmp_path / "sys/fs/cgroup/x/cgroup.events"
    for text, left in (("populated 1\nfrozen 0\n", True), ("populated 0\nfrozen 1\n", False)):
        events.write_text(text)
        assert systemd.is_populated(machine, here) is left
    assert not systemd.is_populated(machine, gone)
    assert not systemd.is_populated(machine, none)


@pytest.mark.parametrize("status", [0, 1, errno.ETIMEDOUT])
def test_what_systemd_says_of_itself(status: int) -> None:
    """An older one does not count soft-reboots, and prints nothing. Who gives no answer is not said to shut down."""

    def answer(arguments: tuple[str, ...]) -> tuple[int, str]:
        assert arguments[:1] + arguments[2:] == ("show", "--value", "--")
        return status, says[arguments[1].removeprefix("--property=")]

    says = {"SystemState": "stopping\n", "SoftRebootsCount": ""}
    machine = Machine("", Kernel(answer))
    assert run([systemd.is_stopping(machine)], Deadline.after(200)) == [status == 0]
    assert run([systemd.is_stopping(machine)], Deadline.after(0)) == [False]
    if status:
        with pytest.raises(LibhookError, match="systemd does not say its SoftRebootsCount"):
            run([systemd.soft_reboots(machine)], Deadline.after(200))
    else:
        assert run([systemd.soft_reboots(machine)], Deadline.after(200)) == [""]


@pytest.mark.parametrize(("status", "error"), [(0, 0), (1, errno.EIO), (errno.ETIMEDOUT, errno.ETIMEDOUT)])
def test_a_stop_that_is_late_is_cancelled(status: int, error: int) -> None:
    """Its jobs, by their numbers."""
    kernel = Kernel(lambda arguments: (0, "17\n0\n\n18\n") if arguments[0] == "show" else (status, ""))
    code = 0
    try:
        acting.stop(Machine("", kernel), ["a.service", "b.socket"])
    except OSError as raised:
        code = raised.errno or -1
    assert code == error
    assert kernel.asked[0] == ("stop", "--", "a.service", "b.socket")
    assert (kernel.asked[-1] == ("cancel", "--", "17", "18")) is (status == errno.ETIMEDOUT)


def test_a_job_that_is_over_by_then_is_not_cancelled() -> None:
    """systemctl without a number would cancel all."""
    kernel = Kernel(lambda arguments: (0, "0\n") if arguments[0] == "show" else (errno.ETIMEDOUT, ""))
    with pytest.raises(TimeoutError):
        acting.stop(Machine("", kernel), ["a.service"])
    assert [arguments[0] for arguments in kernel.asked] == ["stop", "show"]


def test_a_start_is_not_waited_for() -> None:
    """And an error is one."""
    kernel = Kernel(lambda _: (0, ""))
    acting.start(Machine("", kernel), ["a.service"])
    assert kernel.asked == [("start", "--no-block", "--", "a.service")]
    with pytest.raises(OSError, match="Input/output error"):
        acting.start(Machine("", Kernel(lambda _: (5, ""))), ["a.service"])


def test_systemctl_is_run_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output and status come back; no shell reads the arguments, and one that is late is ended."""
    program = tmp_path / "systemctl"
    program.write_text(
        '#!/bin/sh\nprintf "%s|" "$@" "$LC_ALL"\necho said >&2\n[ "$4" != late ] || exec sleep 60\nexit 3\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("libhook.effects.kernel._SYSTEMCTL", str(program))
    before = os.listdir("/proc/self/fd")
    status, text = LinuxKernel().systemctl(("show", "--", "$(id) ;a"), 30)
    assert (status, text) == (3, "--no-ask-password|--no-pager|show|--|$(id) ;a|C|")
    status, text = LinuxKernel().systemctl(("stop", "late"), 0.5)
    assert status == errno.ETIMEDOUT
    assert text in ("", "--no-ask-password|--no-pager|stop|late|C|"), "half a second may be too short to say it"
    assert os.listdir("/proc/self/fd") == before
    monkeypatch.setattr("libhook.effects.kernel._JOURNALCTL", str(program))
    assert LinuxKernel().journalctl(("--lines=1",), 30) == (3, "--no-pager|--lines=1|C|")
    monkeypatch.setattr("libhook.effects.kernel._SYSTEMCTL", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        LinuxKernel().systemctl(("show",), 30)


def test_systemd_run_is_given_the_document_by_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PID 1 opens it by the path that stands in the arguments. What systemd-run says comes back, also from stderr."""
    program = tmp_path / "systemd-run"
    program.write_text(
        "#!/bin/sh\nfor one; do case $one in --property=StandardInput=file:*)"
        ' cat "${one#--property=StandardInput=file:}";; esac; done\n'
        'printf " %s" "$@" | grep -o "[-][-]quiet.*exec"\necho "$6" >&2\nexit 4\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("libhook.effects.kernel._SYSTEMD_RUN", str(program))
    before = os.listdir("/proc/self/fd")
    status, text = LinuxKernel().systemd_run(("--unit=a", "--", "/usr/bin/$$x"), b"<domain/>\n", 30)
    assert (status, text) == (4, "<domain/>\n--quiet --collect --service-type=exec\n--unit=a\n")
    assert os.listdir("/proc/self/fd") == before
