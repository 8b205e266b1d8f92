"""Where the HTTP server listens and who may ask it."""

from __future__ import annotations

import errno
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from streamd.config.service import HttpConfig
from streamd.errors import ConfigError, FatalError


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """The `http:` section of the service's configuration, as values.

    `port` 0 takes a free one. `token`: what requests must bring as `Authorization: Bearer …`; health may be asked
    without, unless `protect_health`. `allow_anonymous`: listen on other than loopback addresses without a token.
    `certificate` and `key`: PEM files, both or neither; `key` may be left out when the certificate's file holds it.
    `advertise`: where other nodes reach this one, None as it listens; `ca`: PEM file of who signed their certificates.
    """

    host: str = "127.0.0.1"
    port: int = 8470
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    allow_anonymous: bool = False
    protect_health: bool = False
    advertise: str | None = None
    ca: Path | None = None

    @classmethod
    def of(cls, http: HttpConfig) -> ApiOptions:
        """From the service's configuration."""
        return cls(
            host=http.host,
            port=http.port,
            advertise=http.advertise,
            token=http.token.get_secret_value() if http.token is not None else None,
            certificate=http.tls.cert if http.tls is not None else None,
            key=http.tls.key if http.tls is not None else None,
            ca=http.tls.ca if http.tls is not None else None,
            allow_anonymous=http.allow_anonymous,
            protect_health=http.protect_health,
        )

    def check(self) -> tuple[str, ...]:
        """Warnings to log. Raises ConfigError for what would open the node to everyone by mistake."""
        if self.token is not None and not self.token.strip():
            raise ConfigError("http.token is empty; give a long random text, or leave the setting out")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigError("http.token holds characters that no header can carry; use printable ASCII")
        if self.key is not None and self.certificate is None:
            raise ConfigError("http.tls has a key and no certificate; give both")
        if self.loopback:
            return ()
        if self.token is None and not self.allow_anonymous:
            raise ConfigError(
                f"http.host is {self.host!r}, which others can reach, and there is no http.token; set a token, listen "
                "on 127.0.0.1, or say http.allow_anonymous: true"
            )
        if self.token is None:
            return ("The HTTP server is open to everyone who can reach it",)
        if self.certificate is None:
            return ("The HTTP server takes its token over an unencrypted connection",)
        return ()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, or None without a certificate. Raises ConfigError when the files are not usable."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except ssl.SSLError as error:
            raise ConfigError(
                f"http.tls: {self.certificate} and {self.key or 'no key file'} are not a certificate and its "
                f"unencrypted private key in PEM form ({error.reason or 'cannot be read'})"
            ) from error
        except OSError as error:
            raise ConfigError(f"http.tls: {self.certificate} or {self.key}: {error.strerror or error}") from error
        return context

    def peer_tls(self) -> ssl.SSLContext | bool:
        """What other nodes are asked with: True is what the system trusts. Raises ConfigError for a bad `ca`."""
        if self.ca is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"http.tls.ca: {self.ca} cannot be read as certificates in PEM form: {error}") from error


def is_loopback(host: str) -> bool:
    """True for localhost and the addresses of the loopback interface; names are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen_error(options: ApiOptions, error: OSError) -> FatalError:
    """What to tell a person when the address cannot be listened on."""
    where = f"http: cannot listen on {options.host}:{options.port}"
    if error.errno == errno.EADDRINUSE:
        return FatalError(f"{where}: the port is in use; stop what uses it, or set http.port to another (0: any free)")
    if error.errno == errno.EACCES:
        return FatalError(f"{where}: not permitted; ports below 1024 need privileges, set http.port to a higher one")
    if error.errno == errno.EADDRNOTAVAIL:
        return FatalError(f"{where}: this machine has no such address; set http.host to one that it has")
    return FatalError(f"{where}: {error.strerror or error}; check http.host and http.port")


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    return ""
