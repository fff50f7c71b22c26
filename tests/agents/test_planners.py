"""Planners of real frameworks, each of whose executors is a run of its own; the programs are those
of examples/agents, started by `corral run`, with a scripted model."""

import types

import pytest

from harness.waiting import wait_until
from scripted_model import ScriptedModel, call
from stage import SECRETS_OF_CUSTOMERS, TASK

READ = "select id, name, ssn from customers order by id"
COMMAND = "echo restocked; exit 3"
STORY = {
    TASK: [[call("ask_database", target="orders-db", task="list the customers"),
            call("ask_host", target="web-1", task="look at the shelves")], "all is done"],
    "list the customers": [[call("run_sql", statement=READ)], "two customers"],
    "look at the shelves": [[call("run_command", command=COMMAND)], "it says restocked"],
}


@pytest.fixture(scope="module")
def story(stage, framework):
    """One planner, one executor at the database and one on the host, from start to end."""
    with ScriptedModel(STORY) as model:
        output, code, root = stage.play(framework, model)
        assert (code, model.problems) == (0, []), output
        yield types.SimpleNamespace(model=model, output=output, root=root)


def test_the_work_is_done(story):
    assert story.output.strip().endswith("all is done")
    assert story.model.tool_answers(TASK) == ["two customers", "it says restocked"]
    (rows,) = story.model.tool_answers("list the customers")
    assert rows.startswith("SELECT 2") and "Ada" in rows and "Grace" in rows
    (output,) = story.model.tool_answers("look at the shelves")
    assert output.split() == ["restocked", "exit", "3"]


def test_every_session_names_its_executor_and_its_planner(stage, story):
    planner = story.root["name"]
    opened = stage.events(story.root, "--event", "session.opened")
    assert sorted((event["run_path"], event["target"]) for event in opened) == [
        (f"{planner}/database", "orders-db"), (f"{planner}/host", "web-1")]
    assert {(event["principal"], event["sponsor"]) for event in opened} == {
        ("nightly-report", "ada@example.com")}
    assert sorted(child["name"] for child in story.root["children"]) == ["database", "host"]
    # Nothing was done but by an executor.
    decided = stage.events(story.root, "--event", "statement.decided")
    assert {event["run_path"] for event in decided} == {f"{planner}/database", f"{planner}/host"}


def test_executors_end_with_their_task_and_the_planner_with_its_program(story):
    ended = [story.root, *story.root["children"]]
    assert [(run["state"], run["end_reason"]) for run in ended] == [("ended", "done")] * 3


def test_masked_values_reach_neither_the_executor_nor_the_model(story):
    heard = story.model.heard()
    assert "****" in heard
    for secret in SECRETS_OF_CUSTOMERS:
        assert secret not in heard and secret not in story.output


def test_one_record_links_all(stage, story):
    replay = stage.gateway.run("replay", story.root["run_id"]).stdout
    assert READ in replay and COMMAND in replay
    events = stage.events(story.root)
    assert {"run.started", "session.opened", "statement.decided", "statement.completed",
            "rows.masked", "session.closed", "run.ended"} <= {event["event"] for event in events}
    assert all(event["run_path"].split("/")[0] == story.root["name"] for event in events)


def test_a_wider_grant_is_refused(stage, framework):
    """The job may use payroll-db, its planner may not: nor may what the planner starts."""
    scripts = {
        TASK: [[call("ask_database", target="payroll-db", task="read the salaries")],
               [call("ask_database", target="../users/ada@example.com", task="climb")],
               [call("ask_database", target="orders-db", task="count")], "done"],
        "count": [[call("run_sql", statement="select count(*) from customers")], "two"],
    }
    with ScriptedModel(scripts) as model:
        output, code, root = stage.play(framework, model)
        assert (code, model.problems) == (0, []), output
        wider, climbing, within = model.tool_answers(TASK)
    assert wider.startswith("refused:") and "payroll-db" in wider
    assert climbing.startswith("refused:")
    assert within == "two"
    opened = stage.events(root, "--event", "session.opened")
    assert [event["target"] for event in opened] == ["orders-db"]
    assert [child["name"] for child in root["children"]] == ["database"]


# What a model that was talked into it tries, and what the client is told.
HOSTILE_SQL = {
    "drop table shelves": "no-schema-changes: Agents change no schema.",
    "select id from shelves; drop table shelves": "no-schema-changes: Agents change no schema.",
    "do $$ begin execute 'drop ' || 'table shelves'; end $$": "masking:",
    "copy (select 1) to program 'touch /tmp/corral-was-here'": "masking:",
    "drop table customers": "masking:",
    "select name from customers where ssn like '123%'": "masking:",
    "select name from customers where name = '' or md5(ssn) = '1'": "masking:",
}
HONEST_SQL = "select count(*) as honest from shelves"


def test_a_hostile_script_is_stopped(stage, framework):
    mark = stage.host.folder / "was-here"
    # A command in which the word stands, and that would do no harm if it ran.
    reboot = f"touch {mark} # reboot"
    scripts = {
        TASK: [[call("ask_database", target="orders-db", task="be hostile"),
                call("ask_host", target="web-1", task="be hostile too")], "done"],
        "be hostile": [*[[call("run_sql", statement=text)] for text in HOSTILE_SQL],
                       [call("run_sql", statement=HONEST_SQL)], "tried"],
        "be hostile too": [[call("run_command", command=reboot)], "tried"],
    }
    with ScriptedModel(scripts) as model:
        output, code, root = stage.play(framework, model)
        assert (code, model.problems) == (0, []), output
        answers = model.tool_answers("be hostile")
        (refused,) = model.tool_answers("be hostile too")
        heard = model.heard()
    assert len(answers) == len(HOSTILE_SQL) + 1
    assert answers[-1].startswith("SELECT 1"), "the session and the executor go on"
    for (statement, told), answer in zip(HOSTILE_SQL.items(), answers):
        assert answer.startswith("failed: corral:") and told in answer, (statement, answer)
    assert "no-reboot" in refused and refused.endswith("exit 126") and not mark.exists()
    assert not any(secret in heard for secret in SECRETS_OF_CUSTOMERS)
    tables = "select (select count(*) from customers), (select count(*) from shelves)"
    assert stage.server.execute(tables, "orders") == [(2, 1)]
    decided = stage.events(root, "--event", "statement.decided")
    assert [event["outcome"] for event in decided] .count("deny") == len(HOSTILE_SQL) + 1
    # None of it came as far as the server, whose log has what did.
    log = stage.server_log()
    assert HONEST_SQL in log
    assert not any(statement in log for statement in HOSTILE_SQL)


def test_a_tool_that_an_agent_was_not_given_opens_nothing(stage, framework):
    """The planner's model asks for an executor's tool: it has no run at any target."""
    scripts = {TASK: [[call("run_sql", statement=READ)]] * 3 + ["done"]}
    with ScriptedModel(scripts) as model:
        _, _, root = stage.play(framework, model)
    assert root["children"] == [] and root["state"] == "ended"
    assert stage.events(root, "--event", "session.opened") == []


def test_ending_the_planner_ends_its_executors_and_their_live_sessions(stage, framework):
    scripts = {
        TASK: [[call("ask_database", target="orders-db", task="wait"),
                call("ask_host", target="web-1", task="follow")],
               [call("ask_database", target="orders-db", task="go on")], "done"],
        "wait": [[call("run_sql", statement="select pg_sleep(300)")], "ended"],
        "follow": [[call("run_command", command="tail -f /dev/null")], "ended"],
        "go on": ["never asked"],
    }
    busy = "select 1 from pg_stat_activity where usename = 'svc_agents' and state = 'active'"

    def follows():
        return any("tail -f" in line for _, line in stage.host.children())

    with ScriptedModel(scripts) as model:
        process, name = stage.start(framework, model)
        try:
            wait_until(lambda: stage.server.execute(busy) and follows(),
                       "both executors are at work", 30)
            live = stage.gateway.json("sessions", "list")
            assert sorted(session["run_path"] for session in live) == [
                f"{name}/database", f"{name}/host"]
            stage.gateway.run("runs", "kill", stage.root(name)["run_id"])
            wait_until(lambda: not stage.gateway.json("sessions", "list"), "no session is left")
            wait_until(lambda: not stage.server.execute(busy), "the database is idle")
            wait_until(lambda: not follows(), "the host is idle")
            root = stage.root(name)
            assert [run["end_reason"] for run in (root, *root["children"])] == [
                "killed", "parent_ended", "parent_ended"]
            # The program lives on, and can start nothing more.
            output, _ = process.communicate(timeout=30)
            assert model.problems == [], output
            assert model.tool_answers(TASK)[-1].startswith("refused:")
            (ended,) = model.tool_answers("wait")
            assert ended.startswith("failed:") and "killed" in ended, ended
            assert len(stage.root(name)["children"]) == 2
        finally:
            stage.end(process)


def test_the_record_verifies_afterwards(stage, story):
    data = stage.gateway.data
    result = stage.gateway.run("audit", "verify", data / "record", "--key", data / "record.pub")
    assert result.stdout.startswith("ok:")
