WITH
 space AS (
  SELECT oid, nspname FROM pg_catalog.pg_namespace
  WHERE nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema,pg_toast}'::pg_catalog.name[])
    AND nspname OPERATOR(pg_catalog.!~) '^pg_(temp|toast_temp)_'),
 system_space AS (
  SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) ANY ('{pg_catalog,information_schema}'::pg_catalog.name[])),
 relation AS (
  SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, s.nspname, c.relispartition
  FROM pg_catalog.pg_class c JOIN space s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace
  UNION ALL
  SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, s.nspname, c.relispartition
  FROM pg_catalog.pg_class c JOIN system_space s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE c.oid OPERATOR(pg_catalog.>=) 16384)
SELECT 'relation', r.oid::pg_catalog.text, r.nspname::pg_catalog.text, r.relname::pg_catalog.text, r.relkind::pg_catalog.text,
  CASE WHEN r.relrowsecurity THEN 't' ELSE 'f' END, i.indrelid::pg_catalog.text, NULL::pg_catalog.text FROM relation r
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) r.oid
UNION ALL
SELECT 'column', a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, a.attname::pg_catalog.text, a.atttypid::pg_catalog.text, NULL, NULL, NULL
  FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) r.oid
  WHERE r.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,p,f,c,S}'::pg_catalog."char"[]) AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
UNION ALL
SELECT 'system_relation', c.oid::pg_catalog.text, s.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
  (SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
   WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped), NULL, NULL
  FROM pg_catalog.pg_class c JOIN system_space s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE c.oid OPERATOR(pg_catalog.<) 16384 AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v}'::pg_catalog."char"[])
UNION ALL
SELECT 'inherits', h.inhrelid::pg_catalog.text, h.inhparent::pg_catalog.text, NULL, NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_inherits h JOIN relation r ON r.oid OPERATOR(pg_catalog.=) h.inhrelid WHERE r.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f}'::pg_catalog."char"[])
UNION ALL
SELECT 'tree', t.owner::pg_catalog.text, t.context, t.detail, t.version, t.tree, NULL, NULL
  FROM (
   SELECT w.ev_class AS owner, CASE WHEN w.ev_type OPERATOR(pg_catalog.=) '1' THEN 'view' ELSE 'rule' END AS context,
     w.ev_type::pg_catalog.text AS detail, w.ev_action::pg_catalog.text OPERATOR(pg_catalog.||) w.ev_qual::pg_catalog.text AS tree,
     w.xmin::pg_catalog.text AS version
     FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid OPERATOR(pg_catalog.=) w.ev_class
   UNION ALL
   SELECT d.adrelid, 'default', d.adnum::pg_catalog.text, d.adbin::pg_catalog.text, d.xmin::pg_catalog.text
     FROM pg_catalog.pg_attrdef d JOIN relation r ON r.oid OPERATOR(pg_catalog.=) d.adrelid
   UNION ALL
   SELECT k.conrelid, 'check', k.conname::pg_catalog.text, k.conbin::pg_catalog.text, k.xmin::pg_catalog.text
     FROM pg_catalog.pg_constraint k JOIN relation r ON r.oid OPERATOR(pg_catalog.=) k.conrelid WHERE k.conbin IS NOT NULL
   UNION ALL
   SELECT k.contypid, 'domain', k.conname::pg_catalog.text, k.conbin::pg_catalog.text, k.xmin::pg_catalog.text
     FROM pg_catalog.pg_constraint k WHERE k.contypid OPERATOR(pg_catalog.<>) 0 AND k.conbin IS NOT NULL AND k.oid OPERATOR(pg_catalog.>=) 16384
   UNION ALL
   SELECT i.indrelid, 'index', i.indexrelid::pg_catalog.text,
     coalesce(i.indexprs::pg_catalog.text, '') OPERATOR(pg_catalog.||) coalesce(i.indpred::pg_catalog.text, ''), i.xmin::pg_catalog.text
     FROM pg_catalog.pg_index i JOIN relation r ON r.oid OPERATOR(pg_catalog.=) i.indrelid
     WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
   UNION ALL
   SELECT p.polrelid, 'policy', p.polname::pg_catalog.text,
     coalesce(p.polqual::pg_catalog.text, '') OPERATOR(pg_catalog.||) coalesce(p.polwithcheck::pg_catalog.text, ''), p.xmin::pg_catalog.text
     FROM pg_catalog.pg_policy p JOIN relation r ON r.oid OPERATOR(pg_catalog.=) p.polrelid
   UNION ALL
   SELECT g.tgrelid, 'trigger_when', g.tgname::pg_catalog.text, g.tgqual::pg_catalog.text, g.xmin::pg_catalog.text
     FROM pg_catalog.pg_trigger g JOIN relation r ON r.oid OPERATOR(pg_catalog.=) g.tgrelid WHERE g.tgqual IS NOT NULL
   UNION ALL
   SELECT p.partrelid, 'partition', pg_catalog.replace(p.partattrs::pg_catalog.text, ' ', ','),
     coalesce(p.partexprs::pg_catalog.text, ''), p.xmin::pg_catalog.text
     FROM pg_catalog.pg_partitioned_table p JOIN relation r ON r.oid OPERATOR(pg_catalog.=) p.partrelid
   UNION ALL
   SELECT x.stxrelid, 'statistics', x.stxname::pg_catalog.text, pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(x), 'stxexprs'), x.xmin::pg_catalog.text
     FROM pg_catalog.pg_statistic_ext x JOIN relation r ON r.oid OPERATOR(pg_catalog.=) x.stxrelid
     WHERE 'e' OPERATOR(pg_catalog.=) ANY (x.stxkind)
   UNION ALL
   SELECT y.oid, 'domain_default', NULL, y.typdefaultbin::pg_catalog.text, y.xmin::pg_catalog.text
     FROM pg_catalog.pg_type y WHERE y.typdefaultbin IS NOT NULL AND y.oid OPERATOR(pg_catalog.>=) 16384
   UNION ALL
   SELECT p.oid, 'argument', NULL, p.proargdefaults::pg_catalog.text, p.xmin::pg_catalog.text
     FROM pg_catalog.pg_proc p WHERE p.proargdefaults IS NOT NULL AND p.oid OPERATOR(pg_catalog.>=) 16384) t
UNION ALL
SELECT 'trigger', g.tgrelid::pg_catalog.text, g.tgfoid::pg_catalog.text, g.tgtype::pg_catalog.text, g.tgenabled::pg_catalog.text, g.tgname::pg_catalog.text, NULL, NULL
  FROM pg_catalog.pg_trigger g JOIN relation r ON r.oid OPERATOR(pg_catalog.=) g.tgrelid WHERE NOT g.tgisinternal
UNION ALL
SELECT 'foreign_key', k.conrelid::pg_catalog.text, k.confrelid::pg_catalog.text, pg_catalog.array_to_string(k.conkey, ','),
  pg_catalog.array_to_string(k.confkey, ','), k.confupdtype::pg_catalog.text, k.confdeltype::pg_catalog.text, NULL
  FROM pg_catalog.pg_constraint k JOIN relation r ON r.oid OPERATOR(pg_catalog.=) k.conrelid WHERE k.contype OPERATOR(pg_catalog.=) 'f'
UNION ALL
SELECT 'function', p.oid::pg_catalog.text, s.nspname::pg_catalog.text, p.proname::pg_catalog.text,
  pg_catalog.concat_ws(' ', p.prokind, p.xmin, p.prorettype::pg_catalog.oid,
   CASE WHEN p.pronargs OPERATOR(pg_catalog.<>) 0 THEN p.proargtypes END, pg_catalog.array_to_string(p.proallargtypes, ' ')), l.lanname::pg_catalog.text,
  e.extname::pg_catalog.text, CASE WHEN l.lanname OPERATOR(pg_catalog.=) ANY ('{c,internal}'::pg_catalog.name[])
    OR (l.lanname OPERATOR(pg_catalog.=) 'sql' AND p.prosrc OPERATOR(pg_catalog.=) '' AND p.proowner OPERATOR(pg_catalog.=) 10) THEN 't' ELSE 'f' END
  FROM pg_catalog.pg_proc p
  JOIN (SELECT * FROM space UNION ALL SELECT * FROM system_space) s ON s.oid OPERATOR(pg_catalog.=) p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
  LEFT JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'
  LEFT JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
  WHERE p.oid OPERATOR(pg_catalog.>=) 16384
UNION ALL
SELECT 'body', p.oid::pg_catalog.text, p.prosrc,
  pg_catalog.concat_ws(',', p.prorettype::pg_catalog.oid::pg_catalog.text,
   CASE WHEN p.pronargs OPERATOR(pg_catalog.<>) 0 THEN pg_catalog.replace(p.proargtypes::pg_catalog.text, ' ', ',') END,
   pg_catalog.array_to_string(p.proallargtypes, ',')), NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_proc p JOIN space s ON s.oid OPERATOR(pg_catalog.=) p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
  WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND l.lanname OPERATOR(pg_catalog.=) 'sql' AND p.prokind OPERATOR(pg_catalog.=) 'f' AND p.prosrc OPERATOR(pg_catalog.<>) ''
    AND p.proconfig IS NULL AND NOT p.prosecdef AND pg_catalog.length(p.prosrc) OPERATOR(pg_catalog.<=) 4096
UNION ALL
SELECT 'builtin', p.oid::pg_catalog.text, s.nspname::pg_catalog.text, p.proname::pg_catalog.text, NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_proc p JOIN system_space s ON s.oid OPERATOR(pg_catalog.=) p.pronamespace
  WHERE p.oid OPERATOR(pg_catalog.<) 16384 AND (p.provolatile OPERATOR(pg_catalog.=) 'v' OR p.proname OPERATOR(pg_catalog.~~) ANY
   ('{%_to_xml%,pg_read%,pg_ls%,pg_stat_get%,pg_mcv%,pg_input%,array_in,array_recv,domain_in,domain_recv,record_in,record_recv,
      range_in,range_recv,multirange_in,multirange_recv,fmgr_%_validator}'::pg_catalog.text[]))
UNION ALL
SELECT 'operator', o.oid::pg_catalog.text, s.nspname::pg_catalog.text, o.oprname::pg_catalog.text, o.oprcode::pg_catalog.oid::pg_catalog.text,
  o.oprcom::pg_catalog.text, o.oprnegate::pg_catalog.text, NULL
  FROM pg_catalog.pg_operator o
  JOIN (SELECT * FROM space UNION ALL SELECT * FROM system_space) s ON s.oid OPERATOR(pg_catalog.=) o.oprnamespace
  WHERE o.oid OPERATOR(pg_catalog.>=) 16384 OR o.oprcom OPERATOR(pg_catalog.>=) 16384 OR o.oprnegate OPERATOR(pg_catalog.>=) 16384
UNION ALL
SELECT 'cast', k.oid::pg_catalog.text, k.castsource::pg_catalog.text, k.casttarget::pg_catalog.text, k.castfunc::pg_catalog.text, k.castcontext::pg_catalog.text, NULL, NULL
  FROM pg_catalog.pg_cast k WHERE k.oid OPERATOR(pg_catalog.>=) 16384 AND k.castfunc OPERATOR(pg_catalog.<>) 0
UNION ALL
SELECT 'type', t.oid::pg_catalog.text, s.nspname::pg_catalog.text, t.typname::pg_catalog.text, t.typtype::pg_catalog.text,
  (CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd' THEN t.typbasetype WHEN t.typcategory OPERATOR(pg_catalog.=) 'A' THEN t.typelem
   ELSE coalesce((SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid OPERATOR(pg_catalog.=) t.oid), 0) END)::pg_catalog.text,
  t.typrelid::pg_catalog.text,
  pg_catalog.concat_ws(',', t.typinput::pg_catalog.oid::pg_catalog.text, t.typoutput::pg_catalog.oid::pg_catalog.text,
   (SELECT g.rngcanonical::pg_catalog.oid::pg_catalog.text OPERATOR(pg_catalog.||) ',' OPERATOR(pg_catalog.||) g.rngsubdiff::pg_catalog.oid::pg_catalog.text
    FROM pg_catalog.pg_range g WHERE g.rngtypid OPERATOR(pg_catalog.=) t.oid))
  FROM pg_catalog.pg_type t
  JOIN (SELECT * FROM space UNION ALL SELECT * FROM system_space) s ON s.oid OPERATOR(pg_catalog.=) t.typnamespace
  WHERE t.oid OPERATOR(pg_catalog.>=) 16384
UNION ALL
SELECT 'event_trigger', v.oid::pg_catalog.text, v.evtfoid::pg_catalog.text, v.evtevent::pg_catalog.text, v.evtname::pg_catalog.text, NULL, NULL, NULL
  FROM pg_catalog.pg_event_trigger v WHERE v.evtenabled OPERATOR(pg_catalog.<>) 'D'
