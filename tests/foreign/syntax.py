#!/usr/bin/env python3
"""What PostgreSQL 16, 17 and 18 brought to SQL: each statement prints the same both ways, on the server
that has it and, as the same error, on the ones before."""

import argparse
import sys

from both_ways import WAYS, as_printed, compare, way
from places import NEWER, VERSIONS

SCHEMA = """
create table people (id int primary key, name text, data jsonb);
insert into people values (1, 'Ada', '{"age": 36, "tags": ["a", "b"]}'), (2, 'Grace', '{"age": 85}');
create table notes (id int primary key, note text);
insert into notes values (1, 'first');
create extension btree_gist;
"""
# In order: what a statement makes, those behind it use.
STATEMENTS = [
    # 16
    "select 0xff, 0o17, 0b11, 1_000_000",
    "select '{}' is json, '1' is json scalar, '[1]' is json array with unique keys",
    "select json_array(1, 2 returning jsonb), json_object('a': 1 absent on null with unique keys)",
    "select json_arrayagg(id order by id), json_objectagg(name: id) from people",
    "select any_value(name) from people where id = 1",
    "select system_user is null or system_user <> ''",
    "select x from (select 1 as x)",
    "select array_sample(array[7, 7], 1), array_shuffle(array[7, 7])",
    "select date_add('2026-01-01 00:00+00'::timestamptz, '1 day', 'UTC')",
    "explain (generic_plan, costs off) select * from people where id = $1",
    "create role reader; create role writer; grant reader to writer with inherit false, set true, admin false",
    "grant reader to current_user with admin true",
    r"copy (select 1, null) to stdout (format csv, null '\\N')",
    "copy notes (id, note) from stdin (format csv, default 'd')\n2,x\n",
    "alter table people alter column data set storage external",
    "create index concurrently on people using gin (data)",
    "reindex table concurrently people",
    "vacuum (process_main true, skip_database_stats) people",
    "select pg_input_is_valid('x', 'int'), (pg_input_error_info('x', 'int')).sql_error_code",
    # 17
    "select * from json_table('[{\"a\": 1, \"b\": {\"c\": [1, 2]}}]', '$[*]' columns (n for ordinality, "
    "a int path '$.a', has bool exists path '$.b', nested path '$.b.c[*]' columns (c int path '$')))",
    "select t.* from people p, json_table(p.data, '$.tags[*]' as root passing 1 as x "
    "columns (tag text path '$' default 'none' on empty error on error)) t",
    "select json_query(data, '$.tags' with wrapper), json_value(data, '$.age' returning int), "
    "json_exists(data, '$.tags[*] ? (@ == $x)' passing 'a' as x) from people order by id",
    "select json('[1]'), json_scalar(1), json_serialize('{}' returning bytea)",
    "merge into notes n using people p on n.id = p.id when matched then update set note = p.name "
    "when not matched then insert values (p.id, p.name) returning merge_action(), n.*, p.name",
    "with m as (merge into notes n using (values (9, 'x')) v(id, note) on n.id = v.id when not matched "
    "by target then insert values (v.id, v.note) when not matched by source then do nothing "
    "returning n.id) select * from m",
    "select random(5, 5), to_bin(5), to_oct(8), uuid_extract_version(gen_random_uuid())",
    "select timestamp '2026-01-01 12:00' at local is not null",
    "explain (analyze, serialize text, memory, timing off, summary off, costs off, buffers off) select 1",
    "copy notes from stdin (on_error ignore, log_verbosity verbose)\nbad\tx\n20\ty\n",
    "copy notes to stdout (format csv, force_quote *)",
    "grant maintain on notes to reader",
    "alter table people alter column name set expression as ('x')",
    "create table parted (id int generated always as identity, at date) partition by range (at)",
    "set transaction_timeout = '1h'",
    # 18
    "update notes set note = note || '!' where id = 1 returning old.note, new.note, note, old.*",
    "update notes set note = 'again' where id = 1 returning with (old as before, new as after) "
    "before.note, after.note",
    "delete from notes where id = 9 returning old.id, new.id",
    "insert into notes values (1, 'z') on conflict (id) do update set note = excluded.note "
    "returning old.note, new.note",
    "merge into notes n using people p on n.id = p.id when matched then update set note = 'm' "
    "returning merge_action(), old.note, new.note",
    "create table virtual (a int, b int generated always as (a * 2) virtual, c int generated always as (a))",
    "insert into virtual (a) values (4) returning *",
    "select * from virtual",
    "create table booked (room int, during daterange, primary key (room, during without overlaps))",
    "create table paid (room int, during daterange, "
    "foreign key (room, period during) references booked (room, period during))",
    "insert into booked values (1, '[2026-01-01,2026-01-05)'), (1, '[2026-01-04,2026-01-06)')",
    "alter table notes add constraint worded check (note <> '') not enforced",
    "alter table notes add constraint there not null note not valid",
    "alter table notes validate constraint there",
    "select array_sort(array[3, 1]), array_reverse(array[1, 2]), casefold('A'), crc32('x'), "
    "reverse('\\x0102'::bytea), uuid_extract_version(uuidv7())",
    "select length(uuidv4()::text), gamma(5), lgamma(1)",
    "analyze only notes",
    "vacuum only notes",
    "explain (costs off) select * from people where id in (values (1), (2))",
    "copy (select * from notes order by id) to stdout",
    "create materialized view seen as select 1 as a; copy seen to stdout",
    "create foreign table far (like people) server nowhere",
    "show search_path",
]


def run(one_way):
    one_way.server.execute(SCHEMA)
    one_way.must_connect()
    results = {}
    for number, statement in enumerate(STATEMENTS, 1):
        sql, _, data = statement.partition("\n")
        script = one_way.server.folder / "script.sql"
        script.write_text(f"{sql};\n{data}" + ("\\.\n" if data else ""))
        output = one_way.run([one_way.clients / "psql", "-X", "-f", script])[1]
        results[f"{number} {sql}"] = output.replace(str(script), "SCRIPT")
    return results


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--server", type=int, default=NEWER[-1], choices=VERSIONS,
                           help="the server's major version")
    options = arguments.parse_args()
    results = {}
    for name in WAYS:
        with way(name, version=options.server) as one_way:
            results[name] = run(one_way)
            one_way.keep(f"syntax-{options.server}", "\n".join(
                f"== {name}\n{text}" for name, text in results[name].items()))
    return compare(f"syntax of PostgreSQL {options.server}",
                   *as_printed(*(results[name] for name in WAYS)), {})


if __name__ == "__main__":
    sys.exit(main())
