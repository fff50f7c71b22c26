-- The database whose catalogue is in hidden.tsv: code that a statement runs without naming it.
-- `psql -XAt -F TAB -f src/analysis/catalogue/load.sql`, sorted
CREATE EXTENSION hstore;
CREATE TABLE notes (id int, note text);
CREATE FUNCTION evil(text) RETURNS text LANGUAGE plpgsql AS 'begin return $1; end';
CREATE FUNCTION evil_int(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'begin return $1; end';
CREATE FUNCTION is_fine(int) RETURNS bool LANGUAGE plpgsql AS 'begin return true; end';
CREATE FUNCTION differs(int, int) RETURNS bool LANGUAGE plpgsql AS 'begin return true; end';
CREATE FUNCTION plain(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'select $1 + 1';
CREATE FUNCTION hiding(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'select $1 + evil_int(1)';
-- Domains and what is made of them.
CREATE DOMAIN checked AS int CHECK (is_fine(value));
CREATE DOMAIN small AS int DEFAULT 1 CHECK (value < 100);
CREATE DOMAIN filled AS text DEFAULT evil('x');
CREATE DOMAIN filled_again AS filled;
CREATE TYPE pair AS (a checked);
CREATE TYPE plain_pair AS (a small, b text);
CREATE VIEW of_domain AS SELECT (id::checked)::int AS y FROM notes;
CREATE VIEW of_pair AS SELECT ((('(' || id || ')')::pair).a)::int AS y FROM notes;
CREATE VIEW of_json AS SELECT x.a::int AS y FROM json_to_record('{"a":5}') AS x(a checked);
CREATE VIEW of_xml AS SELECT x.a::int AS y FROM notes, XMLTABLE('/a' PASSING (note::xml) COLUMNS a checked PATH '.') x;
CREATE VIEW of_input AS SELECT array_in('{5}', 16384, -1)::text AS y;
CREATE VIEW of_small AS SELECT (id::small)::int AS y, ('(1,x)'::plain_pair).b FROM notes;
CREATE TABLE with_default (id int, d filled);
CREATE TABLE with_inherited_default (id int, d filled_again);
CREATE TABLE with_small (id int, d small);
CREATE TABLE with_hidden_default (id int, y int DEFAULT ('5'::text)::checked);
-- Casts of rows, and of arrays of them.
CREATE TABLE rows (a int);
CREATE FUNCTION of_row(rows) RETURNS text LANGUAGE plpgsql AS 'begin return 1; end';
CREATE CAST (rows AS text) WITH FUNCTION of_row(rows);
CREATE TABLE arrays (a int);
CREATE FUNCTION of_array(arrays[]) RETURNS text LANGUAGE plpgsql AS 'begin return 1; end';
CREATE CAST (arrays[] AS text) WITH FUNCTION of_array(arrays[]);
CREATE FUNCTION of_hstore(hstore) RETURNS int LANGUAGE plpgsql AS 'begin return 1; end';
CREATE CAST (hstore AS int) WITH FUNCTION of_hstore(hstore);
-- Defaults of arguments.
CREATE FUNCTION with_argument(a text DEFAULT evil('x')) RETURNS text LANGUAGE sql AS 'select $1';
CREATE FUNCTION with_number(a int DEFAULT 1 + 1) RETURNS int LANGUAGE sql AS 'select $1';
-- Operators with partners.
CREATE OPERATOR @#! (LEFTARG = int, RIGHTARG = int, FUNCTION = differs);
CREATE OPERATOR @# (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, NEGATOR = @#!);
CREATE OPERATOR @< (LEFTARG = int, RIGHTARG = int, FUNCTION = int4lt, COMMUTATOR = @>);
CREATE OPERATOR @> (LEFTARG = int, RIGHTARG = int, FUNCTION = differs, COMMUTATOR = @<);
CREATE OPERATOR @= (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, COMMUTATOR = @=);
CREATE VIEW of_operator AS SELECT id @# 2 AS y FROM notes;
-- What planning computes.
CREATE TABLE indexed (a int);
CREATE INDEX ON indexed (a) WHERE a > evil_int(1);
CREATE TABLE indexed_through_sql (a int);
CREATE INDEX ON indexed_through_sql (hiding(a));
CREATE TABLE indexed_well (a int CHECK (is_fine(a)), b int CHECK (is_fine(coalesce(b, 0))));
CREATE INDEX ON indexed_well (evil_int(a), plain(b));
CREATE TABLE limited (a int, CHECK (a > evil_int(1)));
CREATE TABLE counted (a int, b int);
CREATE STATISTICS counted_kinds ON (a + evil_int(1)), b FROM counted;
-- Masks.
CREATE TABLE whole_row (id int, ssn text);
ALTER TABLE whole_row ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON whole_row USING (to_jsonb(whole_row)::text <> '');
CREATE TABLE parts (id int, region text) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu') PARTITION BY LIST (lower(region));
CREATE TABLE parts_eu_all PARTITION OF parts_eu DEFAULT;
