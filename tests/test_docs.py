# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the documents say is held against the code: commands, keys, refusals, paths, links, quoted examples."""

import argparse
import configparser
import re
import subprocess
from pathlib import Path

import pytest
import refusals
from settings_reading import parse

from libhook import __version__
from libhook.command import parsing
from libhook.facts import command, legacy, requirement
from libhook.facts import keys as known
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.settings import Device
from libhook.kinds import registry

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
REFUSALS = (ROOT / "docs/refusals.md").read_text()
SETTINGS = (ROOT / "docs/settings.md").read_text()
FOLDERS = ("libhook/", "tests/", "docs/", "hooks/", "packaging/", ".ci/")
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def _code(text: str) -> list[str]:
    """Give what is set as code: spans, and the lines of blocks."""
    text = re.sub(
        r"```.*?```", lambda block: "\n".join(f"    {line}" for line in block[0].splitlines()), text, flags=re.S
    )
    blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return blocks + re.findall(r"`([^`]+)`", prose)


def _commands() -> dict[str, argparse.ArgumentParser]:
    """Give libhook's commands, by name."""
    actions = parsing.parser()._actions  # argparse has no other way to ask
    return dict(next(one.choices for one in actions if isinstance(one, argparse._SubParsersAction)))


def test_the_example_of_sections_is_one() -> None:
    """The block in docs/configuration.md: each section holds for whom the text says."""
    block = CONFIGURATION.split("```toml\n")[1].split("```")[0]
    card = Device(PciAddress.parse("0000:03:00.0"), "10de:2684")
    assert parse(block, "linux") == Config(holder_wait=20.0)
    assert parse(block, "linux", devices=[card]) == Config(holder_wait=20.0, driver="vfio-pci")
    assert parse(block, "win10") == Config(holder_wait=20.0, audit_required=True)
    win11 = parse(block, "win11", devices=[card])
    assert (win11.siblings, win11.audit_required, win11.driver) == ("bind", True, "vfio-pci")
    assert win11.actions == {
        "values": {"vm.swappiness": 10},
        "units": {"display-manager.service": "down"},
        "take_along": ["0000:05:00.0"],
        "end": ["sessions", "/usr/bin/sunshine"],
        "modules": ["nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"],
    }


def test_the_example_of_a_command_has_its_defaults() -> None:
    """What the block says of a command are the defaults, but for the user, the reason, and what it comes after."""
    (table,) = parse(_block(".run."), "win11").actions["run"].values()
    shown = command.parse("screen", table)
    assert shown._replace(user="", reason="", after="") == command.Command("screen", shown.command, shown.undo)
    assert set(table) == set(command.Command._fields) - {"name"}


def test_the_example_of_a_requirement_is_one() -> None:
    """A file that is there, a unit that is not active, and a command."""
    images, backup, nas = parse(_block(".require."), "win11").actions["require"].values()
    assert requirement.parse("a", images).file == "/srv/images/win11.img"
    assert requirement.parse("a", backup).absent
    assert requirement.parse("a", nas).command[0] == "/usr/bin/ping"


def _block(what: str) -> str:
    """The block in docs/settings.md that has this."""
    (block,) = (one.split("```")[0] for one in SETTINGS.split("```toml\n")[1:] if what in one.split("```")[0])
    return block


def test_the_example_of_old_scripts_has_its_defaults() -> None:
    """But for the path."""
    assert legacy.parse(parse(_block(".legacy]"), "win11").actions["legacy"]) == legacy.Legacy(
        "/etc/libvirt/old-hooks/qemu"
    )


def test_what_a_guest_asks_for_is_listed_in_the_order_in_which_it_is_done() -> None:
    """Key by key, the devices last."""
    done = [key for keys in registry._SETTINGS.values() for key in keys]
    done.append(done.pop(done.index("take_along")))  # the devices come last
    rows = " ".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", SETTINGS, flags=re.M))
    assert [key for key in re.findall(r"\w+", rows) if key in known.OF_KINDS] == done


@each_document
def test_a_command_that_is_shown_exists(document: Path) -> None:
    """Each `libhook …` that is set as code begins with a command there is, and its options are the command's own."""
    known, uttered = _commands(), {said.reason for said in refusals.every()}
    for line in _code(document.read_text()):
        if document.name == "refusals.md" and line in uttered:
            continue  # "libhook cannot see …" is no command
        for name, rest in re.findall(r"(?:^|[$|] |-m )libhook ([a-z]+)\b([^|`]*)", line):
            assert name in known, line
            for option in re.findall(r"--[a-z-]+", rest):
                assert option in known[name].format_help(), line


@each_document
def test_a_path_that_is_shown_exists(document: Path) -> None:
    """A file or folder of the project that is named as code is there, but for those that the reader shall make."""
    text = document.read_text()
    made = re.findall(r"`([\w/]+\.py)`:\n\n```python\n", text)
    for line in _code(text):
        for path in re.findall(r"(?<![\w/.])[\w.]+/[\w./-]*\w/?", line):
            if path.startswith(FOLDERS) and path not in made:
                assert (ROOT / path).exists(), path


@each_document
def test_a_link_leads_somewhere(document: Path) -> None:
    """A relative link names a file that exists, and a heading in it."""
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), target
        if path.suffix != ".md":
            continue
        headings = [
            re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
            for line in path.read_text().splitlines()
            if line.startswith("#")
        ]
        assert not anchor or anchor in headings, target


def test_a_page_is_called_what_the_list_of_pages_calls_it() -> None:
    """So its reader knows that it is the right one."""
    listed = re.findall(r"^- \[(.*)\]\((.*)\)$", (ROOT / "docs/index.md").read_text(), flags=re.M)
    headings = {name: (ROOT / "docs" / name).read_text().partition("\n")[0] for _, name in listed}
    assert [(name, title) for title, name in listed if headings[name] != f"# {title}"] == []


def test_a_picture_is_small_and_loads_nothing() -> None:
    """Below 150 kB, made by tests/pictures.py, shown by some page, and complete without a network."""
    texts = "".join(document.read_text() for document in DOCUMENTS)
    for picture in (ROOT / "docs/pictures").iterdir():
        assert picture.stat().st_size < 150_000, picture
        assert f"pictures/{picture.name}" in texts
        assert picture.suffix != ".svg" or not re.search(r"url\((?!#)|href=", picture.read_text())


def test_the_readme_is_short() -> None:
    """What, for whom, a first guest, and links: the rest is in docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_version_is_the_same_in_both_places() -> None:
    """What pip installs and what ``libhook --version`` says do not differ."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert parser["metadata"]["version"] == __version__


def _run(root: str, *command: str, xml: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run one of the project's programs from its folder, on the host in ``root``."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "LIBHOOK_ROOT": root}
    done = subprocess.run(command, cwd=ROOT, env=environment, input=xml, capture_output=True, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
