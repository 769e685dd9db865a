# SPDX-License-Identifier: LGPL-2.1-or-later
"""The dry run, three ways: it changes nothing, and its lines are those of what happens then."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from cases import CASES, DISK, GPU, NIC
from command import without_names
from scenario import Host, guest

from libhook.command import parsing
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.testing.golden import compare

GOLDEN = Path(__file__).parents[1] / "data" / "plans"
EVENTS = ("prepare", "start", "started", "release")
_WRITE = re.compile(r'  write "(.*)" to /sys/(.*)')
_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def _document(one: Guest, event: str) -> bytes:
    return one.xml(-1 if event == "release" else 1, event != "prepare")


def _planned(host: Host, one: Guest, event: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, ...]:
    """What ``libhook plan`` prints, without the names of devices."""
    path = Path(host.root) / "guest.xml"
    path.write_bytes(_document(one, event))
    options = parsing.parser().parse_args(["plan", str(path), "--event", event])
    code = options.command(host.machine, options)
    path.unlink()
    printed = without_names(capsys.readouterr().out).splitlines()
    assert code == any(line.startswith("refuse: ") for line in printed)
    return () if printed[0].startswith(f"nothing to do at {event}") else tuple(printed)


def _by_device(writes: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Each device's writes in their order; those of different devices run side by side.

    A driver's name may have ``-`` where its module's has ``_``: known only once the module is loaded.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for path, value in writes:
        address = _ADDRESS.search(path) or _ADDRESS.search(value)
        assert address
        found.setdefault(address[0], []).append((path, value.replace("_", "-")))
    return found


def _writes_of(lines: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """The writes that the printed lines promise."""
    matches = filter(None, map(_WRITE.fullmatch, lines))
    return _by_device((match[2], match[1].replace("\\n", "\n")) for match in matches)


def _play_libvirt(host: Host, one: Guest, over: bool = False) -> None:
    """What libvirtd does to managed devices between prepare and start, or before release."""
    lists = host.libvirt._lists
    if over:
        lists.reattach(one.name)
    else:
        lists.prepare(one.name, one.devices)


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_is_what_happens(
    root: str, name: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """At each event: three dry runs change no byte and agree; what is then logged, journalled and written is the same.

    And it is what stands in tests/data/plans; ``pytest --libhook-regenerate`` writes that anew.
    """
    case = CASES[name]
    host = Host(root, case.world, case.config)
    options = parsing.parser().parse_args(["devices"])
    options.command(host.machine, options)
    golden = ["# the host", capsys.readouterr().out, f"# config.toml\n{case.config}"]
    for event in EVENTS:
        if event == "start":
            _play_libvirt(host, case.guest)
        elif event == "release":
            _play_libvirt(host, case.guest, over=True)
        before = host.everything()
        printed = _planned(host, case.guest, event, capsys)
        suboperation = "end" if event == "release" else "begin"
        by_hand = host.call((case.guest.name, event, suboperation, "-"), _document(case.guest, event), dry_run=True)
        assert by_hand.code == 0
        assert by_hand.stderr == by_hand.plan == printed
        assert host.everything() == before
        if event == "prepare":  # what was handed over is recorded and given back whatever the configuration says
            host.configure("dry_run = true\n" + case.config)
            configured = host.event(case.guest, event)
            assert configured.code == 0
            assert configured.stderr == configured.plan == printed
            host.configure(case.config)
            assert {path: text for path, text in host.everything().items() if "/etc/" not in path} == {
                path: text for path, text in before.items() if "/etc/" not in path
            }
        real = host.event(case.guest, event)
        assert (real.code, real.stderr) == (0, ())
        assert real.plan == printed
        assert _by_device(real.writes) == _writes_of(printed)
        assert real.records == tuple(line.removeprefix("record ") for line in printed if line.startswith("record "))
        if event == "prepare":
            (held,) = real.journal.values()
            journalled = [line for action in held.actions for line in action.describe()]
            assert sorted(journalled) == sorted(line for line in printed if not line.startswith(("load ", "may take ")))
        golden += [f"# {event}", "".join(f"{line}\n" for line in printed)]
    regenerate = request.config.getoption("--libhook-regenerate")
    compare("\n".join(golden).splitlines(), GOLDEN / f"{name}.txt", regenerate=regenerate)


def test_there_is_no_golden_plan_without_its_case() -> None:
    """A case that is renamed or removed takes its file along."""
    assert {path.stem for path in GOLDEN.glob("*")} == set(CASES)


def test_a_refusal_is_foretold_and_recorded_nowhere(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The dry run prints the refusal and the record it would make, exits 0, and ``libhook plan`` exits 1."""
    host = Host(root, workstation())
    before = host.everything()
    printed = _planned(host, guest(NIC, GPU, DISK), "prepare", capsys)
    outcome = host.call(("win11", "prepare", "begin", "-"), guest(NIC, GPU, DISK).xml(1), dry_run=True)
    assert (outcome.code, outcome.stderr) == (0, printed)
    assert [line.split()[0] for line in printed] == ["refuse:", "record"]
    assert "res=failed" in printed[1]
    assert outcome.records == ()
    assert host.everything() == before
    real = host.event(guest(NIC, GPU, DISK), "prepare")
    assert f"refuse: {real.line}" == printed[0]
    assert real.plan == printed
    assert real.records == (printed[1].removeprefix("record "),)


@pytest.mark.parametrize("name", ["unmanaged", "gpu_alone_siblings_bind", "name_with_everything"])
def test_the_launcher_prints_the_same_to_stderr(root: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """LIBHOOK_DRY_RUN=1 hooks/qemu: nothing on stdout, exit code 0, nothing changed."""
    case = CASES[name]
    host = Host(root, case.world, case.config, launcher=True)
    before = host.everything()
    printed = _planned(host, case.guest, "prepare", capsys)
    outcome = host.call((case.guest.name, "prepare", "begin", "-"), case.guest.xml(1), dry_run=True)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", printed)
    assert host.everything() == before


@pytest.mark.parametrize(
    "operation", ["prepare", "start", "started", "stopped", "release", "reconnect", "migrate", "restore"]
)
def test_a_dry_run_of_a_guest_without_devices_says_nothing(root: str, operation: str) -> None:
    """There is nothing to say, at any operation, and stdout belongs to libvirt."""
    host = Host(root, workstation(), launcher=True)
    before = host.everything()
    outcome = host.call(("win11", operation, "begin", "-"), guest().xml(1), dry_run=True)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", ())
    assert host.everything() == before


@pytest.mark.parametrize(("model", "config"), [("vfio_pci", ""), ("", 'driver = "vfio_pci"\n')])
def test_a_module_s_name_is_printed_as_the_driver_that_is_written(root: str, model: str, config: str) -> None:
    """``vfio_pci`` is the module of ``vfio-pci``: dry run and journal have the name that the kernel is given."""
    host = Host(root, workstation(), config)
    foretold = host.call(("win11", "prepare", "begin", "-"), guest(NIC, model=model).xml(1), dry_run=True).stderr
    real = host.event(guest(NIC, model=model), "prepare")
    promised = [(match[2], match[1]) for match in filter(None, map(_WRITE.fullmatch, foretold))]
    assert promised == list(real.writes)
    (held,) = real.journal.values()
    assert [action.to_json()["want"] for action in held.actions] == [["vfio-pci", "vfio-pci"]]
