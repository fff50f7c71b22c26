"""npm's pg through the gateway sees what it sees directly."""

import json
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("CORRAL_CACHE") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "corral")
MODULES = CACHE / "node" / "node_modules"


def seen(env):
    assert shutil.which("node") and (MODULES / "pg").exists(), \
        "npm's pg is missing; run .ci/setup clients"
    done = subprocess.run(["node", HERE / "node" / "pg.js"], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=60, env=env | {"NODE_PATH": str(MODULES)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_node_application_sees_no_difference(shop, token):
    through = seen(shop.gateway.psql_env(token, "plain-db"))
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    direct = seen(plain | {
        "PGHOST": "127.0.0.1", "PGPORT": str(shop.server.port), "PGUSER": shop.username,
        "PGPASSWORD": shop.env["TARGET_PASSWORD"], "PGDATABASE": shop.plain})
    assert through == direct
    assert through["process"] and through["cancelled"] == "57014"
    assert through["notification"] == ["news", "hello", True]
    assert through["streamed"] == 12502500 and len(through["rows"]) == 20
