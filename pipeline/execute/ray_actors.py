"""A crew of Ray's actors, on every machine of a cluster. They share the run's folder by a file system.

Ray places them, starts them and notices when they or their machines die. It tries nothing again by itself: what is done
then is decided in one place (`dispatch.py`). Without an address a cluster is started on this machine, for the time of
the call, which serves tests more than work.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...base.errors import PrefmillError
from .crew import Died, Event, StageOrder, Unit
from .units import Servant
from .work import ExecutorConfig

_CONNECT_SECONDS = 10.0
_SMALLEST_STORE = 80 << 20
"""Bytes of Ray's object store, through which nothing but our messages goes."""


class RayServant(Servant):
    """The actor."""

    def __init__(self, threads: int | None) -> None:
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported; Ray would say 1
        super().__init__()


@dataclass
class _Actor:
    name: str
    handle: Any
    order: StageOrder | None = None
    """What it was told to load, where it had been there before."""
    told: list[Any] = field(default_factory=list)


class RayCrew:
    """See the module."""

    engine = "ray"

    def __init__(self, config: ExecutorConfig, threads: int | None = None) -> None:
        """`threads`: of each worker's torch. Nothing is started before the first worker is wanted."""
        self.config, self.threads = config, threads
        self.team: dict[str, _Actor] = {}
        self.spare: list[_Actor] = []
        self.begun, self.count, self.ended, self._ray = False, 0, threading.Event(), None

    @property
    def ray(self) -> Any:
        """Ray, connected. Raises PrefmillError where it is not installed, or the cluster does not take us."""
        if self._ray is None:
            self._ray, self.begun = _connect(self.config, self.ended)
        return self._ray

    def size(self) -> int:
        """Return how many workers there can be now: machines may have come and gone."""
        found = self._resources()
        slots = int(found.get("GPU", 0)) or int(found.get("CPU", 1))
        if self.config.workers == "auto":
            machines = sum(name.startswith("node:") and "head" not in name for name in found)
            return max(1, int(found.get("GPU", 0)) or machines)
        return max(1, min(self.config.workers, slots))

    def warm(self) -> None:
        """Nothing: how many actors there can be is asked of the cluster when they are wanted."""

    def start(self, order: StageOrder) -> str:
        """Have an actor load a stage, one that is there already if there is one."""
        if self.spare:
            actor = self.spare.pop()
            actor.order = order
        else:
            actor = self._begin()
        self.team[actor.name] = actor
        self._tell(actor, order)
        return actor.name

    def submit(self, worker: str, unit: Unit) -> None:
        """Give an actor a unit."""
        self._tell(self.team[worker], unit)

    def collect(self, seconds: float) -> list[tuple[str, Event]]:
        """Return the replies that have come, and who has died."""
        told = {reference: actor for actor in self.team.values() for reference in actor.told}
        if not told:
            return []
        self.ray.wait(list(told), timeout=seconds)
        done, _ = self.ray.wait(list(told), num_returns=len(told), timeout=0)
        events: list[tuple[str, Event]] = []
        for reference in done:
            actor = told[reference]
            actor.told.remove(reference)
            try:
                events.append((actor.name, pickle.loads(self.ray.get(reference))))
                actor.order = None
            except self.ray.exceptions.RayError as error:
                self._bury(actor, error, events)
        return events

    def stop(self, worker: str, *, spent: bool) -> None:
        """Let go of an actor: keep it for the next stage, or kill it."""
        actor = self.team.pop(worker, None)
        if actor is not None and spent:
            self._kill(actor)
        elif actor is not None:
            self.spare.append(actor)

    def close(self) -> None:
        """Kill all actors, and end the cluster if it was begun here."""
        for actor in [*self.team.values(), *self.spare]:
            self._kill(actor)
        self.team, self.spare = {}, []
        if self.begun:
            self.ray.shutdown()
        self.ended.set()

    def _bury(self, actor: _Actor, error: Exception, events: list[tuple[str, Event]]) -> None:
        del self.team[actor.name]
        if actor.order is None:
            events.append((actor.name, Died(_first_line(error))))
            return
        again = self._begin()  # it had died since the stage before, of which nobody knew
        again.name = actor.name
        self.team[again.name] = again
        self._tell(again, actor.order)

    def _begin(self) -> _Actor:
        options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        options |= {"num_cpus": 0, "num_gpus": 1} if self._resources().get("GPU") else {"num_cpus": 1}
        handle = self.ray.remote(**options)(RayServant).remote(self.threads)
        self.count += 1
        return _Actor(f"actor {self.count}", handle)

    def _resources(self) -> dict[str, float]:
        ray = self.ray
        try:
            return ray.cluster_resources()
        except ray.exceptions.RayError as error:
            raise _no_cluster(self.config.address, error) from error

    def _kill(self, actor: _Actor) -> None:
        with contextlib.suppress(Exception):  # it, or the cluster, is no more
            self.ray.kill(actor.handle, no_restart=True)

    @staticmethod
    def _tell(actor: _Actor, message: StageOrder | Unit) -> None:
        actor.told.append(actor.handle.obey.remote(pickle.dumps(message)))


def check_ray(config: ExecutorConfig) -> None:
    """Raise PrefmillError where Ray is not installed, or nobody listens where its cluster should be."""
    _imported()
    if (address := _address(config)) != "local":
        _knock(address)


def _imported() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise PrefmillError("executor.engine is ray, which is not installed", "pip install 'prefmill[ray]'") from error


def _address(config: ExecutorConfig) -> str:
    return config.address or os.environ.get("RAY_ADDRESS") or "local"


def _connect(config: ExecutorConfig, ended: threading.Event) -> tuple[Any, bool]:
    """Return Ray, and whether it was connected here and not before; `ended` is set when it is no longer needed."""
    ray = _imported()
    address = _address(config)
    if address != "local":
        _knock(address)
    if ray.is_initialized():
        return ray, False
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    here: dict[str, Any] = {}
    if address == "local":
        wanted = config.workers if config.workers != "auto" else 1
        here = {"num_cpus": max(wanted, os.cpu_count() or 1), "object_store_memory": _SMALLEST_STORE}
    else:
        quiet.pop("include_dashboard")
    error = _within(config.connect_seconds, lambda: ray.init(address, **quiet, **here), ended)
    if isinstance(error, Exception):  # of any class: Ray raises plain ones where a machine is too busy to start it
        raise _no_cluster(address, error) from error
    if error is not None:
        raise error
    return ray, True


def _within(seconds: float, action: Callable[[], object], until: threading.Event) -> BaseException | None:
    """Do something in a thread that nobody waits for longer than that; return what it raised, or that it is late.

    Ray's own bounds differ from step to step, and a head that takes a connection and says nothing has none. The thread
    stays `until` the end: the kernel ends the processes of a cluster begun here with the thread that started them.
    """
    raised: list[BaseException | None] = []
    done = threading.Event()

    def act() -> None:
        try:
            action()
            raised.append(None)
        except BaseException as error:
            raised.append(error)
        done.set()
        until.wait()

    threading.Thread(target=act, name="ray", daemon=True).start()
    return raised[0] if done.wait(seconds) else TimeoutError(f"it did not answer within {seconds:g} s")


def _knock(address: str) -> None:
    """Find out in seconds whether anybody listens there: Ray asks for minutes."""
    host, separator, port = address.rpartition(":")
    if address == "auto":
        return
    if not separator or "//" in address or not port.isdigit():
        raise PrefmillError(
            f"executor.address is {address!r}, and no HOST:PORT",
            "name the head's port: --set executor.address=HOST:6379",
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> PrefmillError:
    text = _first_line(error)
    fix = "start one (ray start --head), or correct --set executor.address=HOST:PORT"
    if address == "local":
        fix = "one machine needs no Ray: --set executor.engine=processes"
    if isinstance(error, TimeoutError):
        fix += "; or allow it more time with --set executor.connect_seconds=SECONDS"
    if "token" in text.lower() or type(error).__name__ == "AuthenticationError":
        fix = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as on the cluster's head"
    return PrefmillError(f"the Ray cluster at {address or 'this machine'} cannot be used: {text}", fix)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
