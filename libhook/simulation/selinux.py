# SPDX-License-Identifier: LGPL-2.1-or-later
"""SELinux on the simulated host: a policy as plain data, and the parts of selinuxfs that libhook uses."""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from libhook.simulation import store

CLASSES = {
    "process": (2, {"fork": 1, "transition": 2}),
    "file": (
        9,
        {"write": 4, "getattr": 5, "read": 6, "execute": 14, "execute_no_trans": 19, "entrypoint": 20, "open": 32},
    ),
    "dir": (11, {"write": 1, "search": 3}),
}
"""The index of each class, and the numbers of its permissions. They differ from those of real policies."""


class Policy(NamedTuple):
    """A policy. A context is written as its type, and a rule as source, target and class."""

    labels: Mapping[str, str]
    """The types of files and folders, by path."""
    allow: Mapping[str, Sequence[str]]
    """Permissions by rule: ``{"virtqemud_t virt_hook_t file": ["execute"]}``."""
    transitions: Mapping[str, str] = {}
    """New types by rule: ``{"init_t virtqemud_exec_t process": "virtqemud_t"}``."""
    permissive: Sequence[str] = ()
    """Types to which nothing is refused. What a rule lacks is only logged."""


def set_up(root: str, policy: Policy, *, enforce: str = "1", booleans: Sequence[str] = ()) -> None:
    """Turn SELinux on for the host, with domains for the processes 1 and ``self``."""
    folder = f"{root}/sys/fs/selinux"
    os.makedirs(f"{folder}/booleans", exist_ok=True)
    store.create(f"{folder}/enforce", enforce)
    for name in booleans:
        store.create(f"{folder}/booleans/{name}", "0 0")
    for name, (index, permissions) in CLASSES.items():
        os.makedirs(f"{folder}/class/{name}/perms", exist_ok=True)
        store.create(f"{folder}/class/{name}/index", str(index))
        for permission, number in permissions.items():
            store.create(f"{folder}/class/{name}/perms/{permission}", str(number))
    confine(root, "1", "init_t")
    confine(root, "self", "unconfined_t")
    store.create(f"{root}/simulation/selinux", json.dumps(policy._asdict()))


def confine(root: str, process: int | str, domain: str) -> None:
    """Run a process in this domain."""
    os.makedirs(f"{root}/proc/{process}/attr", exist_ok=True)
    store.create(f"{root}/proc/{process}/attr/current", f"{_context(domain)}\0")


def label(root: str, path: str) -> str:
    """Return a file's label, as getxattr() of security.selinux does."""
    labels = _policy(root).labels
    if path not in labels:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return _context(labels[path])


def ask(root: str, file: str, question: str) -> str:
    """Answer a question written to selinuxfs, as sel_write_access() and sel_write_create() do."""
    policy = _policy(root)
    source, target, number, *_ = question.split()
    name = next((name for name, (index, _) in CLASSES.items() if str(index) == number), "")
    types = [context.split(":")[2] for context in (source, target)]
    if not {*types} <= _known(policy):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    rule = " ".join((*types, name))
    if file == "create":  # without a rule a process keeps its type, and a file gets its folder's
        return _context(policy.transitions.get(rule, types[0] if name == "process" else types[1]))
    allowed = sum(1 << CLASSES[name][1][permission] - 1 for permission in policy.allow.get(rule, ()))
    return f"{allowed:x} ffffffff 0 ffffffff 7 {int(types[0] in policy.permissive):x}"


def _policy(root: str) -> Policy:
    return Policy(**json.loads(store.read(f"{root}/simulation/selinux")))


def _known(policy: Policy) -> set[str]:
    """Return the types that the policy declares."""
    in_rules = (name for rule in (*policy.allow, *policy.transitions) for name in rule.split()[:2])
    return {"init_t", "unconfined_t", *policy.labels.values(), *policy.transitions.values(), *in_rules}


def _context(name: str) -> str:
    return f"system_u:system_r:{name}:s0"
