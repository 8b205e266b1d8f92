"""How to reach a Kafka cluster: the `kafka:` section, and what it means for aiokafka's clients."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from aiokafka.abc import AbstractTokenProvider
from pydantic import ConfigDict, Field, SecretStr, WithJsonSchema, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from streamd.component.model import Model
from streamd.errors import FatalError, NotFoundError
from streamd.transport.kafka.options import OPTIONS, Client, check_options, check_together, split

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
DEFAULT_PORT = 9092
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\],@]+)(?::(?P<port>\d+))?")


def _refuse(field: str, message: str) -> ValidationError:
    """A pydantic error that points at one field from within a check of several."""
    error = PydanticCustomError("kafka_settings", "{message}", {"message": message})
    return ValidationError.from_exception_data(
        "kafka", [InitErrorDetails(type=error, loc=(field,), input=None)], hide_input=True
    )


class _Settings(Model):
    """Errors never show the value that was given: it may be a secret under the wrong name."""

    model_config = ConfigDict(hide_input_in_errors=True)


class TlsSettings(_Settings):
    """Encryption, and who the two sides are. Relative paths start at the process's working directory."""

    ca: Path | None = Field(
        None,
        description="PEM file of the authorities that sign the brokers' certificates; without it the machine's own.",
        examples=["/etc/streamd/ca.pem"],
    )
    certificate: Path | None = Field(
        None,
        description="PEM file with the certificate that this client shows to the brokers (mutual TLS).",
        examples=["/etc/streamd/client.pem"],
    )
    key: Path | None = Field(
        None,
        description="PEM file with the private key of `certificate`; may be left out where that file holds both.",
        examples=["/etc/streamd/client.key"],
    )
    key_password: SecretStr | None = Field(
        None, description="What opens an encrypted `key`.", examples=["${file:/run/secrets/key_password}"]
    )
    verify: bool = Field(
        True, description="Check the brokers' certificates. `false` lets anybody in the middle listen.", examples=[True]
    )
    check_hostname: bool = Field(
        True, description="Check that the certificate is for the host connected to.", examples=[True]
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.certificate is None:
            if self.key is not None:
                raise _refuse("key", "a key needs its `certificate`")
            if self.key_password is not None:
                raise _refuse("key_password", "a key_password needs a `certificate`")
        return self

    def context(self) -> ssl.SSLContext:
        """A new context from the files as they are now. Raises NotFoundError, FatalError (not PEM, wrong password)."""
        for field in ("ca", "certificate", "key"):
            path: Path | None = getattr(self, field)
            if path is not None and not path.is_file():
                raise NotFoundError(f"kafka.tls.{field}: there is no file {path}")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            raise FatalError(f"kafka.tls.ca: {self.ca} cannot be used as PEM certificates: {_reason(error)}") from error
        context.check_hostname = self.verify and self.check_hostname
        if not self.verify:
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            password = self.key_password.get_secret_value() if self.key_password else ""
            try:
                # The password is always given: without one OpenSSL would ask the terminal.
                context.load_cert_chain(self.certificate, self.key, lambda: password)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise FatalError(
                    f"kafka.tls.certificate: {self.certificate} with key {self.key or self.certificate} cannot be used "
                    f"(not PEM, not a pair, or another key_password): {_reason(error)}"
                ) from error
        return context

    def stamp(self) -> tuple[float, ...]:
        """Changes when one of the files does; 0 for a file that is not there."""
        stamps = []
        for path in (self.ca, self.certificate, self.key):
            try:
                stamps.append(path.stat().st_mtime if path else 0.0)
            except OSError:
                stamps.append(0.0)
        return tuple(stamps)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


class OAuthSettings(_Settings):
    """Where OAUTHBEARER gets its token: exactly one of `token`, `token_file` and `token_url`."""

    token: SecretStr | None = Field(
        None, description="The token itself.", examples=["${file:/run/secrets/kafka_token}"]
    )
    token_file: Path | None = Field(
        None,
        description="A file with the token, read again for every new connection.",
        examples=["/var/run/secrets/tokens/kafka"],
    )
    token_url: str | None = Field(
        None,
        description="Where an OIDC provider gives tokens for client credentials.",
        examples=["https://login.example.com/oauth2/token"],
        pattern=r"^https?://[^\s]+$",
    )
    client_id: str | None = Field(None, description="Who asks at `token_url`.", examples=["streamd"], min_length=1)
    client_secret: SecretStr | None = Field(
        None, description="The secret of `client_id`.", examples=["${OAUTH_SECRET}"]
    )
    scope: str | None = Field(None, description="Scopes to ask for, separated by spaces.", examples=["kafka"])
    audience: str | None = Field(
        None, description="Audience to ask for, where the provider wants one.", examples=["kafka"]
    )
    credentials: Literal["header", "body"] = Field(
        "header",
        description="Send client_id and client_secret as HTTP basic authentication or in the form.",
        examples=["body"],
    )
    ca: Path | None = Field(
        None,
        description="PEM file of the authority of `token_url`; the machine's own without it.",
        examples=["/etc/streamd/idp.pem"],
    )
    timeout: float = Field(10.0, description="Seconds that `token_url` may take.", examples=[10], gt=0, le=300)
    extensions: dict[str, str] = Field(
        default_factory=dict,
        description="SASL extensions sent with the token.",
        examples=[{"logicalCluster": "lkc-1", "identityPoolId": "pool-1"}],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("token", "token_file", "token_url") if getattr(self, name) is not None]
        if len(given) != 1:
            raise _refuse(
                given[1] if given else "token",
                f"exactly one of token, token_file and token_url is needed, got {' and '.join(given) or 'none'}",
            )
        for name in ("client_id", "client_secret"):
            if self.token_url is not None and getattr(self, name) is None:
                raise _refuse(name, f"token_url needs a {name}")
            if self.token_url is None and getattr(self, name) is not None:
                raise _refuse(name, f"{name} is only used with token_url")
        for name in self.extensions:
            if not re.fullmatch("[A-Za-z]+", name) or name == "auth":
                raise _refuse("extensions", f"the name of an extension is letters only and not 'auth', got {name!r}")
        return self


class SaslSettings(_Settings):
    """Who we are: a user with a password, or a token."""

    mechanism: Mechanism = Field(description="How to prove who we are.", examples=["SCRAM-SHA-512"])
    username: str | None = Field(None, description="For PLAIN and SCRAM.", examples=["streamd"], min_length=1)
    password: SecretStr | None = Field(None, description="For PLAIN and SCRAM.", examples=["${KAFKA_PASSWORD}"])
    oauth: OAuthSettings | None = Field(
        None, description="For OAUTHBEARER: where the token comes from.", examples=[{"token_file": "/run/token"}]
    )

    @field_validator("mechanism", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        bearer = self.mechanism == "OAUTHBEARER"
        wanted, unwanted = (("oauth",), ("username", "password")) if bearer else (("username", "password"), ("oauth",))
        for name in wanted:
            if getattr(self, name) is None:
                raise _refuse(name, f"{self.mechanism} needs `{name}`")
        for name in unwanted:
            if getattr(self, name) is not None:
                raise _refuse(name, f"{self.mechanism} does not use `{name}`")
        return self


_HOSTS_SCHEMA = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}


def _or_a_switch(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [*schema["anyOf"], {"type": "boolean"}]


class KafkaSettings(_Settings):
    """How to reach a Kafka cluster: the `kafka:` section of a pipeline or of streamd.yaml."""

    bootstrap: Annotated[tuple[str, ...], WithJsonSchema(_HOSTS_SCHEMA)] = Field(
        description="Brokers to ask first, `host:port`, a list or one text with commas; port 9092 where none is given.",
        examples=["kafka-1:9092,kafka-2:9092"],
        min_length=1,
    )
    client_id: str = Field(
        "streamd",
        description="What the brokers call this client in their logs and quotas.",
        examples=["streamd-eu"],
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
    )
    tls: TlsSettings | None = Field(
        None,
        description="TLS; `true` for TLS with the machine's own authorities.",
        examples=[{"ca": "ca.pem"}],
        json_schema_extra=_or_a_switch,
    )
    sasl: SaslSettings | None = Field(
        None,
        description="Authentication.",
        examples=[{"mechanism": "PLAIN", "username": "streamd", "password": "${KAFKA_PASSWORD}"}],
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further client settings by their Kafka names, with `consumer.`, `producer.` or `admin.` before "
        "a name that shall hold for one kind of client only.",
        examples=[{"request.timeout.ms": 20000, "consumer.fetch.min.bytes": 4096}],
    )

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ValueError("expected host:port, or a list of them")
        return tuple(_host(item) for item in items)

    @field_validator("tls", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        if isinstance(value, bool):
            return {} if value else None
        return value

    @field_validator("options", mode="before")
    @classmethod
    def _options(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError("expected a mapping of Kafka client settings, such as {fetch.min.bytes: 4096}")
        return check_options({str(name): item for name, item in value.items()})

    @model_validator(mode="after")
    def _together(self) -> Self:
        try:
            check_together({name: self.option("consumer", name) for name in OPTIONS})
        except ValueError as problem:
            raise _refuse("options", str(problem)) from None
        return self

    @property
    def security_protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, as Kafka calls it."""
        if self.sasl is None:
            return "SSL" if self.tls else "PLAINTEXT"
        return "SASL_SSL" if self.tls else "SASL_PLAINTEXT"

    @property
    def address(self) -> str:
        """The brokers, for messages: `host:port, host:port`."""
        return ", ".join(self.bootstrap)

    def option(self, client: Client, name: str) -> Any:
        """What holds for a setting by its Kafka name: as said for this kind of client, as said for all, the default."""
        if (value := self.options.get(f"{client}.{name}")) is not None:
            return value
        if (value := self.options.get(name)) is not None:
            return value
        return OPTIONS[name].default

    def with_options(self, client: Client, options: Mapping[str, Any]) -> KafkaSettings:
        """The same cluster with further options for one kind of client, which win; as `check_options` gave them."""
        named = {f"{client}.{split(name)[1]}": value for name, value in options.items()}
        return self.model_copy(update={"options": {**self.options, **named}}) if named else self

    def client_arguments(self, client: Client = "admin") -> dict[str, Any]:
        """Keyword arguments for `AIOKafkaClient`, which its consumer and producer take as well.

        Reads the TLS files. Raises NotFoundError and FatalError when they cannot be used.
        """
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        for name in ("request.timeout.ms", "retry.backoff.ms", "metadata.max.age.ms", "connections.max.idle.ms"):
            arguments[OPTIONS[name].argument] = self.option(client, name)
        if self.tls is not None:
            arguments["ssl_context"] = self._tls_contexts.get(self.tls)
        if self.sasl is not None:
            arguments["sasl_mechanism"] = self.sasl.mechanism
            if self.sasl.password is not None:
                arguments["sasl_plain_username"] = self.sasl.username
                arguments["sasl_plain_password"] = self.sasl.password.get_secret_value()
            else:
                arguments["sasl_oauth_token_provider"] = self._token_provider
        return arguments

    def arguments(self, client: Client) -> dict[str, Any]:
        """`client_arguments`, and all that was said or has a default for this kind of client, by aiokafka's names."""
        arguments = self.client_arguments(client)
        for option in OPTIONS.values():
            if client in option.clients and option.argument:
                value = self.option(client, option.name)
                if value is not None:
                    arguments[option.argument] = None if value == "none" else value
        return arguments

    @cached_property
    def _tls_contexts(self) -> _TlsContexts:
        return _TlsContexts()

    @cached_property
    def _token_provider(self) -> AbstractTokenProvider:
        from streamd.transport.kafka.oauth import token_provider

        if self.sasl is None or self.sasl.oauth is None:
            raise FatalError("kafka.sasl: no oauth section to take a token from")
        return token_provider(self.sasl.oauth)


class _TlsContexts:
    """One context for all clients, made anew when a file has changed, so that certificates can be renewed."""

    __slots__ = ("_context", "_stamp")

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[float, ...] = ()

    def get(self, tls: TlsSettings) -> ssl.SSLContext:
        stamp = tls.stamp()
        if self._context is None or stamp != self._stamp:
            self._context = tls.context()
            self._stamp = stamp
        return self._context


def _host(item: object) -> str:
    text = item.strip() if isinstance(item, str) else ""
    if "://" in text:
        raise ValueError(f"expected host:port without a scheme, got one that starts with {text.split('://')[0]}://")
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError("expected host:port, such as kafka-1:9092 or [::1]:9092")
    port = int(found["port"] or DEFAULT_PORT)
    if not 0 < port < 65536:
        raise ValueError(f"expected a port from 1 to 65535, got {port}")
    return f"{found['host']}:{port}"
