# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which handlers answer which operation, in order, and what becomes of their answers.

Nothing is discovered at run time: every handler that runs as root is listed here.
"""

from __future__ import annotations

from libhook.errors import fault
from libhook.facts.config import ASKED_FOR
from libhook.facts.config import HANDLERS as BY_OTHERS
from libhook.facts.entry import Held
from libhook.facts.event import Operation
from libhook.facts.plan import Action, Condition, Fault, Limit, Plan, Record, Refusal, Verdict, Warn, is_action
from libhook.facts.situation import Situation
from libhook.handlers import record
from libhook.kinds.registry import KINDS, is_kind, limits
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from libhook.facts.situation import Handler

HANDLERS: dict[str, tuple[str, ...]] = {
    "prepare": ("audit.required", "identity.prepare", "preflight.prepare", "host.wanted", "vfio.prepare"),
    "start": ("audit.required", "vfio.start", "host.wanted"),
    "started": ("vfio.started", "audit.started", "host.wanted"),
    "release": ("vfio.release", "audit.release"),
    "reconnect": ("vfio.reconnect", "audit.reconnect", "host.again"),
    # Not libvirt's operations: libvirt calls no hook at hot-plug (hotplug/).
    "attach": ("audit.required", "preflight.prepare", "host.wanted", "vfio.prepare", "audit.attach"),
    "detach": ("vfio.release", "audit.detach"),
}
"""The functions in this folder that are asked. A file is imported when it is asked: somebody waits for each import."""
_OF_SETTINGS = "host.wanted"
"""Not asked, and not imported, where the settings ask for no action."""
_OF_CHANGES = "identity.prepare"
"""Not asked, and not imported, where each address of the guest holds what the guest last had there."""
_OF_TRAIL = "audit.required"
"""Not asked, and not imported, where the trail is not required."""
_OF_ACTIONS = ("key", "needs", "provides", "describe", "to_json")
"""What tells an action from anything else that has a kind, such as a device."""
_REMEDY = "correct the handler, if it is yours; otherwise run install.sh again, and report it"


def plan_for(situation: Situation, undone: Iterable[Verdict] = ()) -> Plan:
    """The plan for an event: first ``undone``, what the kinds say about giving back, then what the handlers want.

    Before that, ``undone`` may have what handlers by others say.

    Where something is refused, the plan has only the refusals, the warnings, and the records of what is refused.
    """
    operation = situation.event.operation
    config, said, keys = situation.config, list(undone), set[str]()
    needless = {
        _OF_SETTINGS: not config.actions,
        _OF_CHANGES: not situation.changed,
        _OF_TRAIL: not config.audit_required,
    }
    for handler in HANDLERS.get(operation.name, ()):
        if not needless.get(handler):
            said += _answer(handler, situation, keys)
    if operation.may_veto:
        said = [Refusal("", one.message, _REMEDY) if isinstance(one, Fault) else one for one in said]
    plan = Plan(tuple(_in_order(said, situation.held)))
    if not plan.refusals:
        return with_limits(plan, situation)
    kept = tuple(verdict for verdict in plan.verdicts if isinstance(verdict, Refusal | Warn))
    refused = {refusal.device for refusal in plan.refusals}
    every = [device.key for device in situation.domain.devices] if "" in refused else refused
    reason = record.failure(operation)
    return Plan(kept + record.failed(situation.domain, every, situation.config, reason))


def with_limits(plan: Plan, situation: Situation) -> Plan:
    """The plan with how long it may take: each kind of action, and all else, such as locks and looks.

    All else has the whole ``write_deadline`` once, and again where it looks after a part of the plan is done. A
    give-back looks at each device first, and has as long for that (kinds.way_back).
    """
    stage, config = plan.stage, situation.config
    early = {action.key for action in stage}
    ours = [one for one in (*stage, *(one for one in plan.actions if one.key not in early)) if one.ours]
    if not ours:
        return plan
    looks = 1 + bool(plan.conditions) + situation.event.operation.gives_back
    asks = len(config.actions.get(BY_OTHERS, ())) * ASKED_FOR
    own = (Limit("handlers by others", asks),) if asks and situation.event.operation.may_veto else ()
    return plan._replace(limits=(*limits(config, ours), *own, Limit("all else", looks * config.write_deadline)))


def find(name: str) -> Handler:
    """The handler of this name, ``vfio.prepare``."""
    module, _, function = name.partition(".")
    handler: Handler = getattr(__import__(f"{__package__}.{module}", globals(), fromlist=("*",)), function)
    return handler


def _answer(name: str, situation: Situation, keys: set[str]) -> Iterator[Verdict]:
    """What one handler says. An answer that the operation does not allow becomes a Fault with the handler's name.

    So does an exception. ``keys`` holds the keys of the actions so far, so that nothing is done twice.
    """
    try:
        for verdict in find(name)(situation):
            wrong = _out_of_place(verdict, situation.event.operation)
            if not wrong and is_action(verdict):
                wrong = f"acts on {verdict.key}, but another handler already does" if verdict.key in keys else ""
                keys.add(verdict.key)
            yield Fault(name, wrong) if wrong else verdict
    except Exception as error:  # noqa: BLE001 - whatever one handler raises, the others are still asked
        yield Fault(name, f"failed: {fault(error)}{_where(error)}")


def _out_of_place(verdict: object, operation: Operation) -> str:
    """What is wrong with a verdict at this operation, or ""."""
    match verdict:
        case Warn():
            return ""
        case Refusal() | Condition():
            return "" if operation.may_veto else f"refuses at {operation.name}, where nothing can be refused"
        case Record():
            allowed = verdict.reason in operation.records
            return "" if allowed else f"records {verdict.reason} at {operation.name}, which is not allowed there"
    kind = getattr(verdict, "kind", "")
    if not (is_kind(kind) and all(hasattr(verdict, part) for part in _OF_ACTIONS)):
        return f"answers with a {type(verdict).__name__}, which is not a verdict"
    if operation.takes or (operation.adds and operation.name in KINDS[kind].at):
        return ""
    return f"wants a {kind} action at {operation.name}, where no such action is allowed"


def _where(error: Exception) -> str:
    """The file and line of the innermost frame that has a file."""
    trace, where = error.__traceback__, ""
    while trace:
        file = trace.tb_frame.f_code.co_filename
        where = where if file.startswith("<") else f" ({file}, line {trace.tb_lineno})"  # "<frozen importlib…>"
        trace = trace.tb_next
    return where


def _in_order(said: list[Verdict], held: Held | None) -> Iterator[Verdict]:
    """The verdicts in the order given, except where one waits for an action.

    An action comes after all actions that provide what it needs. A condition comes after the last action that provides
    its state, and becomes a refusal where no action will provide it, or only such as are journalled already. Actions
    that wait for each other are refused.
    """
    actions = Plan(tuple(said)).actions
    had = {action.key for action in held.actions} if held else set()
    providers: dict[str, dict[str, Action]] = {}  # those to come: each time fewer, since hundreds may provide one state
    for action in actions:
        for state in action.provides:
            providers.setdefault(state, {})[action.key] = action
    come: set[str] = set()

    def first(action: Action, waiting: tuple[str, ...] = ()) -> Iterator[Verdict]:
        if action.key in waiting:
            come.add(action.key)
            yield Refusal("", f"{action.subject} waits for another action, which waits for it", _REMEDY)
        for state in action.needs:
            for provider in tuple(providers.get(state, {}).values()) if action.key not in come else ():
                if provider is not action:
                    yield from first(provider, (*waiting, action.key))
        if action.key not in come:
            come.add(action.key)
            yield action
            for state in action.provides:
                providers[state].pop(action.key, None)
                if not providers[state]:
                    yield from (one._replace(after=action.describe()[0]) for one in later.pop(state, ()))

    later: dict[str, list[Condition]] = {}
    certain: list[Verdict] = []
    for verdict in said:
        one: Verdict | None = verdict
        while isinstance(one, Condition) and not had.issuperset(providers.get(one.state, ())):
            later.setdefault(one.state, []).append(one)
            one = one.then
        if one:
            certain.append(one.refusal if isinstance(one, Condition) else one)
    for verdict in certain:
        if is_action(verdict):
            yield from first(verdict)
        else:
            yield verdict
