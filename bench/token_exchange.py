#!/usr/bin/env python3
"""How long a token exchange takes at a fixed rate, on SQLite: root runs of jobs, and children.

    bench/token_exchange.py [--rate 200] [--seconds 20] [--json FILE]

Requests are sent at fixed times over connections that stay open, so that a slow answer slows no
other request while one of them is free. Times are of the whole request, TLS and this client
included.
"""

import argparse
import http.client
import json
import pathlib
import queue
import ssl
import sys
import threading
import time
import urllib.parse
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

from harness.gateway import Gateway  # noqa: E402
from harness.issuer import AUDIENCE, Issuer  # noqa: E402
from harness.token_service import EXCHANGE, TYPES  # noqa: E402

CONNECTIONS = 16
GOAL_MS = 5.0
RATE_PER_S = 200
# Children of one run are limited; each root of the benchmark has fewer.
CHILDREN_EACH = 200

MANIFEST = """
kind: User
name: ada@example.com
accounts: {{github: "1001"}}
---
kind: Workload
name: jobs
groups: [agents]
trust: [{{platform: github, issuer: "{issuer}", audience: {audience}, match: {{repository: r}}}}]
"""


def form(token, kind):
    return urllib.parse.urlencode({
        "grant_type": EXCHANGE, "subject_token": token, "subject_token_type": TYPES + kind,
        "authorization_details": json.dumps([{"type": "corral_run", "name": "bench"}]),
    })


def job(issuer):
    return issuer.token(repository="r", actor="ada", actor_id="1001", event_name="push",
                        run_id=uuid.uuid4().hex, run_attempt="1", check_run_id=uuid.uuid4().hex)


class Load:
    """Requests at fixed times."""

    def __init__(self, gateway):
        self.address = gateway.address("https")
        self.context = ssl.create_default_context(cafile=gateway.ready["ca_file"])

    def connect(self):
        connection = http.client.HTTPSConnection(*self.address, context=self.context, timeout=30)
        connection.connect()
        return connection

    def post(self, connection, body):
        connection.request("POST", "/oauth2/token", body,
                           {"Content-Type": "application/x-www-form-urlencoded"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {text[:200]!r}")
        return json.loads(text)

    def run(self, bodies, rate):
        """The milliseconds that each request took, sorted, and the rate that was reached."""
        due = queue.Queue()
        took, failures = [], []
        start = time.perf_counter() + 0.5
        for number, body in enumerate(bodies):
            due.put((start + number / rate, body))

        def work():
            connection = self.connect()
            while True:
                try:
                    at, body = due.get_nowait()
                except queue.Empty:
                    connection.close()
                    return
                wait = at - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                sent = time.perf_counter()
                try:
                    self.post(connection, body)
                except RuntimeError as error:
                    failures.append(str(error))
                took.append((time.perf_counter() - sent) * 1000)

        workers = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failures:
            raise RuntimeError(f"{len(failures)} of {len(bodies)} failed: {failures[0]}")
        return sorted(took), len(bodies) / (time.perf_counter() - start)


def measure(quick):
    """As the other figures of runs are asked for."""
    return measure_at(RATE_PER_S, 8 if quick else 20)


def measure_at(rate, seconds):
    """`{case: {p50_ms, p99_ms, max_ms, rate}}`."""
    count = rate * seconds
    results = {}
    with Issuer("ES256") as issuer, Gateway() as gateway:
        gateway.apply(MANIFEST.format(issuer=issuer.url, audience=AUDIENCE))
        load = Load(gateway)
        connection = load.connect()
        roots = [load.post(connection, form(job(issuer), "jwt"))["access_token"]
                 for _ in range(count // CHILDREN_EACH + 1)]
        connection.close()
        cases = {
            "root run of a job": [form(job(issuer), "jwt") for _ in range(count)],
            "child of a run": [form(roots[number % len(roots)], "access_token")
                               for number in range(count)],
        }
        for name, bodies in cases.items():
            took, reached = load.run(bodies, rate)
            results[name] = {
                "p50_ms": took[len(took) // 2], "p99_ms": took[int(len(took) * 0.99)],
                "max_ms": took[-1], "rate": reached, "requests": len(took),
            }
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=RATE_PER_S, help="exchanges a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there too")
    options = parser.parse_args()
    results = measure_at(options.rate, options.seconds)
    print(f"token exchange, {options.rate} a second for {options.seconds} s, SQLite "
          f"(goal: p99 of {GOAL_MS} ms)")
    for name, figures in results.items():
        print(f"  {name}: p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms, "
              f"max {figures['max_ms']:.2f} ms at {figures['rate']:.0f}/s")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
