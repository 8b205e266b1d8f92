"""`GET /api/v1/pipelines/{name}/views`, `…/views/{stage}` and `…/views/{stage}/{key}`: what stages keep a view of.

Values are committed ones, as of a checkpoint of the key's task. A node answers for all partitions: those of tasks that
others run it asks them for (`api/peers.py`). What it cannot know is said with the partitions, under `partitions`.

A key is text as it is, or JSON: 7 means the text first, then the number, "7" in quotes the text alone. `?prefix=` takes
the keys whose text (JSON, of those that are none) begins so, in order; `limit` (100, at most 1000) of them, and `next`
is what to give as `after` for those behind. `?local=true` is how nodes ask each other: what this one knows alone, also
of one key (`key=`).
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiohttp import web

from streamd.api.answers import Answer, error_answer, json_answer
from streamd.api.context import CONTEXT
from streamd.api.peers import LOCAL_WITHIN, ViewSource, told
from streamd.supervisor.views import Asked, Looked

LIMIT, LARGEST_LIMIT = 100, 1000
MAX_KEY: Final = 4096
RETRY_AFTER: Final = "1"


async def views(request: web.Request) -> Answer:
    """The stages that keep a view."""
    found = _stages(request)
    return found if isinstance(found, Answer) else json_answer({"views": found})


async def view(request: web.Request) -> Answer:
    """Keys in order, with their values."""
    query = request.query
    unknown = sorted(query.keys() - {"prefix", "after", "limit", "local", "key"})
    local = query.get("local") == "true"
    limit = query.get("limit", str(LIMIT))
    if unknown:
        return error_answer(400, "bad_request", f"expected prefix, after, limit or local, got {unknown[0][:100]!r}")
    if "key" in query and not local:
        return error_answer(400, "bad_request", "a key goes into the path, behind the stage")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= LARGEST_LIMIT):
        return error_answer(400, "bad_request", f"limit is a number from 1 to {LARGEST_LIMIT}")
    asked = Asked(query.get("key"), query.get("prefix", ""), query.get("after"), int(limit))
    looked = await _look(request, asked, local)
    if isinstance(looked, Answer):
        return looked
    if local:
        return json_answer(told(looked, asked))
    answer = _refusal(looked)
    if answer is not None:
        return answer
    if looked.incomplete:
        return _not_ready(looked)
    shown, following = looked.first(asked.limit)
    return json_answer(
        {
            "entries": [{"key": orjson.Fragment(key), "value": orjson.Fragment(value)} for _, _, key, value in shown],
            "next": following,
            "partitions": _partitions(looked),
        }
    )


async def key(request: web.Request) -> Answer:
    """One key and its value."""
    text = request.match_info["key"]
    if len(text) > MAX_KEY:
        return error_answer(400, "bad_request", f"a key of {len(text)} characters, at most {MAX_KEY} can be asked for")
    local = request.query.get("local") == "true"
    looked = await _look(request, Asked(text), local)
    if isinstance(looked, Answer):
        return looked
    if local:
        return json_answer(told(looked, Asked(text)))
    for partition, name, value in sorted(looked.entries, key=lambda entry: (entry[1][:1] != b'"', entry[0])):
        return json_answer(
            {
                "key": orjson.Fragment(name),
                "value": orjson.Fragment(value),
                "partition": partition,
                "checkpoint": looked.checkpoints[partition],
            }
        )
    answer = _refusal(looked)
    if answer is not None:
        return answer
    if looked.incomplete:
        return _not_ready(looked)
    if looked.elsewhere:
        numbers = ", ".join(map(str, looked.elsewhere))
        message = (
            f"there is no such key in the partitions that could be asked; nodes that cannot be reached from here run "
            f"partition {numbers}: ask them, or see http.advertise"
        )
        return _error(404, "not_here", message, partitions=_partitions(looked))
    return _error(404, "no_such_key", "the view has no such key", partitions=_partitions(looked))


def _stages(request: web.Request) -> list[str] | Answer:
    """The stages of the pipeline that keep a view, or why there are none."""
    name, source = request.match_info["name"], request.app[CONTEXT].views
    found = source.of(name) if source is not None else None
    if found is None:
        return error_answer(404, "no_such_pipeline", f"there is no pipeline {name[:200]!r} on this node")
    return found


async def _look(request: web.Request, asked: Asked, local: bool) -> Looked | Answer:
    """What the view holds, on this node or on all, or that there is none."""
    known, stage = _stages(request), request.match_info["stage"]
    if isinstance(known, Answer):
        return known
    if stage not in known:
        has = ", ".join(known) or "none"
        return error_answer(
            404, "no_such_view", f"there is no stage {stage[:200]!r} that keeps a view; there is: {has}"
        )
    context, name = request.app[CONTEXT], request.match_info["name"]
    source: ViewSource | None = context.views
    assert source is not None
    if local:
        return await source.look(name, stage, asked, LOCAL_WITHIN)
    return await context.peers.look(source, name, stage, asked)


def _refusal(looked: Looked) -> Answer | None:
    """What is said of a view that cannot be searched, or has failed; None of any other."""
    if looked.too_large:
        message = f"the view has more than {looked.too_large:,} keys in a partition, too many to search: ask for keys"
        return error_answer(422, "too_large", message)
    if looked.failed:
        return error_answer(500, "view_failed", looked.failed)
    return None


def _not_ready(looked: Looked) -> Answer:
    numbers = ", ".join(map(str, looked.waiting))
    reasons = "; ".join(looked.reasons) or "its task is about to start, or to move, or it has ended or failed"
    message = f"partition {numbers} does not answer now: {reasons}" if numbers else reasons
    answer = _error(503, "not_ready", message, partitions=_partitions(looked))
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def _partitions(looked: Looked) -> dict[str, list[int]]:
    return {
        "here": sorted(looked.checkpoints.keys() - set(looked.peers)),
        "peers": looked.peers,
        "elsewhere": looked.elsewhere,
        "not_ready": looked.waiting,
    }


def _error(status: int, code: str, message: str, **more: Any) -> Answer:
    return json_answer({"error": {"code": code, "message": message, **more}}, status)


_VIEWS = "/api/v1/pipelines/{name}/views"
ROUTES = (web.get(_VIEWS, views), web.get(f"{_VIEWS}/{{stage}}", view), web.get(f"{_VIEWS}/{{stage}}/{{key:.+}}", key))
