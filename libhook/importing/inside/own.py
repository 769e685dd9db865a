# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the sandbox: what a host's programs say that each host says otherwise: numbers, addresses and names.

There are two imagined hosts, which differ in this alone (importing/varying.py). The other one has the number 1.
"""

from libhook.importing.inside.processes import USER, Answer, State, uid

_CARDS, _ADDRESSES, _NAMES = ("eth0", "enp7s0"), ("192.0.2", "198.51.100"), ("host", "other-host")


def _other(state: State) -> int:
    return int(str(state["counts"].get("other", 0)))


def _number(name: str, state: State) -> int:
    """A user's number: this host's, where the user is known here."""
    return int(str(state.get("users", {}).get(name, uid(state))))


def loginctl(words: list[str], state: State) -> Answer:
    """One session, of the first user."""
    plain = [word for word in words if not word.startswith("-")]
    number = uid(state)
    if plain[:1] in ([], ["list-sessions"]):
        return 0, f"      2 {number} {USER} seat0 tty2\n"
    if plain[0] == "list-users":
        return 0, f"{number} {USER}\n"
    asked = " ".join(words)
    shown = USER if "Name" in asked else str(number) if "User" in asked else "2"
    return (0, f"{shown}\n") if plain[0].startswith("show") else (0, "")


def identity(words: list[str], state: State) -> Answer:
    """Root, or the one user that there is."""
    others = [word for word in words if not word.startswith("-")]
    short = any(word[:1] == "-" != word[1:2] and "n" in word for word in words)
    name = others[0] if others and others != ["root"] else "root"
    return 0, f"{name if short else _number(name, state) if others and name != 'root' else 0}\n"


def getent(words: list[str], state: State) -> Answer:
    """Users, groups and hosts."""
    kind, name = (words[0] if words else ""), (words[1] if len(words) > 1 else USER)
    if kind in ("hosts", "ahosts", "ahostsv4"):
        return 0, f"{_ADDRESSES[_other(state)]}.53 {name}\n"
    number = _number(name, state)
    return 0, f"{name}:x:{number}:\n" if kind == "group" else f"{name}:x:{number}:{number}::/home/{name}:/bin/bash\n"


def hostname(words: list[str], state: State) -> Answer:
    """The host's name, or its addresses."""
    wants_address = any(word[:1] == "-" and word[-1:] in "iI" for word in words)
    return 0, f"{_ADDRESSES[_other(state)]}.10\n" if wants_address else f"{_NAMES[_other(state)]}\n"


def lookup(words: list[str], state: State) -> Answer:
    """dig, host, nslookup: the address of a name."""
    name = next((word for word in words if word[:1] not in "+-@"), "example")
    address = f"{_ADDRESSES[_other(state)]}.53"
    return 0, f"{address}\n" if "+short" in words else f"{name} has address {address}\nAddress: {address}\n"


def ip(words: list[str], state: State) -> Answer:
    """Routes and addresses, where they are asked for."""
    plain = [word for word in words if not word.startswith("-")]
    net, asks = _ADDRESSES[_other(state)], not {"add", "del", "delete", "set", "replace", "flush", "append"} & {*words}
    what, rest = (plain[0] if plain else ""), [word for word in plain[1:] if word not in ("show", "list", "dev")]
    if asks and what in ("r", "ro", "route"):
        card = _CARDS[_other(state)]
        if "get" in rest:
            return 0, f"{rest[-1]} via {net}.1 dev {card} src {net}.10 uid 0\n"
        return 0, f"default via {net}.1 dev {card} proto dhcp src {net}.10 metric 100\n"
    if asks and what in ("a", "addr", "address"):
        card = rest[-1] if rest else _CARDS[_other(state)]
        return 0, (f"2: {card}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc fq state UP\n"
                   f"    inet {net}.10/24 brd {net}.255 scope global {card}\n")  # fmt: skip
    return 0, ""


ANSWERS = {
    "loginctl": loginctl, "id": identity, "getent": getent, "hostname": hostname, "dig": lookup, "host": lookup,
    "nslookup": lookup, "ip": ip,
}  # fmt: skip
