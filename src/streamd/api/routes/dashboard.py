"""`GET /`: the dashboard, one page without anything from elsewhere, that shows what the API says."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from aiohttp import web

from streamd.api.answers import Answer

PAGE = files("streamd.api").joinpath("dashboard.html").read_text(encoding="utf-8")


def _allowed(tag: str) -> str:
    """The Content-Security-Policy source that lets through just this page's own inline element."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_allowed('script')}; style-src {_allowed('style')}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def dashboard(_request: web.Request) -> Answer:
    return Answer(text=PAGE, content_type="text/html", headers={"Content-Security-Policy": POLICY})


ROUTES = (web.get("/", dashboard),)
