SELECT 'path', p.ordinal::pg_catalog.text, p.name::pg_catalog.text, NULL, NULL, NULL, NULL, NULL
  FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS p(name, ordinal)
UNION ALL
SELECT 'setting', v.name, v.value, NULL, NULL, NULL, NULL, NULL FROM (VALUES
  ('user', current_user::pg_catalog.text), ('session_user', session_user::pg_catalog.text),
  ('temporary', pg_catalog.pg_my_temp_schema()::pg_catalog.text),
  ('database', pg_catalog.current_database()::pg_catalog.text),
  ('search_path', pg_catalog.current_setting('search_path')),
  ('standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings')),
  ('server_encoding', pg_catalog.current_setting('server_encoding')),
  ('client_encoding', pg_catalog.current_setting('client_encoding')),
  ('session_replication_role', pg_catalog.current_setting('session_replication_role')),
  ('row_security', pg_catalog.current_setting('row_security')),
  ('transaction_isolation', pg_catalog.current_setting('transaction_isolation')),
  ('default_transaction_isolation', pg_catalog.current_setting('default_transaction_isolation'))) AS v(name, value)
