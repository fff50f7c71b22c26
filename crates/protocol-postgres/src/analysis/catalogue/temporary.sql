WITH temp AS (SELECT pg_catalog.pg_my_temp_schema() AS oid)
SELECT 'setting', 'temp_schema', n.nspname::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text
  FROM temp JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) temp.oid
UNION ALL
SELECT 'relation', c.oid::pg_catalog.text, 'pg_temp', c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
  CASE WHEN c.relrowsecurity THEN 't' ELSE 'f' END, i.indrelid::pg_catalog.text, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) c.oid
UNION ALL
SELECT 'column', a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, a.attname::pg_catalog.text, a.atttypid::pg_catalog.text, NULL, NULL, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
  WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,p,f,c,S}'::pg_catalog."char"[]) AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
UNION ALL
SELECT 'inherits', h.inhrelid::pg_catalog.text, h.inhparent::pg_catalog.text, NULL, NULL, NULL, NULL, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
  JOIN pg_catalog.pg_inherits h ON h.inhrelid OPERATOR(pg_catalog.=) c.oid WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f}'::pg_catalog."char"[])
UNION ALL
SELECT 'tree', t.owner::pg_catalog.text, t.context, t.detail, t.version, t.tree, NULL, NULL
  FROM (
   SELECT w.ev_class AS owner, CASE WHEN w.ev_type OPERATOR(pg_catalog.=) '1' THEN 'view' ELSE 'rule' END AS context,
     w.ev_type::pg_catalog.text AS detail, w.ev_action::pg_catalog.text OPERATOR(pg_catalog.||) w.ev_qual::pg_catalog.text AS tree,
     w.xmin::pg_catalog.text AS version
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_rewrite w ON w.ev_class OPERATOR(pg_catalog.=) c.oid
   UNION ALL
   SELECT d.adrelid, 'default', d.adnum::pg_catalog.text, d.adbin::pg_catalog.text, d.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) c.oid
   UNION ALL
   SELECT k.conrelid, 'check', k.conname::pg_catalog.text, k.conbin::pg_catalog.text, k.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_constraint k ON k.conrelid OPERATOR(pg_catalog.=) c.oid WHERE k.conbin IS NOT NULL
   UNION ALL
   SELECT i.indrelid, 'index', i.indexrelid::pg_catalog.text,
     coalesce(i.indexprs::pg_catalog.text, '') OPERATOR(pg_catalog.||) coalesce(i.indpred::pg_catalog.text, ''), i.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) c.oid
     WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
   UNION ALL
   SELECT k.contypid, 'domain', k.conname::pg_catalog.text, k.conbin::pg_catalog.text, k.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_type y ON y.typnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_constraint k ON k.contypid OPERATOR(pg_catalog.=) y.oid WHERE k.conbin IS NOT NULL
   UNION ALL
   SELECT p.polrelid, 'policy', p.polname::pg_catalog.text,
     coalesce(p.polqual::pg_catalog.text, '') OPERATOR(pg_catalog.||) coalesce(p.polwithcheck::pg_catalog.text, ''), p.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_policy p ON p.polrelid OPERATOR(pg_catalog.=) c.oid
   UNION ALL
   SELECT p.partrelid, 'partition', pg_catalog.replace(p.partattrs::pg_catalog.text, ' ', ','),
     coalesce(p.partexprs::pg_catalog.text, ''), p.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid OPERATOR(pg_catalog.=) c.oid
   UNION ALL
   SELECT x.stxrelid, 'statistics', x.stxname::pg_catalog.text, pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(x), 'stxexprs'), x.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_statistic_ext x ON x.stxrelid OPERATOR(pg_catalog.=) c.oid WHERE 'e' OPERATOR(pg_catalog.=) ANY (x.stxkind)
   UNION ALL
   SELECT y.oid, 'domain_default', NULL, y.typdefaultbin::pg_catalog.text, y.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_type y ON y.typnamespace OPERATOR(pg_catalog.=) temp.oid WHERE y.typdefaultbin IS NOT NULL
   UNION ALL
   SELECT p.oid, 'argument', NULL, p.proargdefaults::pg_catalog.text, p.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_proc p ON p.pronamespace OPERATOR(pg_catalog.=) temp.oid WHERE p.proargdefaults IS NOT NULL
   UNION ALL
   SELECT g.tgrelid, 'trigger_when', g.tgname::pg_catalog.text, g.tgqual::pg_catalog.text, g.xmin::pg_catalog.text
     FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
     JOIN pg_catalog.pg_trigger g ON g.tgrelid OPERATOR(pg_catalog.=) c.oid WHERE g.tgqual IS NOT NULL) t
UNION ALL
SELECT 'trigger', g.tgrelid::pg_catalog.text, g.tgfoid::pg_catalog.text, g.tgtype::pg_catalog.text, g.tgenabled::pg_catalog.text, g.tgname::pg_catalog.text, NULL, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
  JOIN pg_catalog.pg_trigger g ON g.tgrelid OPERATOR(pg_catalog.=) c.oid WHERE NOT g.tgisinternal
UNION ALL
SELECT 'foreign_key', k.conrelid::pg_catalog.text, k.confrelid::pg_catalog.text, pg_catalog.array_to_string(k.conkey, ','),
  pg_catalog.array_to_string(k.confkey, ','), k.confupdtype::pg_catalog.text, k.confdeltype::pg_catalog.text, NULL
  FROM temp JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) temp.oid
  JOIN pg_catalog.pg_constraint k ON k.conrelid OPERATOR(pg_catalog.=) c.oid WHERE k.contype OPERATOR(pg_catalog.=) 'f'
UNION ALL
SELECT 'function', p.oid::pg_catalog.text, 'pg_temp', p.proname::pg_catalog.text,
  pg_catalog.concat_ws(' ', p.prokind, p.xmin, p.prorettype::pg_catalog.oid,
   CASE WHEN p.pronargs OPERATOR(pg_catalog.<>) 0 THEN p.proargtypes END, pg_catalog.array_to_string(p.proallargtypes, ' ')), l.lanname::pg_catalog.text, NULL, 'f'
  FROM temp JOIN pg_catalog.pg_proc p ON p.pronamespace OPERATOR(pg_catalog.=) temp.oid
  JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
UNION ALL
SELECT 'operator', o.oid::pg_catalog.text, 'pg_temp', o.oprname::pg_catalog.text, o.oprcode::pg_catalog.oid::pg_catalog.text,
  o.oprcom::pg_catalog.text, o.oprnegate::pg_catalog.text, NULL
  FROM temp JOIN pg_catalog.pg_operator o ON o.oprnamespace OPERATOR(pg_catalog.=) temp.oid
UNION ALL
SELECT 'type', t.oid::pg_catalog.text, 'pg_temp', t.typname::pg_catalog.text, t.typtype::pg_catalog.text,
  (CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd' THEN t.typbasetype WHEN t.typcategory OPERATOR(pg_catalog.=) 'A' THEN t.typelem
   ELSE coalesce((SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid OPERATOR(pg_catalog.=) t.oid), 0) END)::pg_catalog.text,
  t.typrelid::pg_catalog.text,
  pg_catalog.concat_ws(',', t.typinput::pg_catalog.oid::pg_catalog.text, t.typoutput::pg_catalog.oid::pg_catalog.text,
   (SELECT g.rngcanonical::pg_catalog.oid::pg_catalog.text OPERATOR(pg_catalog.||) ',' OPERATOR(pg_catalog.||) g.rngsubdiff::pg_catalog.oid::pg_catalog.text
    FROM pg_catalog.pg_range g WHERE g.rngtypid OPERATOR(pg_catalog.=) t.oid))
  FROM temp JOIN pg_catalog.pg_type t ON t.typnamespace OPERATOR(pg_catalog.=) temp.oid
