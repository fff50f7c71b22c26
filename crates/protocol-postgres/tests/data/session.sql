-- The session whose probe is in session.tsv.
CREATE TEMP TABLE scratch (id int, name text);
CREATE TEMP VIEW scratch_view AS SELECT ssn AS k FROM public.people;
CREATE TEMP TABLE depts (id int);
CREATE FUNCTION pg_temp.count(text) RETURNS bigint LANGUAGE sql AS 'select 1::bigint';
