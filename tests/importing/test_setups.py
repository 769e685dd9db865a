# SPDX-License-Identifier: LGPL-2.1-or-later
"""Set-ups of the kinds that people publish, written anew: what each becomes, to the letter.

``pytest tests/importing --libhook-regenerate`` writes the drop-ins anew; git diff shows what that changes.
"""

from pathlib import Path

import pytest
from plainhost import plain

from libhook.facts import settings
from libhook.facts.config import Source
from libhook.importing import importer, report, sources
from libhook.importing.command import guest
from libhook.importing.importer import Imported

SETUPS = Path(__file__).parent / "setups"
NAMES = sorted(path.name for path in SETUPS.iterdir() if path.is_dir())
KINDS = {
    "compositor": "a user's session killed, override and probe, a check after it",
    "layered": "functions in default.d, a folder for each guest overrides, a script in /usr/local/bin",
    "nft_table": "nftables, guests as keys of an array",
    "storage": "a pool exported, a pattern of names, many programs",
    "classic": "one card: VFIO-Tools tree, kvm.conf, consoles, NVIDIA",
    "cpus_of_all": "CPUs kept from the host, for every guest",
    "disks_and_pages": "numbered files: huge pages, mounts, an NVMe by override",
    "esp": "an EFI partition unmounted, at start and stopped",
    "inhibit_file": "a start refused by a file for each guest",
    "mistakes": "no interpreter line, wrong names, dangerous lines",
    "operation_files": "GUEST/OPERATION.SUB without a dispatcher, OpenRC",
    "pages_from_xml": "huge pages by the XML on stdin",
    "pattern": "guests by a pattern, a compositor killed",
    "phases": "GUEST/OPERATION/PHASE.sh, other services",
    "ports": "ports forwarded, again at reconnect",
    "python": "a hook in Python",
    "refusing": "checks before anything, each step may refuse",
    "samba": "a service while the guest runs",
    "screen_and_keyboard": "monitor, keyboard, governor, as a user",
    "scripts_in_bin": "risingprism: hooks/qemu, two scripts in /bin, a unit",
    "shared_memory": "a shared file, sound of a user",
    "suspend": "qemu.d/GUEST, AMD card reset by suspend and rescan",
    "tuned_amd": "AMD card, CPUs, governor, interrupts of the guest",
    "two_cards": "the desktop moves to the other card",
    "usb_and_bluetooth": "override, USB, sessions, a deferred worker",
}
"""What each set-up is like, for docs/importing.md."""
PAGE = Path(__file__).parents[2] / "docs" / "importing.md"
BEGIN, END = "<!-- made by pytest tests/importing --libhook-regenerate -->\n", "<!-- end -->"
_KNOWN: dict[str, Imported] = {}


def imported(name: str) -> Imported:
    """What import makes of one set-up, on a host with four CPUs."""
    if name not in _KNOWN:
        given = [guest(str(path)) for path in (SETUPS / f"{name}.xml",) if path.exists()]
        found = importer.run(sources.read([str(SETUPS / name)]), given, [name], plain())
        _KNOWN[name] = found
    return _KNOWN[name]


def lines(name: str) -> list[str]:
    """The report, without where the set-up is here."""
    return [line.replace(f"{SETUPS}/", "") for line in imported(name).lines]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_setup_becomes(name: str, request: pytest.FixtureRequest) -> None:
    """The drop-in and the report are what stands beside the set-up."""
    text = "\n".join(
        (
            "# SPDX-License-Identifier: LGPL-2.1-or-later",
            imported(name).text.rstrip(),
            *(f"#{' ' if line else ''}{line}" for line in lines(name)),
            "",
        )
    )
    golden = SETUPS / f"{name}.toml"
    if request.config.getoption("--libhook-regenerate"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_can_be_read(name: str) -> None:
    """libhook's own reader of settings finds nothing wrong in any of them."""
    found = settings.read([Source("imported.toml", imported(name).text)])
    assert [problem for section in found.sections for problem in section.problems] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_accounted_for(name: str) -> None:
    """A line with a program in it that acts is in the report, or ran only to decide something."""
    data = imported(name).data
    told = {(one["file"], one["line"]) for key in ("lines", "never_ran") for one in data[key]}  # type: ignore[attr-defined]
    acts = ("systemctl st", "systemctl set", "modprobe ", "virsh nodedev", "umount ", "mount ", "iptables ", "sudo ")
    for file in sources.read([str(SETUPS / name)]).files:
        for number, line in enumerate(file.lines, 1):
            if file.place and file.is_shell and line.strip().startswith(acts):
                assert (file.origin, number) in told, line


def test_who_asks_for_no_name_gets_a_section_for_all() -> None:
    """CPUs were kept for every guest, and still are."""
    assert imported("cpus_of_all").text.splitlines()[1].startswith("[run.")


def test_a_pattern_stays_a_pattern() -> None:
    """The scripts ran with a name that fits, so what they do is known."""
    assert any("killall openbox" in line for line in lines("pattern"))


def test_no_operation_is_called_stop() -> None:
    """In a comparison, and as a folder's name."""
    assert any("pattern/qemu:6: no operation is called stop" in line for line in lines("pattern"))
    assert any("stop.sh never runs: no operation is called stop" in line for line in lines("mistakes"))


def test_a_path_is_no_unit() -> None:
    """The display manager was never stopped, though it was meant."""
    assert any("is not a unit, but a path: nothing was stopped" in line for line in lines("mistakes"))
    assert any("the display manager was never stopped by this script" in line for line in lines("mistakes"))


def test_what_is_dangerous_is_not_carried_over() -> None:
    """Flushed tables, killed names and libvirt's own files are named, and nowhere in the drop-in."""
    text = imported("mistakes").text
    assert "iptables" not in text
    assert "fuser" not in text
    assert "box.monitor" not in text
    assert sum(line.startswith("Not carried over") for line in lines("mistakes")) == 1


def test_a_document_that_is_given_is_read() -> None:
    """The number of pages comes from the guest's memory."""
    assert '"vm.nr_hugepages" = 4096' in imported("pages_from_xml").text


def test_a_device_that_the_xml_lacks_is_taken_along() -> None:
    """The scripts hand it over; the document names only its neighbour."""
    assert 'take_along = ["0000:03:00.0"]' in imported("usb_and_bluetooth").text


def test_lines_that_never_ran_are_listed() -> None:
    """The branch for the other maker's card."""
    files = sources.read([str(SETUPS / "scripts_in_bin")])
    never = [file.lines[number - 1].strip() for file, number in report.never_ran(files, frozenset())]
    assert "modprobe -r amdgpu" in never
    assert any("modprobe -r amdgpu" in line for line in lines("scripts_in_bin"))


def _row(name: str) -> str:
    data = imported(name).data
    told = [{(one["file"], one["line"]) for one in data["lines"] if one["what"] == what}  # type: ignore[attr-defined]
            for what in ("kept", "undone", "needless", "danger", "left", "wrong")]  # fmt: skip
    never = sum(one["acts"] for one in data["never_ran"])  # type: ignore[attr-defined]
    numbers = [*map(len, told), never]
    return f"| [{name}](../tests/importing/setups/{name}.toml) | {KINDS[name]} | {' | '.join(map(str, numbers))} |"


def test_the_page_has_how_each_fares(request: pytest.FixtureRequest) -> None:
    """docs/importing.md has a row for each set-up, with what became of its lines."""
    head = "| set-up | what it is | carried | undone | needless | dangerous | left | wrong | never ran |"
    table = "\n".join((head, "|---|---|---|---|---|---|---|---|---|", *map(_row, NAMES), ""))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    text = f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}"
    if request.config.getoption("--libhook-regenerate"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text
