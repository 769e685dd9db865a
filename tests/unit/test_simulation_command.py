# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m libhook.simulation``: it makes a host, plays a life on it, and says in a line what it cannot do."""

import json
import os
import subprocess
from pathlib import Path
from unittest import mock

import patience
import pytest

from libhook.simulation import __main__ as command
from libhook.simulation.guests import Assigned, Guest

TOP = Path(__file__).parents[2]
NIC, GPU = "0000:01:00.0", "0000:03:00.0"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_LAUNCHER", str(patience.launcher()))


@pytest.fixture(name="folder")
def _folder(root: str) -> Path:
    """A host that it made."""
    assert command.main([root]) == 0
    return Path(root)


def test_a_life_of_ones_own_guest(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any XML: what its name would do to a terminal is shown, not done; nothing is left, the daemon included."""
    xml = tmp_path / "guest.xml"
    xml.write_bytes(Guest("a\u009b31m b", (Assigned(NIC, managed=True),)).xml())
    assert command.main([str(folder), str(xml)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "hooks/qemu a\\x9b31m b prepare" in said.out.splitlines()
    assert "libvirtd binds 0000:01:00.0 to vfio-pci" in " ".join(said.out.split())
    assert not (folder / "proc" / str(os.getpid())).exists()
    assert list((folder / "run/libhook/domains").iterdir()) == []


_VALUES = '"vm.swappiness" = 10\n"/sys/kernel/mm/transparent_hugepage/enabled" = "never"\n'


def _settings(folder: Path, values: str = _VALUES) -> None:
    (folder / "etc/libhook").mkdir(parents=True, exist_ok=True)
    (folder / "etc/libhook/config.toml").write_text(f"[values]\n{values}")


def test_values_and_the_trail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guest may have values there, which go back, and history has an audit log to read."""
    _settings(folder)
    assert command.main([str(folder), str(folder / "win11.xml")]) == 0
    said = capsys.readouterr().out.splitlines()
    shown = [line.removeprefix("did").strip() for line in said if "swappiness" in line and "write" in line]
    assert shown == [f'write "{value}" to /proc/sys/vm/swappiness' for value in (60, 10, 60)]
    assert "what was written is what the dry run printed, and to a value what it was" in " ".join("".join(said).split())
    environment = {"LIBHOOK_ROOT": str(folder), "PATH": "/usr/bin:/bin"}
    history = ["/usr/bin/python3", "-m", "libhook", "history", "--json"]
    done = subprocess.run(history, capture_output=True, text=True, env=environment, cwd=TOP, check=True)
    (entry,) = (one for one in map(json.loads, done.stdout.splitlines()) if "entry" in one)
    assert (entry["device"], entry["vm"], entry["began"], entry["ended"]) == (NIC, "win11", "start", "stop")


@pytest.mark.parametrize(
    ("files", "name", "value", "written"),
    [
        ({"proc/sys/net/ipv4/ip_local_reserved_ports": "\n"}, "net.ipv4.ip_local_reserved_ports", "1000",
         ["ip_local_reserved_ports \n", "ip_local_reserved_ports 1000", "ip_local_reserved_ports \n"]),
        ({"sys/module/firmware_class/parameters/path": "\n"}, "/sys/module/firmware_class/parameters/path", "/lib/x",
         ["path \0", "path /lib/x", "path \0"]),
        ({"sys/devices/virtual/net/br0/ifalias": "[a] b\n"}, "/sys/class/net/br0/ifalias", "c",
         ["ifalias [a] b", "ifalias c", "ifalias [a] b"]),
    ],
)  # fmt: skip
def test_a_value_that_is_written_otherwise_than_shown(
    folder: Path, files: dict[str, str], name: str, value: str, written: list[str]
) -> None:
    """An empty text, brackets, a name with a link: it goes back there, too."""
    (folder / "sys/class/net").mkdir(parents=True, exist_ok=True)
    (folder / "sys/class/net/br0").symlink_to("../../devices/virtual/net/br0")
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    _settings(folder, f'"{name}" = "{value}"\n')
    assert command.main([str(folder), str(folder / "win11.xml")]) == 0
    lines = map(json.loads, (folder / "var/log/writes.jsonl").read_text().splitlines())
    assert [f"{os.path.basename(one['path'])} {one['value']}" for one in lines if one["path"][0] == "/"] == written
    assert {file: (folder / file).read_text() for file in files} == files


def test_a_value_that_does_not_go_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody has set it meanwhile."""
    _settings(folder)
    swappiness = folder / "proc/sys/vm/swappiness"
    with mock.patch.object(command, "_wait", side_effect=lambda: swappiness.write_text("70\n")):
        assert command.main([str(folder), str(folder / "win11.xml")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "changed /proc/sys/vm/swappiness: 60 -> 70" in said


def test_a_python_without_lxml(folder: Path) -> None:
    """Said in a line, as every command does. Python leaves out what is installed for it with -S."""
    play = ["/usr/bin/python3", "-S", "-m", "libhook.simulation", str(folder), str(folder / "win11.xml")]
    done = subprocess.run(play, capture_output=True, text=True, cwd=TOP, check=False)
    remedy = "run install.sh, which installs what is missing; from a clone, use /usr/bin/python3"
    assert (done.returncode, done.stderr) == (1, f"/usr/bin/python3: \"No module named 'lxml'\": {remedy}\n")


def test_ctrl_c_shuts_the_guest_down_too(folder: Path) -> None:
    """Nothing stays as it was while the guest ran."""
    with mock.patch.object(command, "_wait", side_effect=KeyboardInterrupt) as waited:
        assert command.main([str(folder), str(folder / "win11.xml")]) == 0
    waited.assert_called_once()
    assert os.readlink(folder / "simulation/bound" / NIC) == "e1000e"


def test_a_guest_that_does_not_start(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What virsh would say, on stderr, and exit code 1."""
    xml = tmp_path / "guest.xml"
    xml.write_bytes(Guest("half", (Assigned(GPU),)).xml())
    assert command.main([str(folder), str(xml)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Hook script execution failed: internal error: Child process ")
    assert f"{GPU} shares IOMMU group 14 with 0000:03:00.1" in line


def test_somebody_changes_the_host_meanwhile(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The end is compared with the beginning."""
    driver = folder / f"sys/bus/pci/devices/{GPU}/driver"
    with mock.patch.object(command, "_wait", side_effect=driver.unlink):
        assert command.main([str(folder), str(folder / "win11.xml")]) == 1
    said = capsys.readouterr()
    assert said.err == "the host is not as before: see above\n"
    assert f"changed  {GPU} driver" in said.out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "mine").write_text(""), " is not empty, and no simulated host: name another folder"),
        (lambda folder: (folder.rmdir(), folder.write_text("")), ": Not a directory: name a folder in which you may "),
    ],
)
def test_a_folder_that_is_somebody_s(root: str, spoil: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written into it."""
    assert callable(spoil)
    spoil(Path(root))
    before = subprocess.run(["/usr/bin/find", root], capture_output=True, check=True).stdout
    assert command.main([root]) == 1
    assert capsys.readouterr().err.startswith(f"{root}{said}")
    assert subprocess.run(["/usr/bin/find", root], capture_output=True, check=True).stdout == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing.xml", "nothing.xml: No such file or directory: give a file with a domain's XML"),
        ("simulation/serial", "the XML is malformed: "),
    ],
)
def test_no_guest(folder: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The XML cannot be read, or is none."""
    assert command.main([str(folder), str(folder / name)]) == 1
    assert said in capsys.readouterr().err


def test_the_host_breaks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the system has to say is a line."""
    guest = str(folder / "win11.xml")
    (folder / "sys/bus/pci/devices").rename(folder / "gone")
    assert command.main([str(folder), guest]) == 1
    assert "No such file or directory: name another folder" in capsys.readouterr().err
