"""The five minutes of the README, as they are written there."""

import pathlib
import re
import subprocess

import pytest

from harness.gateway import COMMAND_DEADLINE_S, Gateway, binary
from harness.waiting import wait_until

README = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
PASSWORDS = {"ORDERS_PASSWORD": "orders", "ADA_PASSWORD": "ada", "GRACE_PASSWORD": "grace"}


def blocks(kind):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for found_kind, text in found if found_kind == kind]


@pytest.fixture
def tour(server):
    """A gateway in `./gate` and the README's manifest beside it."""
    # What `psql -h 127.0.0.1 -U postgres` is given there.
    (script,) = re.findall(r"<<'SQL'\n(.*?)^SQL$", README, re.MULTILINE | re.DOTALL)
    subprocess.run(["psql", "-X", "-v", "ON_ERROR_STOP=1", server.dsn()], input=script, text=True,
                   check=True, stdout=subprocess.DEVNULL)
    gateway = Gateway(start=False)
    gateway.data = gateway.folder / "gate"
    (manifest,) = blocks("yaml")
    (gateway.folder / "shop.yaml").write_text(
        manifest.replace("127.0.0.1:5432", f"127.0.0.1:{server.port}"))
    try:
        yield gateway.start()
    finally:
        gateway.close()
        server.execute("drop database orders with (force)")
        server.execute("drop role svc_agents")


def test_the_tour_works_as_written(tour):
    commands = [line.split("#")[0].strip() for block in blocks("") for line in block.splitlines()
                if line.startswith("corral ")]
    assert len(commands) >= 9, commands

    def shell(start, who="ada", **fill):
        """The README's command that starts so, in one person's account."""
        command = next(line for line in commands if line.startswith(start))
        commands.remove(command)
        for word, value in fill.items():
            command = command.replace(word, value)
        env = tour._clean_env() | PASSWORDS | {"XDG_CONFIG_HOME": str(tour.folder / who)}
        env["PATH"] = f"{binary().parent}:{env['PATH']}"
        return subprocess.Popen(
            ["bash", "-c", command], text=True, cwd=tour.folder, env=env, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def finish(process):
        out, error = process.communicate(timeout=COMMAND_DEADLINE_S)
        assert process.returncode == 0, (process.args, out, error)
        return out

    finish(shell("corral --data ./gate apply"))
    finish(shell("corral --data ./gate login --user ada"))
    masked = finish(shell("corral run --name try --target orders-db -- psql -c 'select"))
    assert "Ada" in masked and "123-45-6789" not in masked
    waiting = shell("corral run --name try --target orders-db -- psql -c 'alter")
    finish(shell("corral --data ./gate login --user grace", "grace"))
    (approval,) = wait_until(lambda: tour.json("approvals", "list"), "the statement waits")
    assert approval["id"] in finish(shell("corral approvals list", "grace"))
    finish(shell("corral approvals approve", "grace", ID=approval["id"]))
    assert "ALTER TABLE" in finish(waiting)
    assert "try" in finish(shell("corral --data ./gate runs tree"))
    replay = finish(shell("corral --data ./gate replay", RUN_ID=approval["run_id"]))
    assert "alter table orders" in replay
    assert finish(shell("corral audit verify")).startswith("ok:")
    assert commands == ["corral up --data ./gate"]
