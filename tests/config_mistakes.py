"""Mistakes a person makes in a configuration, and the line that each must give: data for test_config."""

from __future__ import annotations

from reading import POOL

DURATION = 'expected a duration such as "250ms", "30s", "1h30m" or a number of seconds, not'
SIZE = 'expected a size such as "512MiB", "1GB" or a number of bytes, not'
NAMES = (
    "cannot be a name: 1 to 64 of A-Z, a-z, 0-9, '_' and '-' "
    "(it becomes part of worker ids, file names and log lines)"
)
NOTHING = (
    'there is nothing to run; the minimum is [pools.web] with target = "module:function", '
    'or [tasks.hourly] with that and every = "1h"'
)
OPTION = "cannot be a name: to a command, what begins with '-' is an option, as --all is"
BIND = 'expected "127.0.0.1:8000", "[::1]:8000", "unix:/path" or "fd:NAME" (from systemd), not'
LEVELS = 'expected one of "debug", "info", "warning", "error", not'
FORMATS = 'expected one of "auto", "text", "json", "journal", not'
UNBUILT = "not built yet in this version,"

IN_A_POOL = [
    ("wokers = 2", "wokers: unknown key, did you mean 'workers'?"),
    ("xyzzy = 2", "xyzzy: unknown key"),
    ("log_level = 'info'", "log_level: unknown key here, it belongs in [master]"),
    ("name = 'x'", "name: unknown key: the table's own name is the name"),
    ("workers = '3'", "workers: expected a number or \"auto\", not '3'"),
    ("workers = true", 'workers: expected a number or "auto", not true'),
    ("workers = 1.5", 'workers: expected a number or "auto", not 1.5'),
    ("workers = -1", "workers: must be from 0 to 10000, not -1"),
    ("workers = 10001", "workers: must be from 0 to 10000, not 10001"),
    (f"workers = 0x{'f' * 5000}", "workers: must be from 0 to 10000, not a huge number"),
    ("workers = 1979-05-27", 'workers: expected a number or "auto", not a date or time'),
    ("options = 3", "options: expected a table, not 3"),
    ("env = {A = 1}", "env.A: expected a string, not 1"),
    ("env = {'A=B' = 'x'}", "env: 'A=B' cannot be the name of an environment variable"),
    ('env = {A = "\\u0000"}', "env.A: holds a NUL character, which no path, argument or variable can"),
    ("ready = 'notfy'", "ready: expected one of \"auto\", \"notify\", not 'notfy', did you mean 'notify'?"),
    ("start_timeout = 0", "start_timeout: must be more than 0"),
    ("stop_timeout = 'soon'", f"stop_timeout: {DURATION} 'soon'"),
    ("stop_timeout = '30'", f"stop_timeout: {DURATION} '30'"),
    ("stop_timeout = ''", f"stop_timeout: {DURATION} ''"),
    ("stop_timeout = '-3s'", f"stop_timeout: {DURATION} '-3s'"),
    ("stop_timeout = true", f"stop_timeout: {DURATION} true"),
    ("stop_timeout = []", f"stop_timeout: {DURATION} an array"),
    ("watchdog = -1", "watchdog: a duration cannot be -1"),
    ("watchdog = nan", "watchdog: a duration cannot be nan"),
    (
        "watchdog = inf",
        "watchdog: is longer than 10 years; leave it out for no limit, if it may be left out",
    ),
    (
        "watchdog = '4000d'",
        "watchdog: is longer than 10 years; leave it out for no limit, if it may be left out",
    ),
    ("watchdog = 0", "watchdog: must be more than 0"),
    (
        "restart = 'never!'",
        'restart: expected one of "always", "on-failure", "never", not \'never!\', did you mean \'never\'?',
    ),
    ("backoff = {initail = 1}", "backoff.initail: unknown key, did you mean 'initial'?"),
    ("backoff = {initial = 0}", "backoff.initial: must be more than 0"),
    ("backoff = {initial = '1m'}", "backoff: 'max' must not be less than 'initial'"),
    ("backoff = 3", "backoff: expected a table, not 3"),
    ("max_restarts = -1", "max_restarts: must be from 0 to 1000000, not -1"),
    ("within = 0", "within: must be more than 0"),
    ("on_give_up = 'stop'", 'on_give_up: expected one of "park", "exit", not \'stop\''),
    ("hooks = []", "hooks: expected a table, not an array"),
    ("hooks.on_stop = 'a:b'", "hooks.on_stop: belongs in [hooks]; a pool has only on_worker_* hooks"),
    ("hooks.import = 'a'", "hooks.import: belongs in [hooks]; a pool has only on_worker_* hooks"),
    (
        "hooks.on_worker_stop = ['a:b', 'c']",
        'hooks.on_worker_stop[1]: expected "module:attribute", not \'c\': the ":" is missing',
    ),
    (
        "hooks.on_worker_stop = 3",
        'hooks.on_worker_stop: expected "module:attribute", such as "shop.jobs:run", not 3',
    ),
    ("hooks.on_wroker_stop = 'a:b'", "hooks.on_wroker_stop: unknown key, did you mean 'on_worker_stop'?"),
    (
        "env = {A = '${NONE}'}",
        "env.A: the environment variable NONE is not set; set it or write a default, ${NONE:-default}",
    ),
    (
        "ready = '${NONE}'",
        "ready: the environment variable NONE is not set; set it or write a default, ${NONE:-default}",
    ),
    (
        "options = {a = [{b = '${}'}]}",
        "options.a[0].b: '${' needs a name and a '}', as in ${VAR} or ${VAR:-default}; '$${' is a plain '${'",
    ),
    ("sockets = ['x']", "sockets[0]: there is no socket 'x'"),
    ("after = ['wbe']", "after[0]: there is no pool 'wbe', did you mean 'web'?"),
    ("after = ['web']", "after: waits for itself: web -> web"),
    ("preload = 1", "preload: expected true or false, not 1"),
    ("max_memory = '1XB'", f"max_memory: {SIZE} '1XB'"),
    ("max_memory = 0", "max_memory: must be more than 0"),
    ("max_memory = -1", f"max_memory: {SIZE} -1"),
    ("max_jobs = 0", "max_jobs: must be from 1 to 1000000000000000, not 0"),
    ("surge = '0%'", 'surge: expected a number of workers or a share from "1%" to "100%", not \'0%\''),
    ("surge = -1", "surge: must be from 0 to 10000, not -1"),
    ("nice = 20", "nice: must be from -20 to 19, not 20"),
    ("limits = {nofil = 3}", "limits: there is no limit 'nofil', did you mean 'nofile'?"),
    ("limits = {nofile = 'x'}", f"limits: nofile: {SIZE} 'x'"),
    ("stdout = 3", "stdout: expected a string, not 3"),
    ("stdout = {max_size = 3}", "stdout.file: is missing"),
    ("stderr = {file = 'x', kepe = 3}", "stderr.kepe: unknown key, did you mean 'keep'?"),
    ("stop_signal = 'INT'", "stop_signal: is for a 'command': a target is told by TERM and USR2"),
]

OF_A_COMMAND = [
    ("command = 'x'", "command: expected an array, not 'x'"),
    ("command = []", 'command: expected a program and its arguments, as in ["python", "serve.py"]'),
    (
        "command = ['x']\nstop_signal = 'TREM'",
        "stop_signal: expected a signal such as \"TERM\", not 'TREM', did you mean 'TERM'?",
    ),
    (
        "command = ['x']\nstop_signal = 'SIGKILL'",
        "stop_signal: KILL cannot be answered by a program, so it is no way to ask it to stop",
    ),
    ("command = ['x']\npreload = true", "preload: is for a 'target': a command has nothing to import"),
    ("command = ['x']\noptions = {a = 1}", "options: is for a 'target': a command knows nothing of options"),
    (
        "command = ['x']\nhooks.on_worker_stop = 'a:b'",
        "hooks: is for a 'target': a command knows nothing of hooks",
    ),
]

IN_THE_FILE = [
    ("", NOTHING),
    ("[pools]", NOTHING),
    ("[master]", NOTHING),
    ("[tasks]", NOTHING),
    ("pools = 3", "pools: expected a table, such as [pools.web], not 3"),
    ("[[pools]]", "pools: expected a table, such as [pools.web], not an array"),
    ("[pools]\nweb = 'app:run'", "pools.web: expected a table, such as [pools.web], not 'app:run'"),
    ("[pool.web]\ntarget = 'a:b'", "pool: unknown key, did you mean 'pools'?"),
    ("[pools.web]", "pools.web: needs either 'target' or 'command'"),
    (
        "[pools.web]\ntarget = 'app.run'",
        'pools.web.target: expected "module:attribute", not \'app.run\': the ":" is missing',
    ),
    (
        "[pools.web]\ntarget = 'a b:c'",
        'pools.web.target: expected "module:attribute", such as "shop.jobs:run", not \'a b:c\'',
    ),
    (
        "[pools.web]\ntarget = 'a:'",
        'pools.web.target: expected "module:attribute", such as "shop.jobs:run", not \'a:\'',
    ),
    ("[pools.'a b']\ntarget = 'a:b'", f"pools.'a b': 'a b' {NAMES}"),
    ('[pools."a\\n\\u001bb"]\ntarget = "a:b"', rf"pools.'a\n\x1bb': 'a\n\x1bb' {NAMES}"),
    ("[pools.'']\ntarget = 'a:b'", f"pools.'': '' {NAMES}"),
    ("[pools.-x]\ntarget = 'a:b'", f"pools.-x: '-x' {OPTION}"),
    ("[tasks.--all]\ntarget = 'a:b'\nevery = 1", f"tasks.--all: '--all' {OPTION}"),
    (POOL + "[master]\nname = '-'", f"master.name: '-' {NAMES}"),
    (POOL + "[maste]", "maste: unknown key, did you mean 'master'?"),
    (POOL + "[master]\nstop_timeot = 1", "master.stop_timeot: unknown key, did you mean 'stop_timeout'?"),
    (POOL + "[master]\nworkers = 1", "master.workers: unknown key here, it belongs in [pools.NAME]"),
    (POOL + "[master]\nname = 'a/b'", f"master.name: 'a/b' {NAMES}"),
    (POOL + '[master]\nname = "a\\nb"', rf"master.name: 'a\nb' {NAMES}"),
    (POOL + "[master]\nstop_timeout = 0", "master.stop_timeout: must be more than 0"),
    (POOL + "[master]\nhook_timeout = 0", "master.hook_timeout: must be more than 0"),
    (
        POOL + "[master]\nlog_level = 'inof'",
        f"master.log_level: {LEVELS} 'inof', did you mean 'info'?",
    ),
    (
        POOL + "[master]\nlog_format = 'jsn'",
        f"master.log_format: {FORMATS} 'jsn', did you mean 'json'?",
    ),
    (POOL + "[master]\numask = 27", 'master.umask: expected an octal string such as "0027", not 27'),
    (
        POOL + "[master]\numask = '0888'",
        "master.umask: expected an octal string such as \"0027\", not '0888'",
    ),
    (POOL + "[master]\npythonpath = '.'", "master.pythonpath: expected an array, not '.'"),
    (POOL + "[master]\npythonpath = [1]", "master.pythonpath[0]: expected a string, not 1"),
    (POOL + "[master]\npidfile = '~/a'", "master.pidfile: '~' is not expanded in '~/a'; write ${HOME}"),
    (POOL + "[master]\nlog_file = ''", "master.log_file: the path is empty"),
    (
        POOL + "[master]\nsocket = '/x'\npidfile = '/x'",
        "master.pidfile: is the same file as the control socket",
    ),
    (
        POOL + f"[master]\nsocket = '/{'x' * 107}'",
        (
            f"master.socket: the path of a unix socket has at most 107 bytes, "
            f"'/{'x' * 31}...{'x' * 33}' has 108; choose a shorter one"
        ),
    ),
    (
        POOL + "[hooks]\non_worker_sotp = 'a:b'",
        "hooks.on_worker_sotp: unknown key, did you mean 'on_worker_stop'?",
    ),
    (
        POOL + "[hooks]\nimport = ['a', '1b']",
        "hooks.import: expected the name of a module, such as \"shop.hooks\", not '1b'",
    ),
    (POOL + "a = [1", "not valid TOML: Unclosed array (at end of document)"),
    ("pools = ", "not valid TOML: Invalid value (at end of document)"),
    ("\n  = 1", "not valid TOML: Invalid statement (at line 2, column 3)"),
    (b"a = 1\nb = '\xff'", "line 2: is not valid UTF-8"),
    (b"a = 1\n\0", "line 2: holds a NUL byte; this is no text file"),
    (b"\xef\xbb\xbfa = 1", "begins with a byte order mark; save it as UTF-8 without one"),
    (
        "[pools.web]\ntarget = 'a:b'".encode("utf-16"),
        "begins with a byte order mark; save it as UTF-8 without one",
    ),
    ("#" * (1 << 20) + "#", "is larger than 1 MiB: this is no configuration"),
]

SOCKETS = [
    ("[sockets.a]\nbind = '1:2:3'", f"sockets.a.bind: {BIND} '1:2:3'"),
    ("[sockets.a]\nbind = '127.0.0.1:65536'", f"sockets.a.bind: {BIND} '127.0.0.1:65536'"),
    ("[sockets.a]\nbind = ':80'", f"sockets.a.bind: {BIND} ':80'"),
    ("[sockets.a]\nbind = 'unix:'", "sockets.a.bind: the path of the socket is empty"),
    ("[sockets.a]", "sockets.a.bind: is missing"),
    (
        "[sockets.a]\nbind = 'fd:a b'",
        f"sockets.a.bind: {BIND} 'fd:a b': the name of a descriptor has no blank and no ':'",
    ),
    (
        "[sockets.a]\nbind = 'example.com:80'",
        f"sockets.a.bind: {BIND} 'example.com:80': names are not looked up, write the address in numbers",
    ),
    (
        "[sockets.a]\nbind = '*:80'",
        f'sockets.a.bind: {BIND} \'*:80\': "0.0.0.0" is every IPv4 address, "[::]" every IPv6 one',
    ),
    ("[sockets.a]\nbind = '[::1'", f"sockets.a.bind: {BIND} '[::1'"),
    (
        "[sockets.a]\nbind = '[::1]:80'\nmode = '0660'",
        'sockets.a.mode: is for "unix:/path" only: it is the mode of the file',
    ),
    (
        "[sockets.a]\nbind = 'fd:x'\nbacklog = 9",
        "sockets.a.backlog: is systemd's here: set Backlog= in the socket unit",
    ),
    (
        "[sockets.a]\nbind = 'localhost:80'\n[sockets.b]\nbind = '127.0.0.1:80'",
        "sockets.b.bind: is where sockets.a listens; a pool may name that one, so keep one of them",
    ),
    (
        "[sockets.a]\nbind = '0.0.0.0:80'\n[sockets.b]\nbind = '127.0.0.1:80'",
        (
            "sockets.b.bind: has the port of sockets.a, and 0.0.0.0:80 is every address of this machine: "
            "keep one of them"
        ),
    ),
    (
        "[sockets.a]\nbind = '[::1]:80'\n[sockets.b]\nbind = '[::]:80'\n[sockets.c]\nbind = '0.0.0.0:80'",
        (
            "sockets.b.bind: has the port of sockets.a, and [::]:80 is every address of this machine: "
            "keep one of them"
        ),
    ),
    (
        "[master]\nsocket = '/run/m'\n[sockets.a]\nbind = 'unix:/run//m'",
        "sockets.a.bind: is the control socket, see master.socket; take another",
    ),
    ("[sockets.a]\nbind = 'fd:x'\nbaklog = 1", "sockets.a.baklog: unknown key, did you mean 'backlog'?"),
]

TASK = "target = 'a:b'"
CRON = (
    'expected five fields such as "30 2 * * *" (minute, hour, day of month, month, day of week; '
    "six: seconds first)"
)
DAILY = f"{TASK}\nschedule = '0 3 * * *'"
IN_A_TASK = [
    ("every = 1", ": needs either 'target' or 'command'"),
    (f"{TASK}\ncommand = ['x']\nevery = 1", ": has both 'target' and 'command'; keep one"),
    (TASK, ": needs either 'schedule' or 'every'"),
    (f"{DAILY}\nevery = 1", ": has both 'schedule' and 'every'; keep one"),
    (f"{TASK}\nevery = 0", ".every: must be more than 0"),
    (f"{DAILY}\ntimeout = 0", ".timeout: must be more than 0"),
    (f"{DAILY}\nretry_after = 0", ".retry_after: must be more than 0"),
    (f"{DAILY}\npause_after_failures = -1", ".pause_after_failures: must be from 0 to 1000000, not -1"),
    (f"{DAILY}\nworkers = 2", ".workers: unknown key"),
    (f"{DAILY}\nschedul = 'x'", ".schedul: unknown key, did you mean 'schedule'?"),
    (
        f"{DAILY}\noverlap = 'skp'",
        ".overlap: expected one of \"skip\", \"queue\", not 'skp', did you mean 'skip'?",
    ),
    (f"{DAILY}\nmissed = 'all'", '.missed: expected one of "skip", "once", not \'all\''),
    (
        "command = []\nevery = 1",
        '.command: expected a program and its arguments, as in ["python", "serve.py"]',
    ),
    (f"{TASK}\nschedule = '60 3 * * *'", ".schedule: '60 3 * * *' has a bad minute, '60': it is 0 to 59"),
    (f"{TASK}\nschedule = '@daily'", f".schedule: {CRON}, not '@daily': write \"0 0 * * *\""),
    (f"{TASK}\nschedule = '0 0 30 2 *'", ".schedule: '0 0 30 2 *' never comes: there is no such day"),
    (
        f"{DAILY}\ntimezone = 'Europe/Berln'",
        ".timezone: no time zone 'Europe/Berln' is known here, did you mean 'Europe/Berlin'?",
    ),
    (f"{TASK}\nevery = 1\ntimezone = 'UTC'", ".timezone: is for a 'schedule': 'every' counts seconds"),
    (f"{TASK}\nevery = '1m'\njitter = '60s'", ".jitter: must be less than 'every'"),
    (
        "command = ['x']\nevery = 1\noptions = {a = 1}",
        ".options: is for a 'target': a command knows nothing of options",
    ),
    (
        f"{DAILY}\npause_after_failures = 0\nretry_after = '1h'",
        ".retry_after: has no meaning with pause_after_failures = 0: it is never errored",
    ),
]

LATER_SECTIONS = [
    ("[http]", "http.bind: is missing"),
    ("[http]\nbind = '127.0.0.1:80'", f"http: {UNBUILT} leave the section out"),
]
