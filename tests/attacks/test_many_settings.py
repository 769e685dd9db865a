# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host with many guests, and as many sections about them: each event reads the settings, and so do the commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from growth import is_linear, used
from scenario import Host

from libhook.command import settings
from libhook.errors import BadInput
from libhook.facts.command import Command
from libhook.facts.config import Source
from libhook.facts.domain import Domain
from libhook.facts.plan import Condition, Refusal
from libhook.facts.unit import AS_WANTED
from libhook.handlers import registry
from libhook.kinds.run import Run
from libhook.kinds.unit.state import State
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic
from libhook.story.settings import of_guest, read

TEXTS: dict[str, Callable[[int], str]] = {
    "its guest": lambda at: f'[domains."guest{at}"]\nunits = {{ "a.service" = "down" }}\n',
    "nearly a guest": lambda at: f'[domains."gest{at}"]\nunits = {{ "a.service" = "down" }}\n',
    "a pattern": lambda at: f'[domains."guest{at}?*"]\nunits = {{ "a.service" = "down" }}\n',
    "wrong keys": lambda at: f'{"" if at else "[domains.guest0]"}\nunit{at} = "down"\n',
    "a device": lambda at: f'[devices."0000:{at >> 8:02x}:{at >> 3 & 31:02x}.{at & 7}"]\nmodules = ["a{at}"]\n',
}


@pytest.mark.rest
@pytest.mark.parametrize("what", TEXTS)
def test_config_grows_with_guests_and_sections(root: str, what: str) -> None:
    """Not with their product: nothing is compared pair by pair."""
    hosts: dict[int, Host] = {}

    def cost(count: int) -> float:
        if count not in hosts:
            text = "".join(map(TEXTS[what], range(count)))
            hosts[count] = Host(f"{root}/{count}", nic(), text)
            folder = Path(root, str(count), "etc/libvirt/qemu")
            folder.mkdir(parents=True, exist_ok=True)
            for at in range(count):
                (folder / f"guest{at}.xml").write_bytes(Guest(f"guest{at}").xml())
        begun = used()
        shown = settings.overview(hosts[count].machine)
        settings.of_guest(hosts[count].machine, "guest0")
        assert len(shown.lines) + len(shown.errors) >= count
        return used() - begun

    Path(root).mkdir(exist_ok=True)
    is_linear(cost, 50)


def sections(count: int) -> list[Source]:
    """Of as many files, each with a section for all guests."""
    texts = (f'[domains."*"]\nmodules = ["m{at}"]\nunits = {{ "a{at}.service" = "down" }}\n' for at in range(count))
    return [Source(f"/etc/libhook/config.d/{at}.toml", text) for at, text in enumerate(texts)]


def one_list(count: int) -> list[Source]:
    """Two sections that add to one list."""
    names = [f'"m{at}"' for at in range(10 * count)]
    return [Source("a", f"modules = [{', '.join(half)}]") for half in (names[::2], names[1::2])]


def wrong_keys(count: int) -> list[Source]:
    """All in the section of this guest."""
    return [Source("a", "[domains.guest]\n" + "".join(f'unit{at} = "down"\n' for at in range(count)))]


@pytest.mark.rest
@pytest.mark.parametrize("sources", [sections, one_list])
def test_an_event_grows_with_what_is_said_of_its_guest(root: str, sources: Callable[[int], list[Source]]) -> None:
    """Lists and tables add up."""
    host, guest = Host(root, nic()), Domain("guest", "", "kvm", ())

    def cost(count: int) -> float:
        texts, begun = sources(count), used()
        config = of_guest(host.machine, read(texts), guest, lambda: None)
        assert len(config.actions["modules"]) >= count
        return used() - begun

    is_linear(cost, 200)


@pytest.mark.rest
def test_a_refusal_grows_with_the_errors(root: str) -> None:
    """Only of the first is said what was probably meant."""
    host, guest = Host(root, nic()), Domain("guest", "", "kvm", ())

    def cost(count: int) -> float:
        begun = used()
        with pytest.raises(BadInput) as refused:
            of_guest(host.machine, read(wrong_keys(count)), guest, lambda: None)
        assert f"and {count - 1} more" in refused.value.hint
        return used() - begun

    is_linear(cost, 200)


@pytest.mark.rest
def test_a_plan_grows_with_what_others_wait_for() -> None:
    """A pattern may match hundreds of units. Commands wait for all of them, and so does a look at each device."""
    free = [f"0000:0{at}:00.0 is free" for at in range(1, 9)]
    waiting = [Condition(one, Refusal("", one, "wait")) for one in free]

    def cost(count: int) -> float:
        units = [State(f"a{at}.service", "down", frees=tuple(free)) for at in range(count)]
        commands = [Run(Command(f"a{at}"), needs=(AS_WANTED,)) for at in range(count)]
        begun = used()
        plan = [*registry._in_order([*waiting, *commands, *units], None)]
        assert plan == [*units, *(one._replace(after=units[-1].describe()[0]) for one in waiting), *commands]
        return used() - begun

    is_linear(cost, 100)
