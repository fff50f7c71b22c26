WITH
 space AS (
  SELECT oid, nspname FROM pg_catalog.pg_namespace
  WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    AND nspname !~ '^pg_(temp|toast_temp)_'),
 system_space AS (
  SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema')),
 relation AS (
  SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, s.nspname, c.relispartition
  FROM pg_catalog.pg_class c JOIN space s ON s.oid = c.relnamespace
  UNION ALL
  SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, s.nspname, c.relispartition
  FROM pg_catalog.pg_class c JOIN system_space s ON s.oid = c.relnamespace WHERE c.oid >= 16384)
SELECT 'relation', r.oid::text, r.nspname::text, r.relname::text, r.relkind::text,
  CASE WHEN r.relrowsecurity THEN 't' ELSE 'f' END, i.indrelid::text, NULL::text FROM relation r
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid
UNION ALL
SELECT 'column', a.attrelid::text, a.attnum::text, a.attname::text, a.atttypid::text, NULL, NULL, NULL
  FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid
  WHERE r.relkind IN ('r', 'v', 'm', 'p', 'f', 'c', 'S') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'system_relation', c.oid::text, s.nspname::text, c.relname::text, c.relkind::text,
  (SELECT pg_catalog.string_agg(a.attname::text, ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), NULL, NULL
  FROM pg_catalog.pg_class c JOIN system_space s ON s.oid = c.relnamespace
  WHERE c.oid < 16384 AND c.relkind IN ('r', 'v')
UNION ALL
SELECT 'inherits', h.inhrelid::text, h.inhparent::text, NULL, NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_inherits h JOIN relation r ON r.oid = h.inhrelid WHERE r.relkind IN ('r', 'p', 'f')
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
     FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid = w.ev_class
   UNION ALL
   SELECT d.adrelid, 'default', d.adnum::text, d.adbin::text
     FROM pg_catalog.pg_attrdef d JOIN relation r ON r.oid = d.adrelid
   UNION ALL
   SELECT k.conrelid, 'check', k.conname::text, k.conbin::text
     FROM pg_catalog.pg_constraint k JOIN relation r ON r.oid = k.conrelid WHERE k.conbin IS NOT NULL
   UNION ALL
   SELECT k.contypid, 'domain', k.conname::text, k.conbin::text
     FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0 AND k.conbin IS NOT NULL AND k.oid >= 16384
   UNION ALL
   SELECT i.indrelid, 'index', i.indexrelid::text,
     coalesce(i.indexprs::text, '') || coalesce(i.indpred::text, '')
     FROM pg_catalog.pg_index i JOIN relation r ON r.oid = i.indrelid
     WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
   UNION ALL
   SELECT p.polrelid, 'policy', p.polname::text,
     coalesce(p.polqual::text, '') || coalesce(p.polwithcheck::text, '')
     FROM pg_catalog.pg_policy p JOIN relation r ON r.oid = p.polrelid
   UNION ALL
   SELECT g.tgrelid, 'trigger_when', g.tgname::text, g.tgqual::text
     FROM pg_catalog.pg_trigger g JOIN relation r ON r.oid = g.tgrelid WHERE g.tgqual IS NOT NULL
   UNION ALL
   SELECT p.partrelid, 'partition', NULL, p.partexprs::text
     FROM pg_catalog.pg_partitioned_table p JOIN relation r ON r.oid = p.partrelid
     WHERE p.partexprs IS NOT NULL) t
UNION ALL
SELECT 'trigger', g.tgrelid::text, g.tgfoid::text, g.tgtype::text, g.tgenabled::text, g.tgname::text, NULL, NULL
  FROM pg_catalog.pg_trigger g JOIN relation r ON r.oid = g.tgrelid WHERE NOT g.tgisinternal
UNION ALL
SELECT 'foreign_key', k.conrelid::text, k.confrelid::text, pg_catalog.array_to_string(k.conkey, ','),
  pg_catalog.array_to_string(k.confkey, ','), k.confupdtype::text, k.confdeltype::text, NULL
  FROM pg_catalog.pg_constraint k JOIN relation r ON r.oid = k.conrelid WHERE k.contype = 'f'
UNION ALL
SELECT 'function', p.oid::text, s.nspname::text, p.proname::text, p.prokind::text, l.lanname::text,
  e.extname::text, CASE WHEN l.lanname IN ('c', 'internal') OR p.proowner = 10 THEN 't' ELSE 'f' END
  FROM pg_catalog.pg_proc p
  JOIN (SELECT * FROM space UNION ALL SELECT * FROM system_space) s ON s.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.objid = p.oid AND d.deptype = 'e'
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
  WHERE p.oid >= 16384
UNION ALL
SELECT 'body', p.oid::text, p.prosrc,
  pg_catalog.concat_ws(',', p.prorettype::oid::text,
   nullif(pg_catalog.replace(p.proargtypes::text, ' ', ','), ''),
   pg_catalog.array_to_string(p.proallargtypes, ',')), NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_proc p JOIN space s ON s.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE p.oid >= 16384 AND l.lanname = 'sql' AND p.prokind = 'f' AND p.prosrc <> ''
    AND p.proconfig IS NULL AND NOT p.prosecdef AND pg_catalog.length(p.prosrc) <= 4096
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
     WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 'builtin', p.oid::text, s.nspname::text, p.proname::text, NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_proc p JOIN system_space s ON s.oid = p.pronamespace
  WHERE p.oid < 16384 AND (p.provolatile = 'v' OR p.proname ~ '_to_xml|^pg_(read|ls|stat_get|mcv)')
UNION ALL
SELECT 'operator', o.oid::text, s.nspname::text, o.oprname::text, o.oprcode::oid::text, NULL, NULL, NULL
  FROM pg_catalog.pg_operator o
  JOIN (SELECT * FROM space UNION ALL SELECT * FROM system_space) s ON s.oid = o.oprnamespace
  WHERE o.oid >= 16384
UNION ALL
SELECT 'cast', k.oid::text, k.castsource::text, k.casttarget::text, k.castfunc::text, k.castcontext::text, NULL, NULL
  FROM pg_catalog.pg_cast k WHERE k.oid >= 16384 AND k.castfunc <> 0
UNION ALL
SELECT 'type', t.oid::text, s.nspname::text, t.typname::text, t.typtype::text,
  (CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN t.typcategory = 'A' THEN t.typelem
   ELSE coalesce((SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid), 0) END)::text,
  t.typrelid::text,
  pg_catalog.concat_ws(',', t.typinput::oid::text, t.typoutput::oid::text,
   (SELECT g.rngcanonical::oid::text || ',' || g.rngsubdiff::oid::text
    FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid))
  FROM pg_catalog.pg_type t
  JOIN (SELECT * FROM space UNION ALL SELECT * FROM system_space) s ON s.oid = t.typnamespace
  WHERE t.oid >= 16384
UNION ALL
SELECT 'event_trigger', v.oid::text, v.evtfoid::text, v.evtevent::text, v.evtname::text, NULL, NULL, NULL
  FROM pg_catalog.pg_event_trigger v WHERE v.evtenabled <> 'D'
ORDER BY 1, 2, 3, 4, 5, 6, 7
