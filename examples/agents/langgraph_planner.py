"""A planner in LangGraph that hands work to a database executor and a host executor.

Each executor is a run of its own below the planner's. Start it with

    corral run --name planner --target orders-db --target web-1 -- \
        python3 langgraph_planner.py "restock report"
"""

import os
import sys

from corral_runs import Refused, child_run
from executor_tools import run_command, run_sql
from langchain_core.messages import SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

MODEL = os.environ.get("MODEL", "gpt-5-mini")
LOGIN = os.environ.get("EXECUTOR_LOGIN", "deploy")


def agent(instructions, tools):
    """A model that uses tools until it has an answer."""
    model = ChatOpenAI(model=MODEL).bind_tools(tools)

    def ask_model(state):
        return {"messages": [model.invoke([SystemMessage(instructions), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", ask_model)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile()


def answer(compiled, task):
    return compiled.invoke({"messages": [("user", task)]})["messages"][-1].text


@tool
def ask_database(target: str, task: str) -> str:
    """Hand a task to a database executor that may use one target."""
    try:
        with child_run("database", [target], purpose=task) as run:

            @tool("run_sql")
            def sql(statement: str) -> str:
                """Run one SQL statement."""
                return run_sql(run, target, statement)

            return answer(agent("You are the database executor. Use SQL.", [sql]), task)
    except Refused as refusal:
        return f"refused: {refusal}"


@tool
def ask_host(target: str, task: str) -> str:
    """Hand a task to a host executor that may use one target."""
    try:
        with child_run("host", [target], purpose=task) as run:

            @tool("run_command")
            def shell(command: str) -> str:
                """Run one command on the host."""
                return run_command(run, target, LOGIN, command)

            return answer(agent("You are the host executor. Use commands.", [shell]), task)
    except Refused as refusal:
        return f"refused: {refusal}"


if __name__ == "__main__":
    planner = agent("You are the planner. Hand work to executors.", [ask_database, ask_host])
    print(answer(planner, sys.argv[1]))
