#!/usr/bin/env python3
"""A planner, as an agent framework would run one: it hands each task to an executor of its own.

It reads its plan a line at a time (`NAME TARGET TASK`), starts a process for each, and keeps what it
printed and how it ended in files. It knows nothing of Corral but the command `corral run`, which
makes every executor a run below the planner's own.
"""

import os
import pathlib
import subprocess
import sys
import threading

OUT = pathlib.Path(os.environ["DEMO_OUT"])
EXECUTOR = pathlib.Path(__file__).with_name("executor.py")


def execute(name, target, task):
    with open(OUT / f"{name}.out", "wb") as output:
        code = subprocess.call(
            ["corral", "run", "--name", name, "--target", target, "--purpose", task, "--",
             sys.executable, EXECUTOR, task],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    # The name appears with the whole text in it: who waits for the file reads it at once.
    partial = OUT / f"{name}.partial"
    partial.write_text(str(code))
    partial.rename(OUT / f"{name}.done")


workers = []
for line in sys.stdin:
    worker = threading.Thread(target=execute, args=line.split())
    worker.start()
    workers.append(worker)
for worker in workers:
    worker.join()
