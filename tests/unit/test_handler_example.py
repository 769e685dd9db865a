# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/handlers.md as a newcomer follows it: each block is pasted or run as it is printed, in a copy of the project."""

import re
import shutil
import subprocess
from pathlib import Path

import patience
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/handlers.md").read_text()
PYTHON = re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", DOCUMENT, flags=re.S)
COMMANDS = re.findall(r"^(?:/usr/bin/python3|LIBHOOK_ROOT=).*", DOCUMENT, flags=re.M)
LIFE = "/usr/bin/python3 -m libhook.simulation /tmp/host /tmp/host/win11.xml"
OWNER = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


@pytest.fixture(name="clone")
def _clone(tmp_path: Path) -> Path:
    """The project, with the handler pasted into it, registered as the document says."""
    clone = tmp_path / "clone"
    for name in ("libhook", "hooks", "setup.cfg"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, clone / name)
    patience.lengthen(clone)
    for name, text in PYTHON:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text)
    registry = clone / "libhook/handlers/registry.py"
    (line,) = re.findall('^(    "prepare": .*)$', DOCUMENT, flags=re.M)
    registry.write_text(re.sub('(?m)^    "prepare": .*$', line, registry.read_text()))
    assert registry.read_text().count("reserved") == 1
    return clone


def _environment(clone: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(clone)}


def _run(clone: Path, root: str, command: str) -> "subprocess.CompletedProcess[str]":
    """A line of the document, in the clone's folder; its host is the test's own."""
    words = ["/bin/sh", "-c", command.replace("/tmp/host", root)]
    return subprocess.run(
        words, cwd=clone, env=_environment(clone), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_the_document_is_followed_to_the_letter(clone: Path, root: str) -> None:
    """The example's own test passes, the host is made, and a life is played from its start to its end."""
    assert [name for name, _ in PYTHON] == ["libhook/handlers/reserved.py", "tests/unit/test_reserved.py"]
    first = COMMANDS[: COMMANDS.index(LIFE) + 1]
    assert len(first) == 5
    done = [_run(clone, root, command) for command in first]
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * len(first)
    tested, made, devices, plan, life = (one.stdout for one in done)
    assert "2 passed" in tested
    assert made.startswith(f"made a workstation in {root}, and guests for it, {root}/win11.xml and {root}/other.xml")
    card = "Intel 82574L Gigabit Network Connection [8086:10d3]"
    assert f"  0000:01:00.0  Ethernet  e1000e         {card}  [in the configuration of other and win11]" in devices
    assert f"0000:01:00.0 ({card}): e1000e -> vfio-pci (hostdev of the guest)" in plan.splitlines()
    steps = [line for line in life.splitlines() if line.startswith("hooks/qemu")]
    assert steps == [
        f"hooks/qemu win11 {step}" for step in ("prepare", "start", "started", "stopped", "release shutdown")
    ]
    assert "The host is as before." in life.splitlines()


def test_another_terminal_looks_while_the_guest_runs(clone: Path, root: str) -> None:
    """recover leaves it alone and the second guest is refused, as the document says, until Enter is pressed."""
    status, recover, other = COMMANDS[COMMANDS.index(LIFE) + 1 :]
    assert _run(clone, root, COMMANDS[1]).returncode == 0
    words = LIFE.replace("/tmp/host", root).split()
    with subprocess.Popen(
        words, cwd=clone, env=_environment(clone), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as life:
        assert life.stdin
        assert life.stdout
        for line in life.stdout:
            if "press Enter" in line:
                break
        assert _run(clone, root, status).stdout.splitlines()[0] == f"win11  {OWNER}  started"
        alone = "win11: left alone, because libvirt says that the guest win11 runs\n"
        assert _run(clone, root, recover).stdout == alone
        refused = _run(clone, root, other)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert f"0000:01:00.0 is kept for the guest {OWNER}" in refused.stderr
        life.stdin.write("\n")
        life.stdin.close()
        assert "The host is as before." in life.stdout.read()
    assert life.returncode == 0
    assert _run(clone, root, status).stdout == "nothing is held\n"
    refused = _run(clone, root, other)
    assert refused.returncode == 1
    assert f"is kept for the guest {OWNER}" in refused.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PYTHON[0][1].split("\n\n", 2)[2].split("\n\n", 1)[1], "NameError: \"name 'PciAddress' is not defined\""),
        (
            PYTHON[0][1].replace("import Refusal,", "import Refusals,", 1),
            "ImportError: \"cannot import name 'Refusals'",
        ),
        (PYTHON[0][1].replace("prepare(situation", "prepare(situation:", 1), "SyntaxError: "),
        (
            PYTHON[0][1].replace(".domain.pci", ".guest"),
            "AttributeError: \"'Situation' object has no attribute 'guest'\"",
        ),
    ],
    ids=["imports", "import", "syntax", "run"],
)
def test_a_handler_that_is_broken_is_a_line(clone: Path, root: str, text: str, said: str) -> None:
    """Which says what is wrong with it and where; so does the hook, and a start is refused."""
    (clone / "libhook/handlers/reserved.py").write_text(text)
    assert _run(ROOT, root, COMMANDS[1]).returncode == 0
    done = _run(clone, root, COMMANDS[2])
    assert (done.returncode, done.stderr) == (0, "")
    done = _run(clone, root, COMMANDS[3])
    assert done.returncode == 1
    assert done.stderr.startswith(f"the handler reserved.prepare failed: {said}")
    assert re.search(r"reserved\.py, line \d+", done.stderr)
    assert done.stderr.count("\n") == 1
    done = _run(clone, root, f"LIBHOOK_ROOT={root} hooks/qemu win11 prepare begin - <{root}/win11.xml")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert said in done.stderr
