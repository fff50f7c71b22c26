"""The APIs of CI systems, as far as a gateway asks them about jobs. Their shapes are those of
docs.github.com/en/rest/actions/workflow-jobs, docs.gitlab.com/api/jobs,
buildkite.com/docs/apis/rest-api/jobs and circleci.com/docs/api/v2."""

import http.server
import json
import threading
import time

TOKEN = "a-token-of-the-api"
HUGE_BYTES = 100 * 1024 * 1024


class CiApi:
    """Knows the jobs in `jobs`, by path. `behaviour` spoils its answers: a status, or `hangs`,
    `huge`, `garbage`, `redirects`."""

    def __init__(self):
        self.jobs = {}
        self.behaviour = None
        self.headers = {}
        self.with_etags = False
        self.requests = []
        self._stopped = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, path=None):
        """When and how it was asked: (time, path, status)."""
        return [one for one in list(self.requests) if path in (None, one[1])]


def _handler(api):
    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if api.behaviour == "hangs":
                api.requests.append((time.monotonic(), self.path, None))
                api._stopped.wait(60)
                return
            if api.behaviour == "huge":
                api.requests.append((time.monotonic(), self.path, 200))
                self._send_huge()
                return
            status, body, headers = self._answer()
            api.requests.append((time.monotonic(), self.path, status))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _answer(self):
            if api.behaviour == "garbage":
                return 200, b"<html>not an answer</html>", {}
            if api.behaviour == "redirects":
                return 302, b"", {"Location": f"{api.url}/elsewhere"}
            if api.behaviour is not None:
                return api.behaviour, b"{}", api.headers
            shown = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            if TOKEN not in (shown, self.headers["Private-Token"], self.headers["Circle-Token"]):
                return 401, b"{}", {}
            if self.path not in api.jobs:
                return 404, b'{"message": "Not Found"}', {}
            body = json.dumps(api.jobs[self.path]).encode()
            if not api.with_etags:
                return 200, body, {}
            etag = f'"{hash(body)}"'
            if self.headers["If-None-Match"] == etag:
                return 304, b"", {}
            return 200, body, {"ETag": etag}

        def _send_huge(self):
            self.send_response(200)
            self.send_header("Content-Length", str(HUGE_BYTES))
            self.end_headers()
            chunk = b" " * 65536
            try:
                for _ in range(HUGE_BYTES // len(chunk)):
                    self.wfile.write(chunk)
            except OSError:
                self.close_connection = True

        def log_message(self, *_):
            pass

    return Answer
