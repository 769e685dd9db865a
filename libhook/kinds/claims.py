# SPDX-License-Identifier: LGPL-2.1-or-later
"""Things on the host that several guests share. The claims of the living guests say what such a thing should be.

With several guests nobody may simply put back "the value before": the first guest to end would undo it for all, and the
last would put back what another guest had made. So each thing has one file, /run/libhook/shared/NAME.json. It holds
what the thing was before the first claim (``base``), what libhook saw of it last, and what each guest wants. The fold
of base and claims is what the thing should be. The order of guests does not matter. The last one brings back the base.

Why this survives a crash. All of it happens under the lock of the thing, so only one process works on it.

- A claim counts only while its guest's journal entry names the action: from before ``acquire`` until ``release`` is
  done. Without such an entry it is dropped. Undoing a dead guest's entry releases its claim. Others decide who is dead.
- The base is read where there is no file. The file is removed only when the base was read back, or when somebody else
  has changed the thing and it stays so. So libhook never takes its own change for the base.
- The claim and the intent to write are one file, put in place whole before the write. A crash before that has changed
  nothing. After it, the thing may be as before, as wanted, or what the kernel made of that. All three are our doing, so
  the next process folds again from what it finds.
- A write goes on when the process that began it is killed. Its child holds the in-flight lock, and until that is free
  nobody reads, folds or writes. So no write lands after another process has looked (but see _reach on a full /run).
- Without an open intent, the thing is as libhook saw it last, or somebody else has changed it. When a guest goes, such
  a change stays and is reported. A guest that comes changes it all the same, and the other value is the new base.
- A broken file names no base, and nobody may guess one. A new claim is refused, with the file's name. A guest that ends
  has nothing to wait for: the thing stays as it is, and that is reported.
"""

from __future__ import annotations

import errno
import os
import time

from libhook import plainjson
from libhook.children.tracks import Late, Step
from libhook.effects import files
from libhook.effects.locks import is_locked
from libhook.effects.state import State
from libhook.errors import EXHAUSTED, KERNEL_LOG, MORE_TIME, BadInput, LibhookError, TooNew, unanswered
from libhook.errors import named as called
from libhook.facts.plan import Action
from libhook.facts.shared import Shared, Value
from libhook.kinds.claimants import in_entries, named, read, set_by_hand
from libhook.kinds.kind import Failure, Outcome, Work
from libhook.kinds.resource import Conflict, Resource, printed
from libhook.light import TYPE_CHECKING, partial, suppress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from libhook.children.tracks import Track
    from libhook.kinds.claimants import Alive

_WEDGED = "if it never answers, reboot the host; when it does, run: libhook recover"
_TRIES = 3


def locked(work: Work, resources: Iterable[Resource]) -> AbstractContextManager[None]:
    """Hold the locks of all these things, after the guest's and its devices'. DeadlineExpired names the lock."""
    return work.state.locked([resource.lock for resource in resources], work.deadline)


def carry_out(work: Work, action: Action, resource: Resource, want: str | None) -> Track[Outcome]:
    """Acquire for an action what it ``want``s, or release it (None). Returns the outcome. Under the thing's lock."""
    begun, alive = time.monotonic(), in_entries(work.state, action.key, work.entries)
    result: Failure | str | None
    if want is None:
        result = yield from release(work, resource, alive)
    else:
        result = yield from acquire(work, resource, want, alive)
    milliseconds = (time.monotonic() - begun) * 1000
    if isinstance(result, Failure):
        return Outcome(action, result, milliseconds)
    return Outcome(action, None, milliseconds, left=result or "")


def acquire(work: Work, resource: Resource, want: str, alive: Alive) -> Track[Failure | None]:
    """Claim the thing for the guest, and make it what all guests want. Under its lock.

    After a Failure the claim may still be in the file. The guest's journal entry names the action, and gives it back.
    """
    try:
        return (yield from _acquire(work, resource, want, alive))
    except (Late, LibhookError, OSError) as error:
        return _failure(work, resource, error)


def release(work: Work, resource: Resource, alive: Alive) -> Track[Failure | str | None]:
    """Give up the guest's claim, and make the thing what the others want, or its base. Under its lock.

    A Failure means: try again, and let the guest's entry name the action until then. A text is to be reported, and
    nothing more is to be done.
    """
    return (yield from _bounded(work, resource, alive, work.guest))


def settle(work: Work, resource: Resource, alive: Alive) -> Track[Failure | str | None]:
    """Like ``release`` without giving up a claim: for what the dead have left. May be repeated. Under its lock."""
    return (yield from _bounded(work, resource, alive, ""))


def _acquire(work: Work, resource: Resource, want: str, alive: Alive) -> Track[Failure | None]:
    _expect_quiet(work, resource)
    era = yield from _era(resource)
    found = _load(work.state, resource, era)
    now = yield from resource.read()
    shared = Shared(resource.name, f"{work.state.boot()} {era}".rstrip(), now, now, {})
    if found:
        base = found.base
        if _is_foreign(found, now):
            base = resource.follow(base, found.last, now) if resource.follow else now
        shared = found._replace(base=base, wants=_living(found, alive, work.guest))
    shared = shared._replace(wants={**shared.wants, work.guest: want})
    target = resource.fold(shared.base, shared.wants)
    if isinstance(target, Conflict):
        guest, other = named(work.state, target.uuid), called(shared.wants[target.uuid])
        return Failure(
            f"the guest {guest} wants {resource.says} to be {other}, and this one {called(want)}",
            "stop that guest first, or have the settings of both ask for the same; libhook config shows them",
        )
    # With an intent it is as long as it becomes.
    text = plainjson.dumps(shared._replace(intent=(now, target or "")).to_json())
    files.expect_room(text, f"the file of {resource.says}")
    is_known = found is not None and shared.base == found.base
    failure = None if is_known or target == now else (yield from _try_back(work, resource, now))
    if failure:
        return failure
    failure = yield from _reach(work, resource, shared, now, target, before=found, back=False)
    if failure:
        yield from _bounded(work, resource, alive, work.guest)  # the guest's entry gives back what is left even now
    return failure


def _bounded(work: Work, resource: Resource, alive: Alive, parting: str) -> Track[Failure | str | None]:
    try:
        return (yield from _release(work, resource, alive, parting))
    except (Late, LibhookError, OSError) as error:
        return _failure(work, resource, error)


def _release(work: Work, resource: Resource, alive: Alive, parting: str) -> Track[Failure | str | None]:
    _expect_quiet(work, resource)
    era = yield from _era(resource)
    try:
        found = _load(work.state, resource, era)
    except TooNew:
        raise
    except BadInput as error:
        return f"{resource.says} stays as it is: {error.message}: {error.hint}"
    if found is None:
        work.state.forget_shared(resource.file)  # half a file, or a file from another boot or era
        return None
    now = yield from resource.read()
    shared = found._replace(wants=_living(found, alive, parting))
    foreign = _is_foreign(found, now)
    if foreign and resource.follow:
        shared = shared._replace(base=resource.follow(found.base, found.last, now))
    target = resource.fold(shared.base, shared.wants) if shared.wants else shared.base
    if isinstance(target, Conflict):
        raise BadInput(f"the claims to {resource.says} contradict each other", set_by_hand(work.state, resource))
    if foreign and not resource.follow and target != now:
        if shared.wants:
            work.state.save_shared(resource.file, plainjson.dumps(shared.to_json()))
        else:
            work.state.forget_shared(resource.file)
        return f"{resource.says} was changed to {printed(now)} by somebody else, and stays so"
    failure = yield from _reach(work, resource, shared, now, target, before=found, back=True)
    if not failure or shared.wants or not resource.gives_up:
        return failure
    work.state.forget_shared(resource.file)
    return f"{failure.reason}: {failure.remedy}"


def _reach(
    work: Work, resource: Resource, shared: Shared, now: Value, target: Value, *, before: Shared | None, back: bool
) -> Track[Failure | None]:
    """Make the thing ``target``, and read it back. None: it did not exist before, and nothing is written.

    Without claims a journal that cannot be written stops nothing: the next process finds the old file and does the
    same. A full /run does not stop a give-back either, though then nobody sees that this write is on its way.
    """
    state, failure = work.state, None
    shared = shared._replace(last=now, intent=None)
    if target is not None and not resource.reached(target, now):
        shared = shared._replace(intent=(now, target))
    if shared.wants:
        _save(state, resource, shared, before)
    if shared.intent is not None and target is not None:
        if not shared.wants:
            with suppress(OSError):
                _save(state, resource, shared, before)
        code = yield from _written(work, resource, target, unmarked=back)
        now = yield from resource.read()
        if not resource.reached(target, now):
            failure = (resource.failed or partial(_in_general, resource))(target, now, code)
        if shared.wants or failure:
            # After a failure the intent stays, since what becomes of the thing a moment later is still our doing.
            with suppress(OSError):  # if this fails it stays, too, and says that a write was begun
                _save(state, resource, shared._replace(last=now, intent=shared.intent if failure else None), shared)
    if not shared.wants and not failure:
        state.forget_shared(resource.file)
    return failure


def _try_back(work: Work, resource: Resource, base: Value) -> Track[Failure | None]:
    """Why a new base could not be given back. It is written where it is already: that changes nothing."""
    if resource.unlasting is None or base is None:
        return None
    why = resource.unlasting(base)
    if not why:
        code = yield from _written(work, resource, base)
        if code in EXHAUSTED:  # no child could be started: nobody knows yet
            raise unanswered(OSError(code, os.strerror(code), resource.says))
        if code == errno.ENOSPC:  # its mark could not be made
            raise OSError(code, os.strerror(code))
        if not code and (yield from resource.read()) == base:
            return None
        why = f"it does not take the value that it has now{f' ({os.strerror(code)})' if code else ''}"
    return Failure(f"{resource.says} could not be given back: {why}", resource.instead)


def _written(work: Work, resource: Resource, value: str, *, unmarked: bool = False) -> Track[int]:
    """Write a value, and return the errno."""
    mark, code = work.state.in_flight_path(resource.lock), 0
    for _ in range(_TRIES):
        code = yield Step(partial(resource.write, value), mark, unmarked=unmarked)
        if code != errno.EINTR:  # else somebody has killed the child that writes
            break
    return code


def _expect_quiet(work: Work, resource: Resource) -> None:
    """LibhookError while a write is on its way. A mark that no process holds is removed."""
    if is_locked(work.state.in_flight_path(resource.lock)):
        raise LibhookError(f"{resource.says} does not answer: it is still being changed", _WEDGED)
    work.state.remove("in-flight", resource.lock)


def _era(resource: Resource) -> Track[str]:
    """What is noted behind the boot id."""
    return (yield from resource.era()) if resource.era else ""


def _load(state: State, resource: Resource, era: str) -> Shared | None:
    """The content of the file. None where there is none, or it is from another boot or era. BadInput, or TooNew."""
    shared = read(state, resource)
    if shared is None:
        return None
    boot, _, noted = shared.boot.partition(" ")  # an earlier version noted no era
    current = boot
    with suppress(LibhookError):  # a boot empties /run: where the boot id cannot be read, the file is from this boot
        current = state.boot()
    return shared if boot == current and noted in ("", era) else None


def _save(state: State, resource: Resource, shared: Shared, before: Shared | None) -> None:
    if shared != before:
        state.save_shared(resource.file, plainjson.dumps(shared.to_json()))


def _living(found: Shared, alive: Alive, parting: str) -> dict[str, str]:
    return {uuid: want for uuid, want in found.wants.items() if uuid != parting and alive(uuid)}


def _is_foreign(found: Shared, now: Value) -> bool:
    """Whether somebody else has changed the thing since libhook saw it last."""
    return found.intent is None and now != found.last


def _in_general(resource: Resource, target: str, now: Value, code: int) -> Failure:
    why = f" ({os.strerror(code)})" if code else ""
    return Failure(f"{resource.says} is {printed(now)} instead of {printed(target)}{why}", KERNEL_LOG)


def _failure(work: Work, resource: Resource, error: Late | LibhookError | OSError) -> Failure:
    if isinstance(error, LibhookError):
        return Failure(error.message, error.hint)
    if isinstance(error, OSError):
        if error.errno == errno.ENOENT and not work.state.stands:
            return Failure(f"{resource.says}: {work.state.missing}", "start the guest again")
        return Failure(f"{resource.says}: the journal in {work.machine.state} cannot be written ({error.strerror})",
                       "make room there, then start the guest again")  # fmt: skip
    if error.on_its_way:
        return Failure(f"{resource.says} does not answer in time", _WEDGED)
    return Failure(f"the deadline passed before {resource.says} was reached", MORE_TIME)
