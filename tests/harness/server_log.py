"""What PostgreSQL says it ran, by its own log."""

import collections
import re

# `[%p] ` tells a line's process, so that a DETAIL is of the line before it.
SETTINGS = {"log_statement": "all", "log_line_prefix": "[%p] ", "log_parameter_max_length": "-1"}
LINE = re.compile(r"(\[\d+\]) LOG:  (statement|execute fetch from|execute)[^:]*: (.*)$")
PARAMETER = re.compile(r"\$\d+ = '([^']*)'")


class Executions:
    """How often each text ran, with which parameters, and which went on after a pause."""

    def __init__(self, path, marked):
        """Only texts with what the pattern `marked` finds count."""
        self.texts = collections.Counter()
        self.parameters = collections.Counter()
        self.continued = collections.Counter()
        lines = path.read_text(errors="replace").splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            found = LINE.match(line)
            if not found or not marked.search(line):
                continue
            process, kind, sql = found.groups()
            if kind == "execute fetch from":
                self.continued[sql] += 1
                continue
            self.texts[sql] += 1
            if following.startswith(f"{process} DETAIL:  parameters:"):
                self.parameters[sql, tuple(PARAMETER.findall(following))] += 1
