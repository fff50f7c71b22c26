"""psql at a terminal: what it offers when TAB is pressed, and `\\watch`.

Completions ask the server while a person types. Only a psql with readline completes: Debian's does,
the wheel's does not.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

ANSWER_DEADLINE_S = 60
MARK_PARTS = ("that was", " all")
# With the prompt behind it, which would stand in front of what comes next.
DONE = "".join(MARK_PARTS) + r"\npostgres=.?# $"
THROW_AWAY = "\x15"
WINDOW = struct.pack("HHHH", 50, 400, 0, 0)
# What is typed before TAB is pressed twice.
TYPED = [
    "select * from shop.pe", "select * from shop.", "select name from shop.people where em",
    "insert into shop.ord", "update shop.people set bo", "alter table shop.orders drop constraint ",
    "drop function shop.tw", "drop materialized view shop.", "alter type shop.mood rename value ",
    "set search_path to sh", "set intervalstyle to ", "show work_", "reset enable_hash", "grant select on shop.",
    "grant reader to ", "\\d shop.ev", "\\df shop.", "\\dT shop.mo", "\\encoding UTF", "\\c pos",
    "comment on table shop.", "alter index shop.orders_", "refresh materialized view shop.",
    "copy shop.peo", "lock table shop.\"Gr", "create index on shop.people (na", "fetch from ",
    "execute pla", "deallocate pla", "listen ", "drop trigger noted on ", "alter policy everybody on ",
    "create extension hst", "drop role post", "alter system set work_me", "vacuum shop.mo",
]
INPUTRC = """set bell-style none
set enable-bracketed-paste off
set show-all-if-ambiguous on
set page-completions off
set completion-query-items 0
set horizontal-scroll-mode off
"""


class Terminal:
    """`with Terminal(words, env, folder) as psql:` and then `psql.type(…)`."""

    def __init__(self, words, env, folder):
        inputrc = folder / "inputrc"
        inputrc.write_text(INPUTRC)
        self.end, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, WINDOW)
        self.process = subprocess.Popen(
            words, stdin=child, stdout=child, stderr=child, start_new_session=True,
            env=env | {"TERM": "dumb", "INPUTRC": str(inputrc), "PSQL_HISTORY": "/dev/null",
                       "PAGER": "cat"})
        os.close(child)

    def __enter__(self):
        # A variable, and in parts: what is typed is not what is waited for.
        first, second = MARK_PARTS
        self.type(f"\\set mark '{first}' '{second}'\n\\echo :mark\n")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.end)

    def type(self, keys, until=DONE):
        """Types, and gives what the terminal showed up to and without what matches `until`."""
        os.write(self.end, keys.encode())
        shown, end = "", time.monotonic() + ANSWER_DEADLINE_S
        while not re.search(until, shown):
            if not select.select([self.end], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"after {keys!r} psql showed {shown[-2000:]!r}")
            shown += os.read(self.end, 65536).decode(errors="replace").replace("\r", "")
        return shown[:re.search(until, shown).start()]

    def marked(self, keys):
        """Types, throws the rest of the line away, and gives what was shown meanwhile."""
        return self.type(f"{keys}{THROW_AWAY}\\echo :mark\n")


def completions(one_way):
    words = [one_way.clients / "psql", "-X", "-q"]
    with Terminal(words, one_way.env, one_way.server.folder) as psql:
        psql.marked("create role reader; prepare plan_a as select 1; prepare plan_b as select 2;\n"
                    "begin; declare mine cursor for select 1;\n")
        for typed in TYPED:
            yield f"TAB {typed}", psql.marked(f"{typed}\t\t")
        yield "TAB in a failed transaction", psql.marked("select 1/0;\nselect * from shop.pe\t\t")
        yield "TAB behind it", psql.marked("rollback;\nselect * from shop.pe\t\t")


def watch(one_way):
    """As long as a person looks, which is three times, and until Control-C."""
    words = [one_way.clients / "psql", "-X", "-q", "-A", "-t"]
    with Terminal(words, one_way.env, one_way.server.folder) as psql:
        psql.marked("create temp sequence looked;\n")
        shown = psql.type("select 'looked ' || nextval('looked') as x \\watch 0.2\n", r"looked 3\n")
        lines = re.findall(r"looked \d+", shown)
        # It is the process that is interrupted: there is no shell which owns the terminal.
        psql.process.send_signal(signal.SIGINT)
        after = psql.marked("select 'still ' || 'here';\n")
        yield r"psql \watch", f"{lines} {'still here' in after}"
