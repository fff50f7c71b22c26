"""A collector of OTLP over HTTP that can be as bad as collectors are."""

import http.server
import threading

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HUGE_PIECES = 1600
PIECE = b"x" * 65536


class Span:
    """One span as it came, easy to ask."""

    def __init__(self, span, resource):
        self.name = span.name
        self.trace = span.trace_id.hex()
        self.id = span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.attributes = _values(span.attributes)
        self.links = [(link.trace_id.hex(), link.span_id.hex(), _values(link.attributes))
                      for link in span.links]
        self.is_error = span.status.code == 2
        self.lasted_ns = span.end_time_unix_nano - span.start_time_unix_nano
        self.resource = _values(resource.attributes)
        self.text = str(span)

    def __repr__(self):
        return f"{self.name} {self.attributes}"


def _values(pairs):
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)


class Collector:
    """`mode`: ok, huge, hang, or a status as a number. `with Collector() as collector:`."""

    def __init__(self, mode="ok"):
        self.mode = mode
        self.spans = []
        self.headers = []
        self.requests = 0
        self._leave = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer._answer(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _answer(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests += 1
        mode = self.mode
        if mode == "hang":
            self._leave.wait()
            return
        if isinstance(mode, int):
            handler.send_response(mode)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        assert handler.path == "/v1/traces", handler.path
        assert handler.headers["Content-Type"] == "application/x-protobuf"
        self.headers.append({key.lower(): value for key, value in handler.headers.items()})
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += [Span(span, resource.resource) for span in scope.spans]
        handler.send_response(200)
        if mode == "huge":
            handler.send_header("Content-Length", str(HUGE_PIECES * len(PIECE)))
            handler.end_headers()
            try:
                for _ in range(HUGE_PIECES):
                    handler.wfile.write(PIECE)
            except OSError:
                pass
            return
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def named(self, name):
        return [span for span in list(self.spans) if span.name == name]

    def close(self):
        self._leave.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
