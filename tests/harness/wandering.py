"""Random conversations of PostgreSQL's protocol: pipelines that no driver sends, with names that are
taken, freed and taken again, and statements of which some are denied, held or masked.

Every text has a mark of its own, so that what a server's log says ran can be counted beside what the
gateway's record says was decided.
"""

import itertools
import re

from .wire import bind, close, describe, execute, message, parse, query

MARK = re.compile(r"/\*z\d+z\*/")
SECRET = "S3CR3T"
PLANTED = "PL4NTED"

SCHEMA = f"""
create schema x; create schema y;
create table a (n int, m text); create table y.a (n int, m text); create table x.a (n int, m text);
create table r (n int, m text); create table y.r (n int, m text); create table x.r (n int, m text);
create table p (n int, ssn text); create table y.p (n int, ssn text);
insert into r select g, 'open' from generate_series(1, 9) g;
insert into y.r select g, 'open' from generate_series(1, 9) g;
insert into x.r select g, '{SECRET}' from generate_series(1, 9) g;
insert into p select g, '{SECRET}' from generate_series(1, 9) g;
insert into y.p select g, 'open' from generate_series(1, 9) g;
create function f() returns int language plpgsql as $$ begin perform 1; return 5; end $$;
create function g() returns setof text language sql stable as 'select m from r';
"""

# What is open to everyone, in the words of the test's policy.
ALLOWED = """
select * from r {m}|select {i} {m}|select $1::int {m}|select n from r where n > $1 {m}
insert into a values (1, 'i') {m}|insert into a values ($1, 'i') returning n {m}
update a set n = 5 where n = 1 {m}|select generate_series(1, {i}) {m}|select pg_sleep(0.0{i}) {m}
select * from p {m}|select ssn from p {m}|select n, ssn from p where n > $1 {m}|select n from y.p {m}
select 1/0 {m}|selec {m}|begin {m}|begin {m}|commit {m}|rollback {m}
savepoint v {m}|rollback to v {m}|release v {m}|lock table r {m}
declare {p} cursor for select * from r {m}|declare {p} cursor with hold for select * from p {m}
fetch 2 from {p} {m}|close {p} {m}|close all {m}
prepare {s} as select m, 'prepared' from r {m}|prepare {s} as insert into a values (2, 'pp') {m}
prepare {s} as select ssn from p {m}|execute {s} {m}|deallocate {s} {m}|deallocate all {m}
discard all {m}|reset all {m}|set search_path = {y}, public {m}|set local search_path = {y}, public {m}
set search_path = public {m}|select set_config('search_path', '{y}', {t}) {m}
set standard_conforming_strings = {t} {m}|select E'a\\'b' || m from r {m}|explain select * from r {m}
copy r to stdout {m}|copy a from stdin {m}|copy (select m from r) to stdout {m}
create temp table r as select 1 as n, 'temp' as m {m}|drop table if exists pg_temp.r {m}
create temp table if not exists a (n int, m text) {m}|create temp view p as select 1 as ssn {m}
select * from g() {m}| |{m}
"""
# What other sessions' statements take turns with.
DEFINITIONS = """
create table if not exists y.p (n int, ssn text) {m}|drop table if exists y.p {m}
alter table if exists y.a rename to b {m}|alter table if exists y.b rename to a {m}
create or replace view y.w as select n from public.r {m}|drop view if exists y.w {m}
"""
FORBIDDEN = """
delete from a {m}|select * from x.r {m}|select f() {m}|select f(), 'literal' {m}|set role postgres {m}
do $$ begin perform 1; end $$ {m}|insert into x.a values (1, '{planted}') {m}|copy x.r to stdout {m}
prepare {s} as delete from a {m}|declare {p} cursor for select * from x.r {m}|copy x.a from stdin {m}
select upper(ssn) from p {m}|select n from p where ssn like '%' {m}|copy p to stdout {m}
"""
HELD = "truncate y.a {m}"


def _listed(written):
    return [one for line in written.strip().splitlines() for one in line.split("|")]


ALLOWED, DEFINITIONS, FORBIDDEN = map(_listed, (ALLOWED, DEFINITIONS, FORBIDDEN))


SYNC, FLUSH = message(b"S"), message(b"H")
COPY_ROW, COPY_END, COPY_FAIL = message(b"d", b"3\tcc\n"), message(b"c"), message(b"f", b"end\0")


class Wanderer:
    """Writes one session's bursts. `marks` counts for all sessions of a test.

    Half of the sessions take few names again and again, half take a new one each time and use those
    they have.
    """

    def __init__(self, random, marks):
        self.random = random
        self.marks = marks
        self.takes_few_names = random.random() < 0.5
        self.statements = {}
        self.portals = [""]

    def sql(self):
        chance = self.random.random()
        if chance < 0.14:
            form = self.random.choice(FORBIDDEN)
        elif chance < 0.145:
            form = HELD
        elif chance < 0.17:
            form = self.random.choice(DEFINITIONS)
        else:
            form = self.random.choice(ALLOWED)
        return form.format(
            m=f"/*z{next(self.marks)}z*/", i=self.random.randint(1, 9), planted=PLANTED,
            p=self.random.choice("pq"), s=self.random.choice("st"), y=self.random.choice("xy"),
            t=self.random.choice(("true", "false")))

    def simple(self):
        return query("; ".join(self.sql() for _ in range(self.random.choice((1, 1, 1, 2, 2, 3)))))

    def burst(self):
        """Messages up to an answer that `end` lets the reader know."""
        parts = (self._prepared, self._parsed, self._bound, self._executed, self._described,
                 self._closed, lambda: [SYNC], lambda: [FLUSH], lambda: [self.simple()],
                 self._copied, self._taken_twice)
        weights = (18, 10, 18, 18, 6, 6, 9, 3, 12, 3, 6)
        chosen = self.random.choices(parts, weights, k=self.random.randint(1, 13))
        return list(itertools.chain.from_iterable(part() for part in chosen))

    @staticmethod
    def end(word):
        """Ends a COPY, a failed pipeline and a transaction, whichever there is."""
        return [COPY_FAIL, SYNC, query("rollback"), query(f"select '{word}'")]

    def _name(self, few, prefix):
        if self.takes_few_names:
            return self.random.choice(few)
        return self.random.choice(("", f"{prefix}{next(self.marks)}"))

    def _parsed(self):
        name, sql = self._name(("", "s", "t", "S"), "k"), self.sql()
        # The newest name comes last.
        self.statements.pop(name, None)
        self.statements[name] = "$1" in sql
        return [parse(name, sql, [23] if self.random.random() < 0.1 else [])]

    def _bound(self):
        known = list(self.statements)[-4:] or [""]
        name = self.random.choice(known)
        portal = self._name(("", "p", "q"), "o")
        self.portals = [*self.portals[-2:], portal]
        has_value = self.statements.get(name, False) ^ (self.random.random() < 0.03)
        return [bind(portal, name, [str(next(self.marks))] if has_value else [])]

    def _executed(self):
        return [execute(self.random.choice(self.portals), self.random.choice((0, 0, 1, 2, 3)))]

    def _prepared(self):
        """As drivers do it."""
        parsed = self._parsed()
        name = list(self.statements)[-1]
        messages = [*parsed, bind("", name, self._values(name))]
        if self.random.random() < 0.4:
            messages.append(describe("P", ""))
        messages.append(execute(""))
        return messages + ([SYNC] if self.random.random() < 0.5 else [])

    def _values(self, name):
        return [str(next(self.marks))] if self.statements[name] else []

    def _taken_twice(self):
        """A name of a statement or a portal that a second one is to have, and what then runs."""
        name = self.random.choice(("", "s", "t"))
        portal = self.random.choice(("", "p", "q"))
        first, second = parse(name, self.sql()), parse(name, self.sql())
        messages = [first, second, bind(portal, name), execute(portal)]
        if self.random.random() < 0.3:
            messages[2:2] = [bind(portal, name), second]
        between = ([], [], [SYNC], [SYNC], [FLUSH], [close("S", name)], [self.simple()])
        self.statements[name] = False
        return [one for written in messages
                for one in (written, *self.random.choice(between))]

    def _described(self):
        kind, name = self._any()
        return [describe(kind, name)]

    def _closed(self):
        kind, name = self._any()
        return [close(kind, name)]

    def _any(self):
        if self.random.random() < 0.5:
            return "P", self.random.choice(self.portals)
        return "S", self.random.choice(list(self.statements)[-4:] or [""])

    def _copied(self):
        return [self.random.choice((COPY_ROW, COPY_END, COPY_FAIL))]
