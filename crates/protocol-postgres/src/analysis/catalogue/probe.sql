WITH temp AS (SELECT pg_catalog.pg_my_temp_schema() AS oid)
SELECT 'path' AS kind, p.ordinal::text AS a, p.name::text AS b, NULL::text AS c, NULL::text AS d,
  NULL::text AS e, NULL::text AS f, NULL::text AS g
  FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS p(name, ordinal)
UNION ALL
SELECT 'setting', v.name, v.value, NULL, NULL, NULL, NULL, NULL FROM (VALUES
  ('user', current_user::text), ('session_user', session_user::text),
  ('temp_schema', (SELECT n.nspname::text FROM pg_catalog.pg_namespace n, temp WHERE n.oid = temp.oid)),
  ('database', pg_catalog.current_database()::text),
  ('search_path', pg_catalog.current_setting('search_path')),
  ('standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings')),
  ('server_encoding', pg_catalog.current_setting('server_encoding')),
  ('client_encoding', pg_catalog.current_setting('client_encoding')),
  ('session_replication_role', pg_catalog.current_setting('session_replication_role')),
  ('row_security', pg_catalog.current_setting('row_security'))) AS v(name, value)
UNION ALL
SELECT 'relation', c.oid::text, 'pg_temp', c.relname::text, c.relkind::text,
  CASE WHEN c.relrowsecurity THEN 't' ELSE 'f' END, i.indrelid::text, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
UNION ALL
SELECT 'column', a.attrelid::text, a.attnum::text, a.attname::text, a.atttypid::text, NULL, NULL, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
  WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f', 'c', 'S') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'inherits', h.inhrelid::text, h.inhparent::text, NULL, NULL, NULL, NULL, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
  JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid WHERE c.relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'tree', t.owner::text, t.context, t.detail, NULL,
  (SELECT pg_catalog.string_agg(DISTINCT m[1], ',')
   FROM pg_catalog.regexp_matches(t.tree, ':relid ([0-9]+)', 'g') m),
  (SELECT pg_catalog.string_agg(DISTINCT m[1], ',')
   FROM pg_catalog.regexp_matches(t.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([1-9][0-9]*)', 'g') m),
  CASE WHEN t.context IN ('default', 'policy') THEN (SELECT pg_catalog.string_agg(DISTINCT m[1], ',')
   FROM pg_catalog.regexp_matches(t.tree, ':varattno ([0-9]+)', 'g') m) END
  FROM (
   SELECT w.ev_class AS owner, CASE w.ev_type WHEN '1' THEN 'view' ELSE 'rule' END AS context,
     w.ev_type::text AS detail, w.ev_action::text || w.ev_qual::text AS tree
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
     JOIN pg_catalog.pg_rewrite w ON w.ev_class = c.oid
   UNION ALL
   SELECT d.adrelid, 'default', d.adnum::text, d.adbin::text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
     JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid
   UNION ALL
   SELECT k.conrelid, 'check', k.conname::text, k.conbin::text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
     JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid WHERE k.conbin IS NOT NULL
   UNION ALL
   SELECT i.indrelid, 'index', i.indexrelid::text,
     coalesce(i.indexprs::text, '') || coalesce(i.indpred::text, '')
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
     JOIN pg_catalog.pg_index i ON i.indrelid = c.oid
     WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
   UNION ALL
   SELECT k.contypid, 'domain', k.conname::text, k.conbin::text
     FROM temp JOIN pg_catalog.pg_type y ON y.typnamespace = temp.oid
     JOIN pg_catalog.pg_constraint k ON k.contypid = y.oid WHERE k.conbin IS NOT NULL
   UNION ALL
   SELECT p.polrelid, 'policy', p.polname::text,
     coalesce(p.polqual::text, '') || coalesce(p.polwithcheck::text, '')
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
     JOIN pg_catalog.pg_policy p ON p.polrelid = c.oid
   UNION ALL
   SELECT p.partrelid, 'partition', NULL, p.partexprs::text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid WHERE p.partexprs IS NOT NULL
   UNION ALL
   SELECT g.tgrelid, 'trigger_when', g.tgname::text, g.tgqual::text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
     JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid WHERE g.tgqual IS NOT NULL) t
UNION ALL
SELECT 'trigger', g.tgrelid::text, g.tgfoid::text, g.tgtype::text, g.tgenabled::text, g.tgname::text, NULL, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
  JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid WHERE NOT g.tgisinternal
UNION ALL
SELECT 'foreign_key', k.conrelid::text, k.confrelid::text, pg_catalog.array_to_string(k.conkey, ','),
  pg_catalog.array_to_string(k.confkey, ','), k.confupdtype::text, k.confdeltype::text, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace = temp.oid
  JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid WHERE k.contype = 'f'
UNION ALL
SELECT 'function', p.oid::text, 'pg_temp', p.proname::text, p.prokind::text, l.lanname::text, NULL, 'f'
  FROM temp JOIN pg_catalog.pg_proc p ON p.pronamespace = temp.oid
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
UNION ALL
SELECT 'operator', o.oid::text, 'pg_temp', o.oprname::text, o.oprcode::oid::text, NULL, NULL, NULL
  FROM temp JOIN pg_catalog.pg_operator o ON o.oprnamespace = temp.oid
UNION ALL
SELECT 'type', t.oid::text, 'pg_temp', t.typname::text, t.typtype::text,
  (CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN t.typcategory = 'A' THEN t.typelem
   ELSE coalesce((SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid), 0) END)::text,
  t.typrelid::text,
  pg_catalog.concat_ws(',', t.typinput::oid::text, t.typoutput::oid::text,
   (SELECT g.rngcanonical::oid::text || ',' || g.rngsubdiff::oid::text
    FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid))
  FROM temp JOIN pg_catalog.pg_type t ON t.typnamespace = temp.oid
ORDER BY 1, 2, 3, 4, 5, 6, 7
