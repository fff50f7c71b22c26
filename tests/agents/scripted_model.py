"""A model server on loopback that replays a script: what the frameworks take for a language model.

It speaks OpenAI's chat completions. A conversation is known by its task (the first message of its
user), and its turn by how often the model has spoken in it.
"""

import http.server
import json
import threading


def call(tool, **arguments):
    """One call of a tool, for a turn's list."""
    return {"name": tool, "arguments": json.dumps(arguments)}


def text_of(content):
    """A message's text; some frameworks send it in parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [])


class ScriptedModel:
    """`scripts` maps a task to its turns: a list of calls, or the text of the last answer.

    `with ScriptedModel(scripts) as model:` stops it.
    """

    def __init__(self, scripts):
        self.scripts = scripts
        self.problems = []
        self._latest = {}
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def tool_answers(self, task):
        """What the tools answered in a conversation, in the order in which the model read it."""
        with self._lock:
            messages = self._latest.get(task, [])
        return [text_of(message["content"]) for message in messages if message["role"] == "tool"]

    def heard(self):
        """Everything that was ever sent to the model, as one text."""
        with self._lock:
            return json.dumps(list(self._latest.values()))

    def _complete(self, request):
        messages = request["messages"]
        task = next(text_of(m["content"]) for m in messages if m["role"] == "user")
        turn = sum(message["role"] == "assistant" for message in messages)
        with self._lock:
            self._latest[task] = messages
            turns = self.scripts.get(task, [])
            if request.get("stream") or turn >= len(turns):
                self.problems.append(f"no turn {turn} for {task!r}, or a stream was asked for")
                return None
        said = turns[turn]
        if isinstance(said, str):
            return {"role": "assistant", "content": said}, "stop"
        calls = [{"id": f"call_{turn}_{n}", "type": "function", "function": one}
                 for n, one in enumerate(said)]
        return {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"

    def _handler(self):
        model = self

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                said = model._complete(request)
                if said is None:
                    self._send(400, {"error": {"message": "not in the script"}})
                    return
                message, reason = said
                choice = {"index": 0, "message": message, "finish_reason": reason}
                usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                self._send(200, {
                    "id": "chatcmpl-1", "object": "chat.completion", "created": 1,
                    "model": request["model"], "choices": [choice], "usage": usage})

            def _send(self, status, answer):
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Answer

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
