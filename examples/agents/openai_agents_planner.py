"""A planner in the OpenAI Agents SDK that hands work to a database executor and a host executor.

Each executor is a run of its own below the planner's. Start it with

    corral run --name planner --target orders-db --target web-1 -- \
        python3 openai_agents_planner.py "restock report"
"""

import asyncio
import os
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from corral_runs import Refused, child_run
from executor_tools import run_command, run_sql
from openai import AsyncOpenAI

MODEL = OpenAIChatCompletionsModel(os.environ.get("MODEL", "gpt-5-mini"), AsyncOpenAI())
LOGIN = os.environ.get("EXECUTOR_LOGIN", "deploy")


@function_tool
async def ask_database(target: str, task: str) -> str:
    """Hand a task to a database executor that may use one target."""
    try:
        with child_run("database", [target], purpose=task) as run:

            @function_tool(name_override="run_sql")
            async def sql(statement: str) -> str:
                """Run one SQL statement."""
                return await asyncio.to_thread(run_sql, run, target, statement)

            executor = Agent("database", model=MODEL, tools=[sql],
                             instructions="You are the database executor. Use SQL.")
            return (await Runner.run(executor, task)).final_output
    except Refused as refusal:
        return f"refused: {refusal}"


@function_tool
async def ask_host(target: str, task: str) -> str:
    """Hand a task to a host executor that may use one target."""
    try:
        with child_run("host", [target], purpose=task) as run:

            @function_tool(name_override="run_command")
            async def shell(command: str) -> str:
                """Run one command on the host."""
                return await asyncio.to_thread(run_command, run, target, LOGIN, command)

            executor = Agent("host", model=MODEL, tools=[shell],
                             instructions="You are the host executor. Use commands.")
            return (await Runner.run(executor, task)).final_output
    except Refused as refusal:
        return f"refused: {refusal}"


if __name__ == "__main__":
    planner = Agent("planner", model=MODEL, tools=[ask_database, ask_host],
                    instructions="You are the planner. Hand work to executors.")
    print(Runner.run_sync(planner, sys.argv[1]).final_output)
