"""The pages on agent frameworks: their code is that of the examples, and the part that is Corral's
works. The frameworks themselves run in tests/agents."""

import ast
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "integrations").glob("*.md"))
EXAMPLES = ROOT / "examples" / "agents"
# A link to an example, and the block that shows it.
SHOWN = re.compile(r"^\[[\w.-]+\]\(\.\./\.\./(examples/[\w./-]+)\)[^\n]*:\n\n```\w+\n(.*?)^```$",
                   re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_the_examples_as_they_are(page):
    text = page.read_text()
    for path, shown in SHOWN.findall(text):
        assert shown == (ROOT / path).read_text(), f"{page.name} shows another {path}"
    for code in PYTHON.findall(text):
        ast.parse(code)


def test_each_example_is_shown_on_a_page():
    shown = {path for page in PAGES for path, _ in SHOWN.findall(page.read_text())}
    planners = {f"examples/agents/{file.name}" for file in EXAMPLES.glob("*_planner.py")}
    assert len(planners) == 3 and planners <= shown
    jobs = {f"examples/ci/{file.name}" for file in (ROOT / "examples" / "ci").glob("*")}
    assert len(jobs) == 4 and jobs - {"examples/ci/trust.yaml"} <= shown
    assert "examples/agents/corral_runs.py" in shown


EXECUTORS = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
from corral_runs import Refused, child_run
from executor_tools import run_sql

with child_run("executor", ["orders-db"], purpose="two\\nlines") as run:
    print(repr(run_sql(run, "orders-db", "select name, ssn from customers order by id limit 1")))
    print(repr(run_sql(run, "orders-db", "select 1 from customers where ssn = '1'")))
    print(repr(run_sql(run, "plain-db", "select 'beyond'")))
print(repr(run_sql(run, "orders-db", "select 'afterwards'")))
try:
    with child_run("wide", ["plain-db"], purpose="more than the planner has"):
        print("let in")
except Refused as refusal:
    print("refused:", refusal)
"""


def test_an_executor_within_the_planners_process_is_a_run_of_its_own(shop):
    result = shop.gateway.run("run", "--name", "in-one-process", "--target", "orders-db", "--",
                              sys.executable, "-c", EXECUTORS, token=shop.workload())
    masked, guessed, beyond, afterwards, wider = result.stdout.splitlines()
    assert ast.literal_eval(masked) == "SELECT 1\n('Ada', '****')"
    assert ast.literal_eval(guessed).startswith("failed: corral: masking:")
    assert ast.literal_eval(beyond).startswith("failed:"), beyond
    assert ast.literal_eval(afterwards).startswith("failed:"), afterwards
    assert wider.startswith("refused:") and "plain-db" in wider
    opened = [event for event in shop.gateway.events("--event", "session.opened")
              if event["run_path"].startswith("in-one-process")]
    # One for each of the two statements that orders-db was asked.
    assert [(event["run_path"], event["target"]) for event in opened] == [
        ("in-one-process/executor", "orders-db")] * 2
    (root,) = [run for run in shop.gateway.json("runs", "tree")
               if run["name"] == "in-one-process"]
    assert [(child["name"], child["end_reason"]) for child in root["children"]] == [
        ("executor", "done")]
