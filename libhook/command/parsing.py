# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: which commands there are, and what each takes."""

import argparse
from collections.abc import Callable
from importlib import import_module

from libhook import __version__
from libhook.command.terminal import Help, seconds
from libhook.command.usage import Parser
from libhook.facts import event
from libhook.facts.machine import Machine
from libhook.history import options as history_options
from libhook.hotplug.hypervisor import DEFAULT_URI


def _late(place: str) -> Callable[[Machine, argparse.Namespace], int]:
    """Return what calls this function of libhook.command. Its module is imported then: else each would import all."""
    module, _, name = place.partition(".")

    def call(machine: Machine, options: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"libhook.command.{module}"), name)(machine, options)
        return code

    return call


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = Parser(
        prog="libhook",
        description="Hands PCI devices to libvirt's guests, takes them back, and records both truthfully.",
        epilog="Exit codes: 0 done; 1 refused or failed, the reason on stderr; 2 usage.",
        formatter_class=Help,
    )
    top.add_argument("--version", action="version", version=f"libhook {__version__}")
    commands = top.add_subparsers(metavar="COMMAND")

    def add_json(to: argparse._ActionsContainer) -> None:
        to.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")

    def add(name: str, text: str, *, place: str = "", as_json: bool = True) -> argparse.ArgumentParser:
        sentence = text[0].upper() + text[1:] + "."
        added = commands.add_parser(name, help=text, description=sentence, formatter_class=Help)
        if as_json:
            add_json(added)
        added.set_defaults(command=_late(place or f"commands.{name}"))
        return added

    inspecting = add("inspect", "a guest's host devices, and the audit record of each", place="looking.inspect")
    inspecting.epilog = "Of a guest that runs, by its name, it shows what the guest has now."
    planned = add(
        "plan", "what an event would write and record on this host now; changes nothing", place="looking.show_plan"
    )
    planned.epilog = "For a running guest it shows the next start. Exit code 1 if a start would be refused."
    for one in (inspecting, planned):
        one.add_argument(
            "guest", metavar="GUEST|XML", help="a guest's name or UUID; or a file with domain XML, or - for stdin. A"
            " word with / or .xml is a file, and so is one for which there is a file",
        )  # fmt: skip
    acting = [name for name, operation in event.OPERATIONS.items() if operation.acts]
    planned.add_argument(
        "--event", metavar="OPERATION", choices=acting, default="prepare", help=f"one of {', '.join(acting)}; the first"
        " is the default",
    )  # fmt: skip
    shown = add(
        "devices", "the host's devices: what a guest gets together, and what is in the way",
        place="looking.devices", as_json=False,
    )  # fmt: skip
    shown.add_argument(
        "words", metavar="WORD", nargs="*", help="only groups with such a device: nvidia, gpu, 03:00.0, 14"
    )
    form = shown.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--xml", action="store_true", help="print what gives a guest these devices, for virsh edit")
    shown.set_defaults(wrong=shown.error)
    holding = add(
        "status",
        "what is held for which guest, and what recover would do; exit code 1 if dead guests still have something",
        place="looking.status",
    )
    holding.set_defaults(rather="; libhook status shows all guests, and libhook inspect {} the devices of one")
    recovering = add("recover", "give back what dead processes left", as_json=False)
    recovering.add_argument("--dry-run", action="store_true", help="only print what would be done")
    recovering.add_argument(
        "--give-up", metavar="THING", action="append", help="forget this without giving it back, so that it stays as it"
        " is: a value's path, a unit, a module, a command, or a device (where several dead guests have it, with one"
        " guest's UUID and a colon in front); or the UUID of a guest whose journal entry is broken. May be given again."
        " libhook gives up nothing that a running guest has",
    )  # fmt: skip
    accepting = add(
        "accept", "take a guest's devices for what they are now, after a start was refused because they"
        " are others than at its last start", as_json=False,
    )  # fmt: skip
    accepting.add_argument("guest", metavar="GUEST", help="the guest's name or UUID")
    accepting.add_argument("--dry-run", action="store_true", help="only print what would be accepted")
    for verb, text in (
        ("attach", "plug a host device into a guest that runs, with a start's checks and audit record"),
        ("detach", "unplug a host device, wait for the guest to let go, and give it back to the host"),
    ):
        plugging = add(verb, text, as_json=False)
        plugging.add_argument("guest", metavar="DOMAIN", help="the guest's name, UUID or number")
        plugging.add_argument("xml", metavar="DEVICE-XML", help="the device's XML: a file, or - for stdin")
        plugging.add_argument("--live", action="store_true", help="change the guest that runs (the default if it runs)")
        plugging.add_argument("--config", action="store_true", help="change its configuration, from the next start on")
        plugging.add_argument(
            "--timeout",
            type=seconds,
            default=30.0,
            metavar="SECONDS",
            help="how long libvirt and the guest may take to answer (default: 30)",
        )
        plugging.add_argument("--dry-run", action="store_true", help="only print what would be done")
        plugging.add_argument("-c", "--connect", default=DEFAULT_URI, metavar="URI", help=f"default: {DEFAULT_URI}")
    watching = add("watch", "record what other clients plug in and out; the service libhook-watch", as_json=False)
    watching.add_argument("-c", "--connect", default=DEFAULT_URI, metavar="URI", help=f"default: {DEFAULT_URI}")
    history_options.add(
        add(
            "history",
            "which guest had which device when, from the audit trail",
            place="remembered.history",
            as_json=False,
        )
    )
    configuring = add("config", "the settings, where each comes from, and what is wrong with them; changes nothing")
    configuring.epilog = "Exit code 1 if there are errors."
    configuring.add_argument(
        "guest", metavar="GUEST", nargs="?", help="a guest's name or UUID: what holds for it, merged from all sections"
    )
    handling = add("handlers", "handlers by others: which are enabled, for whom; enable or disable one")
    handling.add_argument(
        "verb", metavar="enable|disable", nargs="?", choices=("enable", "disable"), help="what to do; none: show all"
    )
    handling.add_argument("name", metavar="NAME", nargs="?", help="a file in /etc/libhook/handlers, without .py")
    add("doctor", "whether libhook works here, and what to do where it does not; changes nothing")
    add("demo", "one guest's life on a simulated host; changes nothing here", as_json=False)
    hook = commands.add_parser(
        "hook",
        help="what libvirtd runs: NAME OPERATION SUBOPERATION EXTRA, XML on stdin",
        usage=f"libhook hook NAME OPERATION\n{'':15}SUBOPERATION EXTRA <XML",
        description="One event, as libvirtd calls its hook. With LIBHOOK_DRY_RUN=1 in the environment it says what it"
        " would do, and does nothing.",
        formatter_class=Help,
    )
    hook.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return top
