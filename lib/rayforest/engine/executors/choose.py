"""Which executor a project asks for, and why."""

from __future__ import annotations

from rayforest.engine.executors.executor import Executor
from rayforest.engine.executors.on_ray import RayExecutor
from rayforest.engine.executors.ray_address import find_ray, named_address
from rayforest.engine.executors.threads import InProcess
from rayforest.engine.own_ray.head import present_token
from rayforest.errors import ConfigError, did_you_mean


def choose_executor(
    kind: str = "auto", address: str | None = None, workers: int | None = None, *, quiet: bool = False
) -> tuple[Executor, str]:
    """The executor to use, and a sentence that says which and why.

    Args:
        kind: "auto", "in-process" or "ray". "auto" is Ray where there is an address, threads otherwise.
        address: of a Ray cluster; else RAY_ADDRESS; else kind "ray" starts one on this machine.
        workers: items at once at most.
        quiet: do not forward what Ray's workers print.

    Raises:
        ConfigError: no Ray that this process can use answers at the address.
    """
    found = named_address(address)
    if kind == "in-process" or (kind == "auto" and not found):
        threads = InProcess(workers)
        why = "run.executor asks for it" if kind == "in-process" else "no Ray address is given"
        count = "1 thread" if threads.workers == 1 else f"{threads.workers} threads"
        return threads, f"in-process, {count}: {why}"
    if kind in {"auto", "ray"}:
        executor = RayExecutor(found, workers, quiet=quiet)
        why = f"at {found}" if found else "run.executor asks for it; a Ray of its own was started"
        count = "1 task" if executor.workers == 1 else f"{executor.workers} tasks"
        return executor, f"Ray, {count} at once: {why}"
    raise ConfigError(
        f"no executor is called {kind!r}",
        expected="auto, in-process or ray",
        next_step=did_you_mean(kind, ("auto", "in-process", "ray")),
    )


def refuse_unreachable(kind: str, address: str | None) -> None:
    """Refuse the address of a Ray that `choose_executor` could not use; nothing is started.

    Raises:
        ConfigError: no Ray that this process can use answers there.
    """
    named = named_address(address)
    if kind != "in-process" and named is not None:
        with present_token(None):
            find_ray(named)
