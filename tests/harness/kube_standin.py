"""A stand-in for a Kubernetes API server: a few paths over TLS, objects in memory, a watch that
sends what a test tells it to, and slow bodies. It checks nothing but the gateway's token; what a real server does is
shown in tests/k8s."""

import base64
import copy
import http.server
import json
import pathlib
import secrets
import ssl
import tempfile
import threading
import time
import urllib.parse

from .certificates import Authority

TOKEN = "the-gateways-own-token"
ACCOUNT = ("corral", "gateway")
TOKEN_PATH = "/api/v1/namespaces/{}/serviceaccounts/{}/token".format(*ACCOUNT)
NAMESPACED = {"pods": "Pod", "configmaps": "ConfigMap", "secrets": "Secret"}
MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
LOG_LINES_PER_SECOND = 20
# An object of this name is never answered.
MUTE = "mute"


def resource_list():
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [{"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind,
                  "verbs": verbs} for name, kind in NAMESPACED.items()]
    resources.append({"name": "namespaces", "singularName": "namespace", "namespaced": False,
                      "kind": "Namespace", "verbs": verbs, "shortNames": ["ns"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1",
            "resources": resources}


FIXED = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0-standin", "platform": "x"},
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": resource_list(),
}


def merge(into, patch):
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def account_token(seconds, account=ACCOUNT, audiences=("cluster",), age=0):
    """A token in the form of a service account's; nobody signs it."""
    now = time.time()
    claims = {"sub": "system:serviceaccount:{}:{}".format(*account), "aud": list(audiences),
              "iat": int(now) - age, "exp": int(now) + seconds, "jti": secrets.token_hex(8)}
    return f"{encoded({'alg': 'none'})}.{encoded(claims)}.{encoded('nobody')}"


class KubeStandin:
    """`with KubeStandin() as api:` stops it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corral-kube-"))
        self.seen = []
        self.objects = {}
        self.version = 1
        self.lock = threading.Lock()
        self.watches = 0
        # What every watch that is open, or comes, sends: events as objects.
        self.watched = []
        # What stands behind each line of a log.
        self.log_padding = b""
        # Whoever shows one of them is the gateway.
        self.tokens = {TOKEN}
        # How a TokenRequest is answered: a function of its body that gives code and answer.
        self.on_token_request = None
        authority = Authority(self.folder, "kube-ca")
        self.ca_file = authority.file
        certificate, key = authority.issue("apiserver", "IP:127.0.0.1,DNS:localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        handler = type("Bound", (Handler,), {"api": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.stopped = threading.Event()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        for name in ("web", "worker"):
            self.put("pods", "dev", {
                "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
                "status": {"phase": "Running"}})

    def put(self, resource, namespace, item, keep=True):
        """Stores an object as a server would name and number it."""
        with self.lock:
            self.version += 1
            item = copy.deepcopy(item)
            metadata = item.setdefault("metadata", {})
            old = self.objects.get((resource, namespace, metadata["name"]))
            metadata |= {"namespace": namespace, "resourceVersion": str(self.version),
                         "uid": old["metadata"]["uid"] if old else f"uid-{self.version}",
                         "creationTimestamp": "2026-01-01T00:00:00Z"}
            if keep:
                self.objects[resource, namespace, metadata["name"]] = item
            return item

    def give_tokens(self, seconds):
        """Answers TokenRequests with tokens that are good for so long; gives the list of them."""
        given = []

        def answer(request):
            assert request["kind"] == "TokenRequest", request
            token = account_token(seconds, audiences=request["spec"]["audiences"])
            given.append((request["spec"], token))
            self.tokens.add(token)
            return 201, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
                         "spec": request["spec"], "status": {"token": token}}

        self.on_token_request = answer
        return given

    def lines(self, start=""):
        return [line for line, _ in self.seen if line.startswith(start)]

    def headers(self, start):
        """Headers of the last request whose line begins so, by names in lower case."""
        return [headers for line, headers in self.seen if line.startswith(start)][-1]

    def close(self):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api = None

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError):
            pass

    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code, reason, message):
        self.answer(code, {"kind": "Status", "apiVersion": "v1", "metadata": {},
                           "status": "Failure", "message": message, "reason": reason,
                           "code": code})

    def stream(self, content_type):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self.read_chunks()
        self.api.seen.append((f"{self.command} {self.path}",
                              {key.lower(): value for key, value in self.headers.items()}))
        shown = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if shown not in self.api.tokens:
            return self.refuse(401, "Unauthorized", "not the gateway")
        if url.path in FIXED:
            return self.answer(200, FIXED[url.path])
        if url.path == TOKEN_PATH and self.command == "POST":
            return self.answer(*self.api.on_token_request(json.loads(body)))
        words = url.path.strip("/").split("/")
        if words[:3] != ["api", "v1", "namespaces"] or len(words) < 5:
            return self.refuse(404, "NotFound", "the server could not find the resource")
        namespace, resource, name = words[3], words[4], words[5] if len(words) > 5 else None
        if resource not in NAMESPACED:
            return self.refuse(404, "NotFound", "no such resource")
        if words[6:] == ["log"]:
            return self.log(query)
        if name == MUTE:
            self.close_connection = True
            self.api.stopped.wait()
            return None
        return self.on_object(namespace, resource, name, query, body)

    def read_chunks(self):
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def on_object(self, namespace, resource, name, query, body):
        api, kind = self.api, NAMESPACED[resource]
        found = api.objects.get((resource, namespace, name))
        keep = query.get("dryRun") != "All"
        if self.command in ("GET", "HEAD") and name is None:
            if query.get("watch") in ("1", "true"):
                return self.mute_watch()
            items = [value for key, value in sorted(api.objects.items())
                     if key[:2] == (resource, namespace)]
            return self.answer(200, {"kind": f"{kind}List", "apiVersion": "v1",
                                     "metadata": {"resourceVersion": str(api.version)},
                                     "items": items})
        if self.command == "POST":
            item = json.loads(body)
            if (resource, namespace, item["metadata"]["name"]) in api.objects:
                return self.refuse(409, "AlreadyExists", "it already exists")
            return self.answer(201, api.put(resource, namespace, item, keep))
        if found is None:
            return self.refuse(404, "NotFound", f'{resource} "{name}" not found')
        if self.command == "PUT":
            return self.answer(200, api.put(resource, namespace, json.loads(body), keep))
        if self.command == "PATCH":
            if self.headers.get("Content-Type") not in MERGES:
                return self.refuse(415, "UnsupportedMediaType", "no such patch here")
            item = copy.deepcopy(found)
            merge(item, json.loads(body))
            return self.answer(200, api.put(resource, namespace, item, keep))
        if self.command == "DELETE":
            del api.objects[resource, namespace, name]
            return self.answer(200, {"kind": "Status", "apiVersion": "v1", "metadata": {},
                                     "status": "Success", "details": {"name": name}})
        return self.answer(200, found)

    def mute_watch(self):
        """The head at once, then what tests put into `watched`, and no end."""
        self.stream("application/json")
        self.api.watches += 1
        sent = 0
        try:
            self.connection.settimeout(0.2)
            while not self.api.stopped.is_set():
                for event in self.api.watched[sent:]:
                    self.chunk(json.dumps(event).encode() + b"\n")
                    sent += 1
                try:
                    if not self.connection.recv(1):
                        return
                except TimeoutError:
                    continue
        finally:
            self.api.watches -= 1
            self.close_connection = True

    def log(self, query):
        """A line now and then for as long as somebody follows."""
        self.stream("text/plain")
        number = 0
        while number < 3 or query.get("follow") == "true" and not self.api.stopped.is_set():
            number += 1
            self.chunk(b"line %d%b\n" % (number, self.api.log_padding))
            time.sleep(1 / LOG_LINES_PER_SECOND)
        self.wfile.write(b"0\r\n\r\n")
        return None

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve
