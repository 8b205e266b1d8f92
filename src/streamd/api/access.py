"""Who may ask what: the token, the Host header, and headers that keep browsers from helping attackers."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from streamd.api.answers import error_answer
from streamd.api.context import CONTEXT
from streamd.api.options import ApiOptions, is_loopback
from streamd.observability import catalog

log = structlog.get_logger(__name__)

HEALTH = frozenset({"/health/live", "/health/ready"})
# The dashboard's page holds no data: it asks for the token and then calls the API with it.
STATIC = frozenset({"/"})

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "streamd",
    "X-Content-Type-Options": "nosniff",
}


def access(options: ApiOptions) -> Middleware:
    """Lets a request through when it may pass; turns errors into JSON; counts answers."""
    expected = options.token.encode() if options.token is not None else None
    open_paths = STATIC if options.protect_health else STATIC | HEALTH
    # A web page of some other site can reach 127.0.0.1 under a name of its own (DNS rebinding); its Host gives it away.
    check_host = expected is None and options.loopback

    def refusal(request: web.Request) -> web.StreamResponse | None:
        if check_host and not _is_local(request.host):
            return error_answer(
                403, "wrong_host", f"this server is asked under the name {request.host!r}; use 127.0.0.1 or localhost"
            )
        if expected is None or request.path in open_paths or _has_token(request, expected):
            return None
        answer = error_answer(401, "unauthorized", "send the token of http.token as Authorization: Bearer …")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="streamd"'
        return answer

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = refusal(request) or await _answer(request, handler)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        request.app[CONTEXT].own.counter(catalog.HTTP_REQUESTS, route=route, status=answer.status).add()
        return answer

    return middleware


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        answer = error_answer(
            405, "method_not_allowed", f"{request.path} takes {', '.join(sorted(error.allowed_methods))}"
        )
        answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except web.HTTPNotFound:
        return error_answer(404, "not_found", f"there is nothing at {request.path[:200]}; see /api/v1/pipelines")
    except web.HTTPException as error:
        return error_answer(error.status, error.reason.lower().replace(" ", "_"), error.reason)
    except Exception:
        log.exception("HTTP request failed", route=request.path[:200])
        return error_answer(500, "internal_error", "the request failed; the node's log says why")


def _has_token(request: web.Request, expected: bytes) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), expected)
    return same and scheme.lower() == "bearer"


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
