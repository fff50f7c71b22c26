"""A planner in pydantic-ai that hands work to a database executor and a host executor.

Each executor is a run of its own below the planner's. Start it with

    corral run --name planner --target orders-db --target web-1 -- \
        python3 pydantic_ai_planner.py "restock report"
"""

import os
import sys

from corral_runs import Refused, Run, child_run
from executor_tools import run_command, run_sql
from pydantic_ai import Agent, RunContext
from pydantic_ai.models.openai import OpenAIChatModel

MODEL = OpenAIChatModel(os.environ.get("MODEL", "gpt-5-mini"))
LOGIN = os.environ.get("EXECUTOR_LOGIN", "deploy")

planner = Agent(MODEL, instructions="You are the planner. Hand work to executors.")
# What an executor depends on is its run and its target: no tool can reach another's.
database = Agent(MODEL, deps_type=tuple[Run, str],
                 instructions="You are the database executor. Use SQL.")
host = Agent(MODEL, deps_type=tuple[Run, str],
             instructions="You are the host executor. Use commands.")


@database.tool(name="run_sql")
def sql(context: RunContext[tuple[Run, str]], statement: str) -> str:
    """Run one SQL statement."""
    return run_sql(*context.deps, statement)


@host.tool(name="run_command")
def shell(context: RunContext[tuple[Run, str]], command: str) -> str:
    """Run one command on the host."""
    run, target = context.deps
    return run_command(run, target, LOGIN, command)


@planner.tool_plain
async def ask_database(target: str, task: str) -> str:
    """Hand a task to a database executor that may use one target."""
    return await hand_to(database, "database", target, task)


@planner.tool_plain
async def ask_host(target: str, task: str) -> str:
    """Hand a task to a host executor that may use one target."""
    return await hand_to(host, "host", target, task)


async def hand_to(executor, name, target, task):
    try:
        with child_run(name, [target], purpose=task) as run:
            return (await executor.run(task, deps=(run, target))).output
    except Refused as refusal:
        return f"refused: {refusal}"


if __name__ == "__main__":
    print(planner.run_sync(sys.argv[1]).output)
