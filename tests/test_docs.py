# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the documents say is held against the code: commands, keys, refusals, paths, links, quoted examples.

``python3 -m pytest tests/test_docs.py --libhook-regenerate`` writes what is made from the code or from docs/ anew.
"""

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import reference
import refusals
from settings_reading import parse

from libhook.errors import BadInput
from libhook.facts import command, keys, legacy
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.event import OPERATIONS
from libhook.facts.settings import Device
from libhook.handlers import record
from libhook.kinds import registry
from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.xml import domxml

ROOT = Path(__file__).parent.parent
MANUALS = ROOT / "packaging/man"
DOCUMENTS = {path.name: path.read_text() for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))}
CARD = Device(PciAddress.parse("0000:03:00.0"), "10de:2684")
FOLDERS = ("libhook/", "tests/", "docs/", "hooks/", "packaging/", ".ci/")
MADE: dict[str, Callable[[str], str]] = {
    "docs/keys.md": reference.keys_page,
    "docs/commands.md": reference.commands_page,
    "docs/refusals.md": refusals.page,
    "packaging/libhook.toml.sample": lambda _: reference.sample(),
}


def _code(text: str) -> list[str]:
    """Give what is set as code: spans, and the lines of blocks."""
    text = re.sub(
        r"```.*?```", lambda block: "\n".join(f"    {line}" for line in block[0].splitlines()), text, flags=re.S
    )
    blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return blocks + re.findall(r"`([^`]+)`", prose)


LINES = [(name, line) for name, text in DOCUMENTS.items() for line in _code(text)]
SETTINGS: list[tuple[str, str]] = [
    (name, block)
    for name, text in DOCUMENTS.items()
    for block in re.findall(r"^```toml\n(.*?)^```", text, flags=re.M | re.S)
]


@pytest.mark.parametrize("page", MADE)
def test_what_is_made_from_the_code_is_up_to_date(page: str, request: pytest.FixtureRequest) -> None:
    """No key, command, option or refusal is missing, and none is there that libhook does not have."""
    made = MADE[page]((ROOT / page).read_text())
    if request.config.getoption("--libhook-regenerate"):
        (ROOT / page).write_text(made)
    assert (ROOT / page).read_text() == made


def test_a_refusal_reads_as_the_page_shows(root: str) -> None:
    """The example is what the hook says of half a group, and what ``libhook plan`` says."""
    build(root, workstation())
    xml = Guest("win11", (Assigned("0000:03:00.0"),)).xml()
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "LIBHOOK_ROOT": root}
    shown = re.findall(r"unexpected exit status 1: (.*)", DOCUMENTS["refusals.md"])
    for words in ("hooks/qemu win11 prepare begin -", "/usr/bin/python3 -m libhook plan -"):
        done = subprocess.run(words.split(), cwd=ROOT, env=environment, input=xml, capture_output=True, check=False)
        assert (done.returncode, done.stderr.decode().splitlines()) == (1, shown)


def test_settings_that_are_shown_are_right() -> None:
    """For each guest that they name, libhook takes them."""
    wrong = {}
    for page, block in SETTINGS:
        names = [name.replace("*", "x") for name in re.findall(r"domains\.\"([^\"]+)\"", block)]
        for name in names or ["win11"]:
            try:
                parse(block, name, devices=[CARD])
            except BadInput as error:
                wrong[page, name] = error.line
    assert wrong == {}


def _block(page: str, what: str) -> str:
    """The one block of settings in a page that has this."""
    (block,) = (block for name, block in SETTINGS if name == page and what in block)
    return block


def test_the_example_of_sections_is_one() -> None:
    """The block in docs/configuration.md: each section holds for whom the text says."""
    block = _block("configuration.md", "swappiness")
    assert parse(block, "linux") == Config(holder_wait=20.0)
    assert parse(block, "linux", devices=[CARD]) == Config(holder_wait=20.0, driver="vfio-pci")
    assert parse(block, "win10") == Config(holder_wait=20.0, audit_required=True)
    win11 = parse(block, "win11", devices=[CARD])
    assert (win11.siblings, win11.audit_required, win11.driver) == ("bind", True, "vfio-pci")
    assert win11.actions == {
        "values": {"vm.swappiness": 10},
        "units": {"display-manager.service": "down"},
        "take_along": ["0000:05:00.0"],
        "modules": ["nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"],
    }


def test_the_examples_of_commands_and_old_scripts_have_their_defaults() -> None:
    """But for the path, the user, the reason, and what a command comes after."""
    (table,) = parse(_block("settings.md", ".run."), "win11").actions["run"].values()
    shown = command.parse("screen", table)
    assert shown._replace(user="", reason="", after="") == command.Command("screen", shown.command, shown.undo)
    assert set(table) == set(command.Command._fields) - {"name"}
    old = parse(_block("settings.md", ".legacy]"), "win11").actions["legacy"]
    assert legacy.parse(old) == legacy.Legacy("/etc/libvirt/old-hooks/qemu")


def test_what_a_guest_asks_for_is_listed_in_the_order_in_which_it_is_done() -> None:
    """Key by key, the devices last; each is known to the settings, and some kind's."""
    done = [key for keys in registry._SETTINGS.values() for key in keys]
    done.append(done.pop(done.index("take_along")))  # the devices come last
    rows = " ".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DOCUMENTS["settings.md"], flags=re.M))
    assert [key for key in re.findall(r"\w+", rows) if key in keys.OF_KINDS] == done
    assert {*done, "handlers"} == set(keys.OF_KINDS)


def test_every_key_is_described() -> None:
    """Those that the settings know, and no others; each example may stand somewhere, and asks for something."""
    assert sorted(reference.KEYS) == sorted(keys.known())
    for key, about in reference.KEYS.items():
        assert keys.expectation(key, tomllib.loads(f"value = {about.example}")["value"]) == "", key
        assert reference.places(key), key
        assert about.example != reference.default(key)


def test_every_place_matters() -> None:
    """What consents to a risk may not be in a section for guests or devices to come; an old script not for a device."""
    places = {
        "siblings": "top guest",
        "take_along": "guest",
        "legacy": "top pattern guest",
        "units": "top device pattern guest",
    }
    assert {key: " ".join(reference.places(key)) for key in places} == places


def test_the_sample_without_its_comments_is_right() -> None:
    """The first part is the defaults; all of it is settings that hold for that guest."""
    text = (ROOT / "packaging/libhook.toml.sample").read_text()
    assert re.findall(r"^[^#\n]", text, flags=re.M) == []
    defaults, _, asked = "".join(re.findall(r"^#([^ \n].*\n)", text, flags=re.M)).partition("[domains.")
    assert parse(defaults) == Config()
    assert set(parse(f"{defaults}[domains.{asked}", "win11").actions) == set(keys.OF_KINDS)


def test_which_operations_may_refuse() -> None:
    """docs/flow.md: these two, and no others; the ones that it does not list do nothing."""
    rows = re.findall(r"^\| `(\w+)[^|]*`[^|]*\|[^|]*\|([^|]*)\|[^|]*\|$", DOCUMENTS["flow.md"], flags=re.M)
    told = {name: may.strip() == "yes" for name, may in rows}
    assert told == {name: operation.may_veto for name, operation in OPERATIONS.items() if name in told}
    assert [name for name, operation in OPERATIONS.items() if operation.acts and name not in told] == []


def test_the_record_is_the_one_that_is_written() -> None:
    """docs/record.md: what libhook says in it; the rest is the kernel's and libaudit's."""
    shown = " ".join(DOCUMENTS["record.md"].split("```text\n")[1].split("\n```")[0].split())
    domain = domxml.parse(Guest("win11", (Assigned("0000:03:00.0"),)).xml())
    assert f"msg='{record.text(domain, domain.devices[0], 'start')} exe=" in shown


def test_a_command_that_is_shown_exists() -> None:
    """Each `libhook …` that is set as code begins with a command there is, and its options are the command's own."""
    known, uttered = reference.commands(), {said.reason for said in refusals.every()}
    told = {
        (name, line, option or word)
        for name, line in LINES
        if name != "refusals.md" or line not in uttered  # "libhook cannot see …" is no command
        for word, rest in re.findall(r"(?:^|[$|] |-m )libhook ([a-z]+)\b([^|`]*)", line)
        for option in ["", *re.findall(r"--[a-z-]+", rest)]
        if word not in known or option not in known[word].format_help()
    }
    assert told == set()


def test_a_path_that_is_shown_exists() -> None:
    """A file or folder of the project that is named as code is there, but for those that the reader shall make."""
    told = {
        (name, path)
        for name, line in LINES
        for path in re.findall(r"(?<![\w/.])[\w.]+/[\w./-]*\w/?", line)
        if path.startswith(FOLDERS)
        and not (ROOT / path).exists()
        and f"`{path}`:\n\n```python\n" not in DOCUMENTS[name]
    }
    assert told == set()


def _headings(page: Path) -> Iterator[str]:
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            yield re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")


def test_a_link_leads_somewhere() -> None:
    """A relative link names a file that exists, and a heading in it."""
    dead = set()
    for name, text in DOCUMENTS.items():
        page = next(path for path in (ROOT / "docs" / name, ROOT / name) if path.exists())
        for target in re.findall(r"\]\(([^)]+)\)", text):
            to, _, anchor = target.partition("#")
            path = page.parent / to if to else page
            is_there = path.exists() and (not anchor or path.suffix != ".md" or anchor in _headings(path))
            if "://" not in target and not is_there:
                dead.add((name, target))
    assert dead == set()


def test_a_page_is_called_what_the_list_of_pages_calls_it() -> None:
    """So its reader knows that it is the right one."""
    listed = re.findall(r"^- \[(.*)\]\((.*)\)$", DOCUMENTS["index.md"], flags=re.M)
    assert [(name, title) for title, name in listed if not DOCUMENTS[name].startswith(f"# {title}\n")] == []


def test_a_picture_is_small_and_loads_nothing() -> None:
    """Below 150 kB, shown by some page, and complete without a network."""
    texts = "".join(DOCUMENTS.values())
    pictures = list((ROOT / "docs/pictures").iterdir())
    assert [one for one in pictures if one.stat().st_size >= 150_000 or f"pictures/{one.name}" not in texts] == []
    drawn = [one for one in pictures if one.suffix == ".svg"]
    assert [one for one in drawn if re.search(r"url\((?!#)|href=", one.read_text())] == []


def _make(kind: str, folder: Path) -> None:
    """Run the command of CONTRIBUTING.md, but into this folder."""
    words = ["/usr/bin/python3", "-m", "sphinx", "-q", "-W", "--keep-going", "-b", kind, "-d", f"{folder}/read"]
    done = subprocess.run([*words, "docs", f"{folder}/made"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_site_has_every_page_in_its_menu(tmp_path: Path) -> None:
    """No warning, no page that nothing leads to, and no link that leads nowhere."""
    _make("html", tmp_path)
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    front = (tmp_path / "made/index.html").read_text()
    assert {page for page in pages if not (tmp_path / f"made/{page}.html").exists()} == set()
    assert {page for page in pages if f'href="{page}.html"' not in front} <= {"index"}


def test_the_manual_pages_are_those_of_the_documents(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What is installed is what docs/ says."""
    _make("man", tmp_path)
    made = {page.name: page.read_text() for page in (tmp_path / "made").iterdir()}
    if request.config.getoption("--libhook-regenerate"):
        for name, text in made.items():
            (MANUALS / name).write_text(text)
    assert {page.name: page.read_text() for page in MANUALS.iterdir()} == made
    assert set(made) == {"libhook.8", "libhook.toml.5", "libhook-handlers.7"}


def test_a_manual_page_reads_well() -> None:
    """mandoc and groff have nothing to say against it; its parts are there, and no mark of the source is left.

    Its reader has what it names: another manual page, or a note with the place where install.sh puts the page.
    """
    names = {page.name for page in MANUALS.iterdir()}
    for page in MANUALS.iterdir():
        groff = ("groff", "-Kutf8", "-man", "-t", "-ww", "-Tutf8", "-P-cbou", "-rLL=300n", "-rHY=0", page)
        for words in (("mandoc", "-T", "lint", "-W", "warning", page), groff):
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), page
            assert done.stdout == "" or words == groff, page
        headings = re.findall(r"^[A-Z].*", done.stdout, flags=re.M)
        assert (headings[1:4], "SEE ALSO" in headings) == (["NAME", "SYNOPSIS", "DESCRIPTION"], True), page
        prose = re.sub(r"^ {10,}.*", "", done.stdout, flags=re.M)
        assert re.findall(r"\]\(|\*\*|^ *\|", prose, flags=re.M) == [], page
        text, notes = f"{done.stdout}\nNOTES\n".split("\nNOTES\n")[:2]
        assert re.findall(r"[\w-]+\.md\b", text) == [], page
        assert {".".join(one) for one in re.findall(r"\b(libhook[\w.-]*)\((\d)\)", text)} <= names, page
        listed = re.findall(r"^ +\[(\d+)\] /usr/local/share/doc/libhook/(\S+)$", notes, flags=re.M)
        assert sorted(set(re.findall(r"[\w.]\[(\d+)\]", text))) == [number for number, _ in listed], page
        assert [path for _, path in listed if not (ROOT / path).exists()] == [], page
