"""DBeaver fills its tree of a database by way of examples/policies/catalogue.cedar.

The questions are those of its PostgreSQL plugin in our words: the same relations, functions and ways to
give parameters, in the order in which a person opens the tree.
"""

import psycopg
import pytest

from test_catalogue_policy import warehouse  # noqa: F401

# With the schema's or a table's oid as a parameter, as JDBC binds them.
SCHEMA = "select oid from pg_catalog.pg_namespace where nspname = 'reports'"
TABLE = "select 'reports.daily'::pg_catalog.regclass::oid"
ON_CONNECT = [
    "set extra_float_digits = 3",
    "set application_name = 'DBeaver 25.1.0 - Main'",
    "select pg_catalog.version()",
    "select current_database(), current_schema(), session_user, current_user",
    "show search_path",
    "show standard_conforming_strings",
    "select word from pg_catalog.pg_get_keywords()",
    "select db.oid, db.* from pg_catalog.pg_database db where datallowconn and not datistemplate",
    "select pg_catalog.pg_encoding_to_char(encoding), datcollate from pg_catalog.pg_database "
    "where datname = current_database()",
    "select * from pg_catalog.pg_settings where name in ('server_version_num', 'DateStyle')",
]
DATABASE = {
    "schemas": """select n.oid, n.*, d.description from pg_catalog.pg_namespace n
        left outer join pg_catalog.pg_description d on d.objoid = n.oid and d.objsubid = 0
            and d.classoid = 'pg_namespace'::regclass order by nspname""",
    "types": """select t.oid, t.*, c.relkind, d.description,
            format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name
        from pg_catalog.pg_type t left outer join pg_catalog.pg_type et on et.oid = t.typelem
        left outer join pg_catalog.pg_class c on c.oid = t.typrelid
        left outer join pg_catalog.pg_description d on t.oid = d.objoid
        where t.typname is not null and (c.relkind is null or c.relkind = 'c')
            and (et.typcategory is null or et.typcategory <> 'C') order by t.oid""",
    "labels of enums": "select e.oid, e.* from pg_catalog.pg_enum e order by e.enumtypid, e.enumsortorder",
    "roles": """select a.oid, a.*, pd.description from pg_catalog.pg_roles a
        left join pg_catalog.pg_shdescription pd on a.oid = pd.objoid order by a.rolname""",
    "members of roles": "select * from pg_catalog.pg_auth_members order by roleid, member",
    "tablespaces": "select t.oid, t.*, pg_tablespace_location(t.oid) from pg_catalog.pg_tablespace t",
    "languages": "select l.oid, l.* from pg_catalog.pg_language l order by l.oid",
    "access methods": "select am.oid, am.* from pg_catalog.pg_am am order by am.oid",
    "encodings": "select c.contoencoding, pg_catalog.pg_encoding_to_char(c.contoencoding) "
                 "from pg_catalog.pg_conversion c group by 1 order by 2",
    "extensions": """select e.oid, cfg.tbls, n.nspname as schema_name, e.*
        from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
        left join (select ftb.oid, array_agg(ns.nspname || '.' || cl.relname) as tbls
            from pg_catalog.pg_class cl join
                (select oid, unnest(extconfig) as toid from pg_catalog.pg_extension) ftb
                on ftb.toid = cl.oid
            join pg_catalog.pg_namespace ns on ns.oid = cl.relnamespace group by ftb.oid) cfg
        on cfg.oid = e.oid order by e.oid""",
    "available extensions": "select name, default_version, installed_version, comment "
                            "from pg_catalog.pg_available_extensions order by name",
    "foreign data wrappers": """select l.oid, l.*, p.proname as handler_proc_name
        from pg_catalog.pg_foreign_data_wrapper l
        left outer join pg_catalog.pg_proc p on p.oid = l.fdwhandler order by l.fdwname""",
    "foreign servers": "select l.oid, l.* from pg_catalog.pg_foreign_server l order by l.srvname",
    "event triggers": "select e.oid, e.*, p.proname from pg_catalog.pg_event_trigger e "
                      "join pg_catalog.pg_proc p on p.oid = e.evtfoid",
    "settings": "select * from pg_catalog.pg_settings where name = 'search_path'",
    "default privileges": """select defaclnamespace, defaclobjtype, pg_catalog.array_to_string(
        defaclacl, ',') from pg_catalog.pg_default_acl""",
    "size": "select pg_catalog.pg_database_size(current_database()) > 0",
}
IN_SCHEMA = {
    "tables": """select c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid),
            pg_catalog.pg_get_partkeydef(c.oid)
        from pg_catalog.pg_class c left outer join pg_catalog.pg_description d on d.objoid = c.oid
            and d.objsubid = 0 and d.classoid = 'pg_class'::regclass
        where c.relnamespace = %s and c.relkind not in ('i', 'I', 'c') order by c.relname""",
    "columns": """select c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true),
            dsc.description, dep.objid
        from pg_catalog.pg_attribute a join pg_catalog.pg_class c on a.attrelid = c.oid
        left outer join pg_catalog.pg_attrdef ad on a.attrelid = ad.adrelid and a.attnum = ad.adnum
        left outer join pg_catalog.pg_description dsc on c.oid = dsc.objoid and a.attnum = dsc.objsubid
        left outer join pg_depend dep on dep.refobjid = a.attrelid and dep.deptype = 'i'
            and dep.refobjsubid = a.attnum and dep.classid = dep.refclassid
        where not a.attisdropped and c.relkind not in ('i', 'I', 'c') and c.relnamespace = %s
        order by c.relname, a.attnum""",
    "constraints": """select c.oid, c.*, t.relname, rt.relnamespace, d.description,
            case when c.contype = 'c' then "substring"(pg_get_constraintdef(c.oid), 7) end
        from pg_catalog.pg_constraint c join pg_catalog.pg_class t on t.oid = c.conrelid
        left outer join pg_catalog.pg_class rt on rt.oid = c.confrelid
        left outer join pg_catalog.pg_description d on d.objoid = c.oid and d.objsubid = 0
            and d.classoid = 'pg_constraint'::regclass
        where t.relnamespace = %s order by c.oid""",
    "indexes": """select i.*, i.indkey as keys, c.relname, c.relam, tc.relname, dsc.description,
            pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr,
            pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr,
            pg_catalog.pg_relation_size(i.indexrelid) > 0, pg_catalog.pg_stat_get_numscans(i.indexrelid)
        from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
        join pg_catalog.pg_class tc on tc.oid = i.indrelid
        left outer join pg_catalog.pg_description dsc on i.indexrelid = dsc.objoid
        where c.relnamespace = %s order by tc.relname, c.relname""",
    "procedures": """select p.oid, p.*, d.description,
            pg_catalog.pg_get_expr(p.proargdefaults, 0), pg_catalog.pg_get_functiondef(p.oid)
        from pg_catalog.pg_proc p left outer join pg_catalog.pg_description d on d.objoid = p.oid
        where p.pronamespace = %s and p.prokind <> 'a' order by p.proname""",
    "aggregates": """select p.oid, p.proname, a.* from pg_catalog.pg_proc p
        join pg_catalog.pg_aggregate a on a.aggfnoid = p.oid where p.pronamespace = %s""",
    "sequences": """select c.relname, s.* from pg_catalog.pg_class c
        join pg_catalog.pg_sequence s on s.seqrelid = c.oid where c.relnamespace = %s""",
    "collations": "select c.oid, c.* from pg_catalog.pg_collation c where c.collnamespace = %s",
    "operators": """select o.oprname, o.oprleft::regtype, o.oprright::regtype, o.oprcode
        from pg_catalog.pg_operator o where o.oprnamespace = %s""",
    "sizes": """select c.oid, pg_catalog.pg_total_relation_size(c.oid) >= 0,
            pg_catalog.pg_relation_size(c.oid) >= 0, c.reltuples::bigint
        from pg_class c where c.relnamespace = %s and c.relkind in ('r', 'p') order by c.oid""",
    "what an assistant finds": """select pc.oid, pc.relname, pc.relnamespace, pc.relkind
        from pg_catalog.pg_class pc where pc.relkind in ('r', 'v', 'm') and pc.relname ilike '%%da%%'
            and pc.relnamespace in (%s) order by pc.relname limit 200""",
}
OF_TABLE = {
    "triggers": """select t.oid, t.*, p.pronamespace, p.proname, d.description,
            pg_catalog.pg_get_triggerdef(t.oid, true)
        from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
        left outer join pg_catalog.pg_description d on d.objoid = t.oid
        where t.tgrelid = %s and not t.tgisinternal""",
    "rules": """select r.oid, r.*, pg_catalog.pg_get_ruledef(r.oid, true)
        from pg_catalog.pg_rewrite r where r.ev_class = %s""",
    "policies": "select pol.polname, pg_catalog.pg_get_expr(pol.polqual, pol.polrelid) "
                "from pg_catalog.pg_policy pol where pol.polrelid = %s",
    "parents": "select i.*, c.relnamespace from pg_catalog.pg_inherits i, pg_catalog.pg_class c "
               "where i.inhrelid = %s and c.oid = i.inhparent order by i.inhseqno",
    "dependents": """select distinct dep.deptype, dep.classid, dep.objid, cl.relkind, cl.relname
        from pg_catalog.pg_depend dep left join pg_catalog.pg_class cl on dep.objid = cl.oid
        where dep.refobjid = %s order by 1, 2, 3""",
    "permissions": """select x.grantor::regrole::text, x.grantee, x.privilege_type, x.is_grantable
        from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) x where c.oid = %s""",
    "definition": "select pg_catalog.pg_get_viewdef(c.oid, true) from pg_catalog.pg_class c "
                  "where c.oid = %s and c.relkind in ('v', 'm')",
    "statistics": "select * from pg_catalog.pg_stat_all_tables where relid = %s",
}


@pytest.fixture
def both(warehouse):  # noqa: F811
    """The tool's connection and the owner's, which sees the same."""
    with warehouse.gateway.connect(warehouse.tool, "warehouse") as tool, warehouse.owner() as owner:
        yield tool, owner


def same(both, sql, *parameters):
    tool, owner = both
    # Both are asked by numbers: the third time, a prepared statement asks.
    for _ in range(2):
        answers = [one.execute(sql, parameters or None, prepare=True) for one in (tool, owner)]
        found, expected = [answer.fetchall() if answer.description else answer.statusmessage
                           for answer in answers]
        assert found == expected


def test_dbeaver_connects(both):
    for sql in ON_CONNECT:
        same(both, sql)


@pytest.mark.parametrize("what", DATABASE)
def test_dbeaver_shows_the_database(both, what):
    same(both, DATABASE[what])


@pytest.mark.parametrize("what", IN_SCHEMA)
def test_dbeaver_shows_a_schema(both, what):
    (schema,) = both[1].execute(SCHEMA).fetchone()
    same(both, IN_SCHEMA[what], schema)


@pytest.mark.parametrize("what", OF_TABLE)
def test_dbeaver_shows_a_table(both, what):
    (table,) = both[1].execute(TABLE).fetchone()
    same(both, OF_TABLE[what], table)


def test_its_list_of_sessions_stays_closed(both):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="corral:"):
        both[0].execute("select sa.* from pg_catalog.pg_stat_activity sa")
