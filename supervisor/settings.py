"""Every setting with its default, as frozen dataclasses.

Knows names, types and defaults; `config` knows how they are written in TOML.
Durations are seconds, sizes bytes, paths absolute strings.  ``None`` means that
the key was not set and has no default of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType

Seconds = NewType("Seconds", float)
Bytes = NewType("Bytes", int)
Mode = NewType("Mode", int)  # written as an octal string, e.g. "0027"
Reference = NewType("Reference", str)  # "module:attribute"

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json", "journal"]
Restart = Literal["always", "on-failure", "never"]
OnGiveUp = Literal["park", "exit"]
Ready = Literal["auto", "notify"]

RUNS = "tasks."  # how the names of the pools begin that are runs of tasks: no name in a configuration can


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a failed worker is tried again."""

    initial: Seconds = Seconds(0.1)
    max: Seconds = Seconds(30.0)
    reset_after: Seconds = Seconds(10.0)


@dataclass(frozen=True)
class Hooks:
    """References by the moment they run at; `modules` is the key ``import``."""

    modules: tuple[str, ...] = ()
    on_start: tuple[Reference, ...] = ()
    on_ready: tuple[Reference, ...] = ()
    on_stop: tuple[Reference, ...] = ()
    on_exit: tuple[Reference, ...] = ()
    on_worker_start: tuple[Reference, ...] = ()
    on_worker_quiet: tuple[Reference, ...] = ()
    on_worker_stop: tuple[Reference, ...] = ()
    on_worker_exit: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Output:
    """Where a worker's stdout or stderr goes: a file that may rotate."""

    file: str
    max_size: Bytes | None = None
    keep: int = 5


@dataclass(frozen=True)
class MasterSettings:
    """``[master]``."""

    name: str
    socket: str
    state_dir: str
    working_dir: str
    pythonpath: tuple[str, ...]
    pidfile: str | None = None
    umask: Mode | None = None
    stop_timeout: Seconds = Seconds(30.0)
    drain_delay: Seconds = Seconds(0.0)
    hook_timeout: Seconds = Seconds(5.0)
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    log_file: str | None = None

    @property
    def state_file(self) -> str:
        """Where tasks are remembered."""
        return f"{self.state_dir}/{self.name}.sqlite"


@dataclass(frozen=True)
class PoolSettings:
    """``[pools.NAME]``."""

    name: str
    target: Reference | None = None
    command: tuple[str, ...] | None = None
    workers: int = 1  # "auto" is resolved by `config`
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: str | None = None
    sockets: tuple[str, ...] = ()
    preload: bool = False
    ready: Ready = "auto"
    start_timeout: Seconds = Seconds(30.0)
    stop_timeout: Seconds = Seconds(30.0)  # the master's where not set; never above it
    stop_signal: str = "TERM"
    watchdog: Seconds | None = None
    restart: Restart = "always"
    backoff: Backoff = field(default_factory=Backoff)
    max_restarts: int | None = None
    within: Seconds = Seconds(60.0)
    on_give_up: OnGiveUp = "park"
    max_memory: Bytes | None = None
    max_age: Seconds | None = None
    max_jobs: int | None = None
    surge: int | str = 1
    stable_after: Seconds = Seconds(2.0)
    after: tuple[str, ...] = ()
    working_dir: str | None = None
    user: str | None = None
    group: str | None = None
    no_new_privs: bool | None = None
    umask: Mode | None = None
    nice: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    stdout: Literal["inherit", "null"] | Output = "inherit"
    stderr: Literal["inherit", "null"] | Output = "inherit"
    hooks: Hooks = field(default_factory=Hooks)


@dataclass(frozen=True)
class Account:
    """Whom the workers of a pool become: `user`, `group` and what the system knows of them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()  # all supplementary ones; no other is kept
    home: str = "/"
    shell: str = "/bin/sh"


@dataclass(frozen=True)
class SocketSettings:
    """``[sockets.NAME]``."""

    name: str
    bind: str
    backlog: int = 2048
    mode: Mode | None = None


@dataclass(frozen=True)
class TaskSettings:
    """``[tasks.NAME]``."""

    name: str
    target: Reference | None = None
    command: tuple[str, ...] | None = None
    schedule: str | None = None
    timezone: str | None = None
    every: Seconds | None = None
    timeout: Seconds | None = None
    jitter: Seconds = Seconds(0.0)
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    overlap: Literal["skip", "queue"] = "skip"
    missed: Literal["skip", "once"] = "skip"
    pause_after_failures: int = 1
    retry_after: Seconds | None = None
    zone: bytes = field(default=b"", repr=False)  # no key: the data of `timezone`, nothing for UTC

    def as_pool(self, stop_timeout: Seconds) -> PoolSettings:
        """One run: a pool of one worker that is never replaced."""
        return PoolSettings(
            RUNS + self.name,
            target=self.target,
            command=self.command,
            options=self.options,
            env=self.env,
            stop_timeout=stop_timeout,
            restart="never",
        )


@dataclass(frozen=True)
class HttpSettings:
    """``[http]``."""

    bind: str
    token_file: str | None = None


@dataclass(frozen=True)
class Settings:
    """One configuration file, whole.

    `file` is as the user gave it, for messages; `path` the same, absolute.
    """

    file: str
    master: MasterSettings
    pools: Mapping[str, PoolSettings]
    hooks: Hooks = field(default_factory=Hooks)
    sockets: Mapping[str, SocketSettings] = field(default_factory=dict)
    tasks: Mapping[str, TaskSettings] = field(default_factory=dict)
    http: HttpSettings | None = None
    accounts: Mapping[str, Account] = field(default_factory=dict)  # by pool, where it sets user or group
    path: str = ""
