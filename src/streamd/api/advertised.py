"""Where other nodes find this one's HTTP server, as it is told to the groups: `HOST/URL`.

HOST is empty for a URL that works from everywhere. A loopback address works on its own host alone: then HOST says which
that is, and nodes of others know that they cannot ask.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import platform
import socket
import uuid
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from streamd.api.options import ApiOptions, is_loopback

# Addresses of no machine (RFC 5737, RFC 3849): only what would be sent from is asked, nothing is sent.
_SOMEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def advertised(options: ApiOptions, port: int) -> str:
    """`HOST/URL` of a server that listens on `port`; empty when it listens on all addresses and has none."""
    scheme = "http" if options.certificate is None else "https"
    host = options.host.strip("[]")
    if options.advertise is not None:
        said = options.advertise if "://" in options.advertise else f"{scheme}://{options.advertise}"
        parts = urlsplit(said)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port or port
    elif _is_any(host):
        host = _own_address()
    if not host:
        return ""
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return f"{this_host() if is_loopback(host) else ''}/{url}"


def reachable(advertised: str) -> str | None:
    """The URL of `HOST/URL`, or None when it cannot be asked from here, or is none of an HTTP server."""
    host, _, url = advertised.partition("/")
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port is not None
    except ValueError:
        return None
    if not right or url != f"{parts.scheme}://{parts.netloc}" or parts.username is not None:
        return None
    return url if host == (this_host() if is_loopback(parts.hostname or "") else "") else None


@cache
def this_host() -> str:
    """A name of what loopback addresses mean here: the running system and its network namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        found = f"{boot.strip()} {Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:
        found = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(found.encode()).hexdigest()[:16]


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def _own_address() -> str:
    """The address that this machine sends from on its default route; empty without one."""
    for family, somewhere in _SOMEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as found:
            found.connect((somewhere, 9))
            return str(found.getsockname()[0])
    return ""
