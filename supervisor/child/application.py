"""The application's code: imported in the worker, or once for many in its template.

Knows what is imported for a pool; when it is called is `callable`'s.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from supervisor import hooks
from supervisor.child.birth import Birth
from supervisor.child.refusal import Tell, refuse
from supervisor.hooks import WORKER_MOMENTS, Hooks, resolve
from supervisor.settings import Hooks as HookSettings


@dataclass(frozen=True)
class Application:
    """What was imported."""

    target: Callable[..., object]
    hooks: Hooks


def load(birth: Birth, settings: HookSettings, tell: Tell) -> Application | None:
    """Import target and hooks; None, told with its traceback, where that fails."""
    reference = str(birth.pool.target)
    try:
        target: Callable[..., object] = resolve(reference)
        return Application(target, _collect_hooks(birth, settings, reference.partition(":")[0]))
    except BaseException:
        refuse(tell, birth.notify_fd, f"cannot load {reference}", traceback=traceback.format_exc())
        return None


def _collect_hooks(birth: Birth, settings: HookSettings, module: str) -> Hooks:
    """Those named in the configuration first, then the decorated ones."""
    own = birth.pool.hooks
    named = {moment: (*getattr(settings, moment), *getattr(own, moment)) for moment in WORKER_MOMENTS}
    return hooks.load(named, (*settings.modules, module))
