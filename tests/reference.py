# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/keys.md, docs/commands.md and the sample of the settings have from the code; prose is the page's own.

``python3 -m pytest tests/test_docs.py --libhook-regenerate`` writes them anew.
"""

import argparse
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from settings_reading import parse

from libhook.command import parsing
from libhook.errors import BadInput
from libhook.facts import keys
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.settings import Device

CARD = Device(PciAddress.parse("0000:03:00.0"), "10de:2684")
PLACES = (
    ("top", ""),
    ("device", '[devices."10de:2684"]\n'),
    ("pattern", '[domains."win*"]\n'),
    ("guest", '[domains."win11"]\n'),
)
"""Where a key may stand, and how such a section begins."""


class Key(NamedTuple):
    """What no code says of a key."""

    example: str
    """A value that asks for more than the default does."""
    meaning: str
    """In a few words, for one line of a table and of the sample."""


KEYS = {
    "dry_run": Key("true", "log what would be done, and do nothing; what was taken is still given back"),
    "bind_managed": Key("true", "take devices with managed='yes', too"),
    "driver": Key(
        '"vfio-pci"', "the vfio driver for the device; auto: the kernel's variant driver for it, else vfio-pci"
    ),
    "siblings": Key('"bind"', "the rest of the IOMMU group: refuse the start, or bind it, too, and give it back"),
    "write_deadline": Key("60", "seconds for each part of an event, with the wait for holders; plan shows the parts"),
    "holder_wait": Key("20", "seconds to wait for processes to let go of a device"),
    "identity": Key('"warn"', "another device at an address than at the guest's last start"),
    "audit.record": Key('"2011"', "the text of a record: today's libvirt's, or that of its first patch"),
    "audit.required": Key("true", "hand no device over when the trail cannot be written"),
    "audit.extra": Key("true", "more about the device in each record, behind libvirt's own fields"),
    "preflight.storage": Key('"warn"', "a disk in use: mounted, swap, LVM, MD, mapper, ZFS, loop, nvmet, LIO"),
    "preflight.network": Key('"warn"', "a network card with the default route, or in a bridge or bond"),
    "preflight.display": Key('"warn"', "a GPU whose nodes a process has open"),
    "preflight.usb": Key('"warn"', "a USB controller with a disk in use behind it"),
    "replace": Key("true", "lists and tables of this section replace those of less specific ones"),
    "run": Key('{ hello = { command = ["/usr/bin/logger", "hello"] } }', "commands of your own, each with its undo"),
    "values": Key('{ "vm.swappiness" = 10 }', "sysctls and files below /sys have another value"),
    "units": Key('{ "sddm.service" = "down", "/srv/data" = "down" }', "systemd units are down, or up; mounts, too"),
    "legacy": Key('{ path = "/etc/libvirt/old-hooks/qemu" }', "old hook scripts run as before, with a deadline"),
    "modules": Key('["device:display"]', "kernel modules are unloaded"),
    "take_along": Key('["0000:05:00.0"]', "PCI devices that the XML does not name are bound, too"),
    "handlers": Key("{ night = { begins = 22 } }", "handlers of your own are asked"),
}
"""Every key, in the order of the tables. tests/test_docs.py holds it against the code."""


def toml(value: object) -> str:
    """A default as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def default(key: str) -> str:
    """A key's default as TOML; "" where it is that nothing is asked for."""
    name = key.replace(".", "_")
    return toml(getattr(Config(), name)) if name in Config._fields else ""


def places(key: str) -> list[str]:
    """In which sections the key may ask for more than its default: tried, not known."""
    return [place for place, head in PLACES if _is_right(f"{head}{key} = {KEYS[key].example}")]


def _is_right(text: str) -> bool:
    try:
        parse(text, "win11", devices=[CARD])
    except BadInput:
        return False
    return True


def _wanted(key: str) -> str:
    """What the code says the value should be."""
    return keys.expectation(key, None)


def _where(key: str) -> str:
    return "everywhere" if len(found := places(key)) == len(PLACES) else ", ".join(found)


def _form(key: str) -> str:
    """What a key wants, without the example at its end."""
    return _wanted(key).rpartition(": ")[0] or _wanted(key)


def _with_tables(page: str, *tables: list[list[str]]) -> str:
    """A page with these rows in its tables."""
    rest = iter(tables)
    return re.sub(
        r"(?<=---\|\n)(?:\|.*\n)*",
        lambda _: "".join(f"| {' | '.join(cells)} |\n" for cells in next(rest)),
        page,
    )


def keys_page(page: str) -> str:
    """Return docs/keys.md."""
    with_default, others = [], []
    for key, about in KEYS.items():
        if default(key):
            with_default.append([f"`{key}`", _wanted(key), f"`{default(key)}`", _where(key), about.meaning])
        elif key != "replace":
            others.append([f"`{key}`", f"{_form(key)}: `{about.example}`", _where(key), about.meaning])
    page = re.sub(r"(?<=^`replace = true` in a section: ).*", f"{KEYS['replace'].meaning}.", page, flags=re.M)
    return _with_tables(page, with_default, others)


def sample() -> str:
    """Return packaging/libhook.toml.sample."""
    lines = [
        "# SPDX-License-Identifier: LGPL-2.1-or-later",
        "#",
        "# A sample of libhook's settings. No file is needed. Here are the defaults, and an example of each key that",
        "# asks something of the host. Copy what shall be otherwise to /etc/libhook/config.toml, without the #.",
        "# libhook config shows what holds. See libhook.toml(5).",
        "",
    ]
    group = ""
    for key in (key for key in KEYS if default(key)):
        table, _, name = key.rpartition(".")
        if table != group:
            lines += ["", f"#[{table}]"]
            group = table
        lines += [f"# {KEYS[key].meaning}", f"#{name} = {default(key)}"]
    lines += [
        "",
        "# What one guest asks of the host, by its name or UUID. A pattern and a device have sections, too.",
        '#[domains."win11"]',
    ]
    for key in (key for key in KEYS if not default(key)):
        where = "" if len(places(key)) == len(PLACES) else f" (only: {_where(key)})"
        lines += [f"# {KEYS[key].meaning}{where}", f"#{key} = {KEYS[key].example}"]
    return "\n".join(lines) + "\n"


def commands() -> dict[str, argparse.ArgumentParser]:
    """Give libhook's commands, by name, in the order of ``libhook --help``."""
    found = next(one for one in parsing.parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(found.choices)


def _words(action: argparse.Action) -> str:
    """An argument or option as ``--help`` lists it."""
    value = (
        ""
        if action.nargs == 0
        else str(action.metavar or (action.dest if action.option_strings else action.dest.upper()))
    )
    more = "..." if action.nargs in ("+", "*") else ""
    return f"{', '.join(action.option_strings)} {value}{more}".strip()


def _synopsis(parser: argparse.ArgumentParser) -> str:
    """The usage that ``--help`` prints, without itself. It is broken between brackets only."""
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split()).replace(" [-h]", "")
    whole = re.sub(r"\[(?:[^][]|\[[^]]*\])*\]", lambda one: one[0].replace(" ", "\0"), usage)
    lines = textwrap.wrap(whole, 70, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines).replace("\0", " ")


def _help(action: argparse.Action) -> str:
    return str(action.help).replace("|", "or") % {"default": action.default}


def _of_command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## libhook {name}\n"
    yield f"```text\n{_synopsis(parser)}\n```\n"
    yield f"{parser.description}\n"
    listed = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    for action in listed:
        yield f"- `{_words(action)}`: {_help(action)}"
    if listed:
        yield ""
    if parser.epilog:
        yield f"{parser.epilog}\n"


def commands_page(page: str) -> str:
    """Return docs/commands.md."""
    parts = [part for name, parser in commands().items() for part in _of_command(name, parser)]
    rows = [
        [f"[`libhook {name}`](#libhook-{name})", parser.description.rstrip(".")]
        for name, parser in commands().items()
        if parser.description
    ]
    page = re.sub(r"(?<=-->\n\n).*", str(parsing.parser().description), page)
    page = re.sub(r"^## libhook .*(?=^## Exit codes)", lambda _: "\n".join([*parts, ""]), page, flags=re.M | re.S)
    return _with_tables(page, rows)
