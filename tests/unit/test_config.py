# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration: its defaults, which section wins, and what may not be relaxed for many at once."""

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from generated import generated
from hypothesis import strategies as st
from settings_reading import files, parse

from libhook.errors import BadInput
from libhook.facts.config import Config
from libhook.facts.domain import Domain
from libhook.facts.machine import Machine
from libhook.simulation.kernel import SimulatedKernel
from libhook.story import session

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
WIN11 = Domain("win11", UUID, "kvm", ())
ALL = """
dry_run = true
bind_managed = true
driver = "mlx5_vfio_pci"
siblings = "bind"
write_deadline = 5
holder_wait = 0.5
[audit]
record = "2011"
required = true
extra = true
[preflight]
storage = "warn"
network = "off"
display = "refuse"
usb = "warn"
"""


def test_no_file_is_the_file_with_the_defaults(root: str) -> None:
    """Every default is safe, and a missing file is the same as an empty one."""
    assert session.load_config(Machine(root, SimulatedKernel(root)), WIN11) == parse("") == Config()
    assert tuple(Config()) == (
        False,
        False,
        "auto",
        "refuse",
        30.0,
        10.0,
        "libvirt",
        False,
        False,
        *["refuse"] * 5,
        {},
        False,
    )


def test_every_key_is_read() -> None:
    """Each lands where it belongs, numbers as seconds."""
    assert parse(ALL) == Config(
        True, True, "mlx5_vfio_pci", "bind", 5.0, 0.5, "2011", True, True, "warn", "off", "refuse", "warn"
    )


@pytest.mark.parametrize(
    ("sections", "winner"),
    [
        ({}, "top"),
        ({"other": "no"}, "top"),
        ({"*": "star"}, "star"),
        ({"*": "star", "win*": "longer"}, "longer"),
        ({"win*": "longer", "*": "star"}, "longer"),
        ({"win11": "name", "win*": "longer"}, "name"),
        ({"win11": "name", UUID: "uuid"}, "uuid"),
        ({UUID: "uuid", "win11": "name", "win1[0-9]": "glob"}, "uuid"),
        ({"WIN11": "case"}, "top"),
        ({"win1": "part"}, "top"),
    ],
)
def test_the_most_specific_section_wins(sections: dict[str, str], winner: str) -> None:
    """UUID, exact name, the longest pattern, top level, in whatever order they are written."""
    text = 'driver = "top"\n' + "".join(f'[domains."{name}"]\ndriver = "{value}"\n' for name, value in sections.items())
    assert parse(text, "win11", UUID).driver == winner


def test_sections_win_key_by_key() -> None:
    """What a section does not say is left as the next one says it."""
    text = '[domains."*"]\ndry_run = true\nholder_wait = 1\n[domains.win11]\nholder_wait = 2\n'
    assert parse(text, "win11", UUID) == Config(dry_run=True, holder_wait=2.0)


@pytest.mark.parametrize("key", ["siblings = 'bind'", "preflight.storage = 'off'", "preflight.usb = 'warn'"])
@pytest.mark.parametrize("pattern", ["*", "win*", "win1?", "win[1]1"])
def test_a_pattern_may_not_relax(key: str, pattern: str) -> None:
    """A pattern written once catches guests made later; one guest may be named, and a pattern may be stricter."""
    with pytest.raises(BadInput, match="may not be set for a pattern"):
        parse(f"[domains.'{pattern}']\n{key}\n", "win11", UUID)
    for one in ("win11", UUID):
        assert parse(f"[domains.'{one}']\n{key}\n", "win11", UUID) != Config()
    strict = f"{key.split(' ')[0]} = 'refuse'"
    assert parse(f"{key}\n[domains.'{pattern}']\n{strict}\n", "win11", UUID) == Config()


def test_a_pattern_that_relaxes_refuses_only_whom_it_matches() -> None:
    """It is an error all the same, for libhook config and the doctor."""
    text = "[domains.'x*']\nsiblings = 'bind'\n"
    assert parse(text, "win11", UUID) == Config()
    assert len(files(text).problems) == 1


@pytest.mark.parametrize("seconds", ["0", "-1", "3601", "inf", "-inf", "nan", "true", "'5'", "1e400"])
@pytest.mark.parametrize("key", ["write_deadline", "holder_wait"])
def test_seconds_are_seconds(key: str, seconds: str) -> None:
    """Nobody waits for ever, or not at all."""
    with pytest.raises(BadInput, match=key):
        parse(f"{key} = {seconds}\n")


@pytest.mark.parametrize("shown", ["a list", "a section"])
def test_what_holds_more_than_a_value_is_not_written_out(shown: str) -> None:
    """There is no end to what it may hold, or to how deep."""
    value = " = ['vfio-pci']" if shown == "a list" else ".a" * 2000 + " = 1"
    with pytest.raises(BadInput, match=f"driver is {shown}$"):
        parse(f"driver{value}\n")


@generated("configuration", st.text())
def test_any_text_is_a_configuration_or_bad_input(text: str) -> None:
    """Nothing else is raised."""
    with suppress(BadInput):
        parse(text, "win11", UUID)


@generated(
    "configuration",
    st.dictionaries(st.text(min_size=1), st.one_of(st.booleans(), st.integers(), st.text()), min_size=1),
)
def test_any_other_key_is_refused_by_its_name(values: dict[str, bool | int | str]) -> None:
    """Whatever the value."""
    known = {*Config._fields, "audit", "preflight", "domains"}
    for key, value in values.items():
        if key not in known and key.isascii() and key.isprintable() and '"' not in key and "\\" not in key:
            shown = str(value).lower() if isinstance(value, bool | int) else "''"
            with pytest.raises(BadInput) as caught:
                parse(f'"{key}" = {shown}\n')
            assert key in caught.value.message


_values = st.one_of(
    st.booleans().map(lambda value: str(value).lower()),
    st.integers(-2, 4000).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["'refuse'", "'warn'", "'off'", "'bind'", "'auto'", "'2011'", "'libvirt'", "[]", "{}", "1979-05-27"]
    ),
    st.text(max_size=4).map(lambda text: f"'{text}'"),
)
_names = st.sampled_from([*Config._fields, "audit", "domains", "preflight.storage", "audit.record", "audit.required"])
_lines = st.one_of(
    st.builds("{} = {}".format, _names, _values),
    st.sampled_from(["[audit]", "[preflight]", "[domains.win11]", "[domains.'*']", f"[domains.'{UUID}']", "[domains]"]),
)


@generated("configuration", st.lists(_lines, max_size=5).map("\n".join))
def test_any_configuration_of_known_words_is_one_or_bad_input(text: str) -> None:
    """Every key with any value in any section; what is accepted is of the types that the rest relies on."""
    try:
        settings = parse(text, "win11", UUID)
    except BadInput as error:
        assert error.line.isprintable()  # noqa: PT017 - the other outcome is looked at as well
        return
    assert [type(value) for value in settings] == [type(value) for value in Config()]


@generated("configuration", st.binary(max_size=60))
def test_a_file_of_any_bytes_is_a_configuration_or_bad_input(content: bytes) -> None:
    """As root would find it on the disk."""
    with tempfile.TemporaryDirectory() as root:
        machine = Machine(root, SimulatedKernel(root))
        Path(machine.config).parent.mkdir(parents=True)
        Path(machine.config).write_bytes(content)
        with suppress(BadInput):
            session.load_config(machine, WIN11)


def test_root_s_own_file_is_read(root: str) -> None:
    """And only a plain one: see the tests of bad input for the others."""
    machine = Machine(root, SimulatedKernel(root))
    Path(machine.config).parent.mkdir(parents=True)
    Path(machine.config).write_text(ALL)
    assert session.load_config(machine, WIN11).dry_run
