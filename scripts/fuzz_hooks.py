"""Schemathesis hooks for constraints that an OpenAPI document cannot express."""

import re
from datetime import datetime, timedelta, timezone
from unicodedata import category
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

# A timestamp must not be more than 5 minutes ahead of the server's clock, and JSON Schema cannot express the current time:
# instants are drawn from the past. They start in the year 2, because the first day of year 1 is incomplete in some zones.
instants = st.builds(
    lambda at, minutes, form: form(at.astimezone(timezone(timedelta(minutes=minutes)))),
    st.datetimes(datetime(2, 1, 1), datetime(2026, 1, 1), timezones=st.just(timezone.utc)),
    st.sampled_from([0, 60, 120, 330, -300, 840, -720]),
    st.sampled_from([
        lambda at: at.isoformat(),
        lambda at: at.isoformat(timespec="milliseconds"),
        lambda at: at.astimezone(timezone.utc).isoformat().replace("+00:00", "Z"),
    ]),
)
schemathesis.openapi.format("date-time", instants)

# ignored_auth sends invalid keys and expects 401. After ten of them within a minute, the documented status is 429. With rate
# limits disabled, only invalid keys get it.
checks.AUTH_REJECTION_STATUSES = checks.AUTH_REJECTION_STATUSES | {429}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None:
        return
    if case.meta.generation.mode.is_positive:
        make_valid(case)
    else:
        # The server trims text before it checks the length, so text that is too long for JSON Schema may be valid. Blanks and
        # control characters in long text are therefore replaced.
        case.body = without_blanks(case.body)
        case.query = without_blanks(case.query)
        # With `on_error=skip` a batch with invalid readings is accepted, and the response lists them.
        if case.operation.path == "/heartrate/batch" and (case.query or {}).get("on_error") == "skip":
            case.query["on_error"] = "fail"


def without_blanks(value):
    if isinstance(value, dict):
        return type(value)((name, without_blanks(item)) for name, item in value.items())
    if isinstance(value, list):
        return [without_blanks(item) for item in value]
    if isinstance(value, str) and len(value) > 50:
        return "".join("x" if c.isspace() or category(c) == "Cc" else c for c in value)
    return value


def make_valid(case):
    # The end of a range must not be before its start, but JSON Schema cannot compare fields.
    query = case.query or {}
    for start, end in (("start", "end"), ("since", "until")):
        if isinstance(query.get(start), str) and isinstance(query.get(end), str):
            query[start], query[end] = sorted((query[start], query[end]), key=instant)
    # An Idempotency-Key with another body is rejected. Every case gets a unique key, of the drawn length if possible.
    headers = case.headers or {}
    if key := headers.get("Idempotency-Key"):
        headers["Idempotency-Key"] = (uuid4().hex + key)[: max(len(key), 32)]
    # The names of a rename must have something left when control characters and surrounding blanks are removed.
    if case.operation.path == "/coffee/rename" and isinstance(case.body, dict):
        for name in ("from", "to"):
            text = case.body.get(name)
            if isinstance(text, str) and not "".join(c for c in text if category(c) != "Cc").strip():
                case.body[name] = "x"
    # A schema of bytes has no length.
    if case.operation.path in ("/backups/upload", "/imports") and not case.body:
        case.body = b"x"
    if isinstance(case.body, dict):
        # Instants are drawn from the past, but a key must expire in the future.
        if isinstance(case.body.get("expires_at"), str):
            case.body["expires_at"] = "2099-01-01T00:00:00Z"
        # A display name must have something left, like the names of a rename. The name of the owner is not free.
        shown = case.body.get("display_name")
        if isinstance(shown, str) and not "".join(c for c in shown if category(c) != "Cc").strip():
            case.body["display_name"] = "x"
        if case.operation.path.startswith("/people") and case.body.get("name") == "owner":
            case.body["name"] = "x"
        # A pattern cannot express that the time in the name of a folder exists.
        if case.operation.path == "/people" and isinstance(case.body.get("removed"), str):
            case.body["removed"] = "x-20260101_000000"
        # The name of a new key must not change the path of a request for the key.
        if case.body.get("name") in (".", ".."):
            case.body["name"] = "x"
        # Only a key of the owner can have the scope `metrics`.
        if case.operation.path == "/people/{name}/keys" and isinstance(case.body.get("scopes"), list):
            case.body["scopes"] = [scope for scope in case.body["scopes"] if scope != "metrics"] or ["read"]
        # A pattern cannot express IPv6 addresses.
        if isinstance(case.body.get("base_url"), str) and "[" in case.body["base_url"]:
            case.body["base_url"] = "http://[::1]:8000"
        # A pairing is named by a code or by digits: of both, the one that is not valid is dropped.
        if case.operation.path == "/pair":
            for name, form in (("code", r"[A-Za-z0-9_-]{1,100}"), ("digits", r"[0-9]{3} ?[0-9]{3}")):
                if name in case.body and not (isinstance(case.body[name], str) and re.fullmatch(form, case.body[name])):
                    del case.body[name]
        # What one sequence has added must not be removed by another.
        if case.operation.path == "/prune":
            case.body["before"] = "0001-06-01T00:00:00Z"
            if "since" in case.body:
                case.body["since"] = "0001-05-01T00:00:00Z"
        if case.operation.path == "/backups/{file}/restore":
            case.body["dry_run"] = True
    # Sequences reuse values of responses, and the caffeine curve has points in the future.
    case.body = without_future(case.body)


def without_future(value):
    if isinstance(value, dict):
        return type(value)(
            (name, not_ahead(item) if name == "timestamp" else without_future(item))
            for name, item in value.items()
        )
    if isinstance(value, list):
        return [without_future(item) for item in value]
    return value


def not_ahead(timestamp):
    try:
        now = datetime.now(timezone.utc)
        return timestamp if instant(timestamp) <= now else now.isoformat()
    except (AttributeError, TypeError, ValueError):
        return timestamp


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
