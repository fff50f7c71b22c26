"""The record: written first, chained, verified offline, and found whole after a crash."""

import os
import pathlib
import re
import shutil
import subprocess
import threading

import psycopg
import pytest

from harness.gateway import Gateway
from harness.shop import Shop
from harness.waiting import wait_until

OK = re.compile(r"ok: (\d+) entries, (\d+) sessions, (\d+) checkpoints")


def verify(shop, folder=None, expect=0):
    return shop.gateway.run("audit", "verify", folder or shop.gateway.data / "record",
                            "--key", shop.gateway.data / "record.pub", env={"PATH": "/usr/bin"},
                            expect=expect)


def segments(folder):
    return sorted(f for f in pathlib.Path(folder).rglob("*") if f.is_file() and f.stat().st_size)


def test_statements_are_found_by_text_table_and_run(shop):
    run = shop.run("searched")
    with shop.connect("orders-db", run["token"]) as connection:
        connection.execute("select total from orders where id = 4")
    events = shop.gateway.events("--run", run["run_id"])
    names = [event["event"] for event in events]
    for name in ("run.started", "session.opened", "statement.decided", "statement.completed"):
        assert name in names, names
    decided = next(e for e in events if e["event"] == "statement.decided")
    assert decided["statement"] == "select total from orders where id = 4"
    assert decided["outcome"] == "allow" and "read" in decided["effects"]
    assert {"seq", "id", "time", "gateway", "session", "target", "principal"} <= set(decided)
    completed = next(e for e in events if e["event"] == "statement.completed")
    assert completed["rows"] == 1 and completed["code"] == "00000"
    assert "duration_us" in completed
    by_text = shop.gateway.events("--text", "where id = 4")
    assert any(event["id"] == decided["id"] for event in by_text)


def test_denials_are_recorded_with_their_decision(shop):
    token = shop.login("frances")
    with shop.connect("orders-db", token) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            connection.execute("delete from orders where id = 1")
    decisions = [e for e in shop.gateway.events("--text", "delete from orders where id = 1")
                 if e["event"] == "statement.decided"]
    assert decisions and decisions[-1]["outcome"] == "deny"
    assert decisions[-1]["decision"] in str(caught.value)
    explained = shop.gateway.run("policy", "explain", decisions[-1]["decision"])
    assert "delete from orders where id = 1" in explained.stdout


def test_a_session_and_a_whole_tree_replay(shop):
    root = shop.run("tree")
    leaf = shop.gateway.json("runs", "start", "--name", "leaf", token=root["token"])
    for run, number in ((root, 1), (leaf, 2)):
        with shop.connect("orders-db", run["token"]) as connection:
            connection.execute(f"select {number} as in_the_replay")
    text = shop.gateway.run("replay", root["run_id"]).stdout
    assert "select 1 as in_the_replay" in text and "select 2 as in_the_replay" in text
    assert "leaf" in text
    session = next(e["session"] for e in shop.gateway.events("--run", leaf["run_id"])
                   if e["event"] == "session.opened")
    one = shop.gateway.run("replay", session).stdout
    assert "select 2 as in_the_replay" in one and "select 1 as" not in one


def test_the_record_verifies_offline(shop, token):
    with shop.connect("plain-db", token) as connection:
        connection.execute("select 1")
    match = OK.search(verify(shop).stdout)
    assert match and int(match[1]) > 0 and int(match[2]) > 0


def test_every_change_to_the_record_is_found(own_shop):
    for n in range(3):
        with own_shop.connect("plain-db") as connection:
            connection.execute(f"select 'entry number {n}'")
    own_shop.gateway.stop()
    record = own_shop.gateway.data / "record"
    verify(own_shop)
    files = segments(record)
    assert files
    copy = own_shop.gateway.folder / "copy"

    def damaged(change):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(record, copy)
        change(copy)
        result = verify(own_shop, copy, expect=None)
        return result.returncode, result.stdout + result.stderr

    def edit_text(folder):
        changed = 0
        for file in segments(folder):
            data = file.read_bytes()
            if b"entry number 1" in data:
                file.write_bytes(data.replace(b"entry number 1", b"entry number 7"))
                changed += 1
        assert changed

    code, text = damaged(edit_text)
    assert code == 1 and re.search(r"session|sequence|file|offset", text), text

    for file in files:
        relative = file.relative_to(record)
        size = file.stat().st_size
        for position in (size // 3, size // 2, size - 1):
            def flip(folder, position=position):
                data = bytearray((folder / relative).read_bytes())
                data[position] ^= 1
                (folder / relative).write_bytes(data)

            code, text = damaged(flip)
            assert code == 1, f"a flipped bit at {relative}:{position} passes: {text}"

        code, _ = damaged(lambda folder: (folder / relative).unlink())
        assert code == 1, f"{relative} can vanish"


def test_no_acknowledged_statement_is_missing_after_a_crash(own_shop):
    acknowledged, lock = [], threading.Lock()
    stop = threading.Event()

    def work(worker, token):
        try:
            with own_shop.connect("plain-db", token) as connection:
                for n in range(100000):
                    if stop.is_set():
                        return
                    text = f"select 'worker {worker} statement {n}'"
                    connection.execute(text)
                    with lock:
                        acknowledged.append(text)
        except psycopg.Error:
            pass

    token = own_shop.run("crash")["token"]
    threads = [threading.Thread(target=work, args=(n, token)) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(acknowledged) > 200, "statements run", 30)
    own_shop.gateway.kill_hard()
    stop.set()
    for thread in threads:
        thread.join(20)

    own_shop.gateway.start()
    events = own_shop.gateway.run("audit", "export").stdout
    missing = [text for text in acknowledged if text not in events]
    assert not missing, f"{len(missing)} of {len(acknowledged)}: {missing[:3]}"
    assert '"reason":"lost"' in events.replace(" ", "")
    verify(own_shop)
    with own_shop.connect("plain-db") as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_torn_tail_is_cut_at_the_next_start(own_shop):
    # The session is open: what was closed is never written again, and a change there is tampering.
    connection = own_shop.connect("plain-db")
    connection.execute("select 'before the tear'")
    own_shop.gateway.kill_hard()
    connection.close()
    for file in segments(own_shop.gateway.data / "record"):
        with open(file, "ab") as tail:
            tail.write(os.urandom(37))
    own_shop.gateway.start()
    assert "before the tear" in own_shop.gateway.run("audit", "export").stdout
    verify(own_shop)


def test_statements_are_refused_while_the_record_is_full(server):
    with Shop(server) as shop:
        shop.gateway.stop()
        record = shop.gateway.data / "record"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", record], capture_output=True,
            stdin=subprocess.DEVNULL) if os.geteuid() == 0 else None
        if mounted is None or mounted.returncode != 0:
            pytest.skip("a small file system cannot be mounted here: needs root and CAP_SYS_ADMIN")
        try:
            fill_and_free(shop, record)
        finally:
            shop.gateway.close()
            subprocess.run(["umount", "-l", record], check=False)


def fill_and_free(shop, record):
    # The record starts anew on the small device, so the store's view of it is new as well.
    shop.gateway.start()
    with shop.owner() as direct, shop.connect("plain-db") as connection:
        direct.execute("create table forwarded (n int)")
        filler = record / "filler"
        free = shutil.disk_usage(record).free
        filler.write_bytes(b"x" * max(0, free - 16384))
        state, ran = None, 0
        for n in range(2000):
            try:
                connection.execute(f"insert into forwarded values ({n}) -- {'x' * 200}")
                ran += 1
            except psycopg.Error as error:
                state = error.sqlstate
                break
        assert state == "58030"
        assert direct.execute("select count(*) from forwarded").fetchone() == (ran,)
        filler.unlink()
        wait_until(lambda: works(connection), "the session goes on when there is space")


def works(connection):
    try:
        return connection.execute("select 1").fetchone() == (1,)
    except psycopg.errors.IoError:
        return False


def test_secrets_are_nowhere_on_disk_or_in_the_log(own_shop):
    run = own_shop.run("secretive")
    with own_shop.connect("orders-db", run["token"]) as connection:
        connection.execute("select 1")
    own_shop.gateway.json("get", "target", "orders-db")
    own_shop.gateway.stop()
    secrets = [own_shop.env[key] for key in
               ("TARGET_PASSWORD", "NIGHTLY_SECRET", "ADA_PASSWORD")]
    secrets += [run["token"], own_shop.workload()]
    for file in list(own_shop.gateway.data.rglob("*")) + [own_shop.gateway.log_file]:
        if not file.is_file():
            continue
        data = file.read_bytes()
        for secret in secrets:
            assert secret.encode() not in data, f"a secret is in {file.name}"


def test_shown_resources_hold_no_secret(shop):
    shown = shop.gateway.run("get", "target", "orders-db", "-o", "yaml").stdout
    assert shop.env["TARGET_PASSWORD"] not in shown and "svc_agents" in shown


def test_a_second_gateway_does_not_share_a_data_directory(own_shop):
    second = Gateway(data=own_shop.gateway.data, start=False)
    with pytest.raises(AssertionError, match="exited"):
        second.start()
    with own_shop.connect("plain-db") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    shutil.rmtree(second.folder, ignore_errors=True)
