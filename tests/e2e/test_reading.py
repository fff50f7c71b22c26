"""Clients that do not speak UTF-8, or read backslashes as escapes: decided as the server reads them."""

import pathlib
import struct

import psycopg
import pytest

from harness.wire import Wire, errors, message, states, text

TABLE = (pathlib.Path(__file__).resolve().parents[2]
         / "crates/protocol-postgres/src/encoding.txt")


@pytest.fixture
def wire(shop, token):
    with Wire(shop.gateway.address()) as connection:
        connection.login(token, "plain-db")
        yield connection


def rows(answer):
    return [body for kind, body in answer if kind == b"D"]


def texts_of(shop, token_text):
    """Texts of decided statements that hold this."""
    events = shop.gateway.events("--event", "statement.decided")
    return [str(event["statement"]) for event in events if token_text in str(event["statement"])]


def test_the_tables_are_those_of_the_server(shop):
    lines = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 27
    with shop.server.connect() as connection:
        connection.execute(
            "create function pg_temp.letter(byte int, encoding text) returns text "
            "language plpgsql as $$ begin "
            "return convert_from(set_byte('\\x00'::bytea, 0, byte), encoding); "
            "exception when others then return null; end $$")
        for encoding, *letters in lines:
            found = connection.execute(
                "select coalesce(ascii(pg_temp.letter(byte, %s)), 0) "
                "from generate_series(128, 255) byte order by byte", (encoding,)).fetchall()
            assert [int(digits, 16) for digits in letters] == [code for (code,) in found], encoding


@pytest.mark.parametrize("encoding", ["LATIN1", "latin9", "WIN1252", "KOI8R", "EUC_JP", "SJIS"])
def test_values_arrive_in_the_clients_encoding(shop, token, encoding):
    word = {"KOI8R": "привет", "EUC_JP": "日本", "SJIS": "日本ソ"}.get(encoding, "déjà")
    with shop.connect("plain-db", token, client_encoding=encoding) as through, \
            shop.owner(client_encoding=encoding) as direct:
        for connection in (through, direct):
            assert connection.execute("select %s::text", (word,)).fetchone() == (word,)
        reported = [connection.info.parameter_status("client_encoding")
                    for connection in (through, direct)]
        assert reported[0] == reported[1] != "UTF8"


def test_a_statement_is_decided_and_recorded_as_the_server_reads_it(shop, token):
    with shop.owner() as owner:
        owner.execute('create table "schätze" (id int, "größe" text)')
    with shop.connect("plain-db", token) as connection:
        connection.execute("set client_encoding to 'latin1'")
        connection.execute("insert into \"schätze\" values (1, 'groß')")
        assert connection.execute('select "größe" from "schätze"').fetchall() == [("groß",)]
        connection.execute("reset client_encoding")
        assert connection.execute('select "größe" from "schätze"').fetchall() == [("groß",)]
    assert len(texts_of(shop, 'select "größe" from "schätze"')) == 2


@pytest.mark.parametrize("name", ["utf8", "UTF-8", "unicode", "SQL_ASCII"])
def test_all_names_of_utf8_are_utf8(shop, token, name):
    with shop.connect("plain-db", token) as connection:
        connection.execute(f"set client_encoding to '{name}'")
        row = connection.execute(b"select '\xe6\x97\xa5'::bytea, '\xe6\x97\xa5'").fetchone()
        assert row[0] == "日".encode() and row[1] in ("日", "日".encode())


def test_a_change_is_taken_back_with_its_transaction(shop, token):
    with shop.connect("plain-db", token, autocommit=False) as connection:
        connection.execute("set client_encoding to 'latin1'")
        assert connection.execute("select 'é'").fetchone() == ("é",)
        connection.rollback()
        assert connection.execute("select 'é'").fetchone() == ("é",)
        assert connection.info.parameter_status("client_encoding") == "UTF8"


def test_letters_that_end_in_a_backslash_are_refused_and_the_session_goes_on(wire):
    wire.query("set client_encoding to 'sjis'")
    # The server reads one literal here; whoever reads bytes as they are reads two statements.
    answer = wire.query(b"select '\x83\x5c'; select 'x'")
    assert states(answer) == ["22021"] and not rows(answer)
    assert "set client_encoding to UTF8" in errors(answer)[0]["M"]
    assert not states(wire.query("select 1"))
    # As a parameter it is no text of a statement.
    wire.send(message(b"P", text("") + text("select $1::text") + struct.pack(">h", 0))
              + message(b"B", b"\0\0" + struct.pack(">hhi", 0, 1, 2) + b"\x83\x5c"
                        + struct.pack(">h", 0))
              + message(b"E", text("") + struct.pack(">i", 0)) + message(b"S"))
    [row] = rows(wire.read_until(b"Z"))
    assert row.endswith(b"\x83\x5c")


def test_pipelined_texts_are_read_as_the_server_reads_them(wire):
    def parse(sql):
        return (message(b"P", text("") + sql + b"\0" + struct.pack(">h", 0))
                + message(b"B", b"\0\0" + struct.pack(">hhh", 0, 0, 0))
                + message(b"E", text("") + struct.pack(">i", 0)))

    wire.send(parse(b"set client_encoding to 'latin1'") + parse(b"select '\xe9'") + message(b"S"))
    answer = wire.read_until(b"Z")
    assert not states(answer)
    assert rows(answer)[0].endswith(b"\xe9")


def test_names_that_the_encoding_lacks_do_not_fail_the_clients_transaction(shop, token):
    with shop.owner() as owner:
        owner.execute('create table "日本" (id int)')
    with shop.connect("plain-db", token, autocommit=False) as connection:
        connection.execute("set client_encoding to 'latin1'")
        connection.execute("create temp table mine (a int)")
        connection.execute("insert into mine values (1)")
        assert connection.execute("select count(*) from mine").fetchone() == (1,)


@pytest.mark.parametrize("how", ["startup", "set", "set_config"])
def test_backslashes_are_what_the_session_makes_of_them(shop, token, how):
    options = "-c standard_conforming_strings=off" if how == "startup" else ""
    with shop.connect("plain-db", token, options=options) as connection:
        if how == "set":
            connection.execute("set standard_conforming_strings = off")
        if how == "set_config":
            connection.execute("select set_config('standard_conforming_strings', 'off', false)")
        # One literal with them off; two statements otherwise, which cannot be prepared together.
        [(value,)] = connection.execute(r"select '\'; select \''", prepare=True).fetchall()
        assert value == "'; select '"
        connection.execute("set standard_conforming_strings = on")
        assert connection.execute(r"select '\'").fetchall() == [("\\",)]


def test_a_session_with_masked_columns_speaks_utf8(shop, token):
    with shop.connect("orders-db", token) as connection:
        for change in ("set client_encoding to 'latin1'", "set standard_conforming_strings = off",
                       "select set_config('client_encoding', 'latin1', false)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(change)
        connection.execute("set client_encoding to 'utf-8'")
        assert connection.execute("select ssn from customers limit 1").fetchone() == ("****",)
    with shop.connect("orders-db", token, client_encoding="latin1") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select name from customers")
