"""Does every metric that the alert rules and the dashboard name exist?

    deploy_metrics.py METRICS FILE...

METRICS is what /metrics answers. Of YAML files the `expr:` are read, of JSON files every `expr`
and what is asked by `label_values(…)`.
"""

import json
import re
import sys
from pathlib import Path

KEYWORDS = {"and", "or", "unless", "bool", "offset"}
# Prometheus makes it, whoever is asked.
NOT_OURS = {"up"}


def names(expression):
    """The metrics of a PromQL expression."""
    bare = re.sub(r'"[^"]*"|\'[^\']*\'|\{[^}]*\}|\[[^]]*\]', " ", expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"(?<![\w:$])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)) - KEYWORDS - NOT_OURS


def of_yaml(text):
    """Every `expr:`, on its line or indented below it."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        found = re.match(r"( *)(?:- )?expr: *(.*)", line)
        if not found:
            continue
        indent, rest = found.groups()
        if rest != "|":
            yield rest
            continue
        below = []
        for next_line in lines[number + 1 :]:
            if next_line.strip() and not next_line.startswith(indent + "  "):
                break
            below.append(next_line)
        yield "\n".join(below)


def of_json(value):
    """Every `expr` and every `label_values(…)` in a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr":
                yield inner
            yield from of_json(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from of_json(inner)
    elif isinstance(value, str) and value.startswith("label_values("):
        yield value.removeprefix("label_values(").rpartition(",")[0]


def main(metrics, files):
    text = Path(metrics).read_text()
    live = {re.split(r"[{ ]", line, maxsplit=1)[0] for line in text.splitlines() if line[:1] not in ("", "#")}
    missing = 0
    for file in files:
        source = Path(file).read_text()
        expressions = list(of_json(json.loads(source)) if file.endswith(".json") else of_yaml(source))
        named = set().union(*map(names, expressions))
        print(f"{file}: {len(expressions)} expressions, {len(named)} metrics")
        for name in sorted(named - live):
            print(f"{file}: there is no metric {name}", file=sys.stderr)
            missing += 1
        if not named:
            print(f"{file}: it names no metric at all", file=sys.stderr)
            missing += 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
