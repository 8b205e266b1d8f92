"""How to reach a schema registry: the `schema_registry:` section."""

from __future__ import annotations

import ssl
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema, model_validator

from streamd.component.fields import Duration
from streamd.component.model import Model
from streamd.errors import FatalError, NotFoundError

_URL = r"^https?://[^\s@/]+(/\S*)?$"
_URLS_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": _URL},
        {"type": "array", "items": {"type": "string", "pattern": _URL}, "minItems": 1},
    ]
}


def _urls(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class RegistryTls(Model):
    """Whose certificates are trusted, and which one is shown. Relative paths start at the working directory."""

    ca: Path | None = Field(
        None,
        description="PEM file of the authorities that sign the registry's certificate; without it the machine's own.",
        examples=["/etc/streamd/ca.pem"],
    )
    certificate: Path | None = Field(
        None, description="PEM file with the certificate to show (mutual TLS).", examples=["/etc/streamd/client.pem"]
    )
    key: Path | None = Field(
        None,
        description="PEM file with the key of `certificate`, where that file does not hold both.",
        examples=["/etc/streamd/client.key"],
    )
    verify: bool = Field(
        True,
        description="Check the registry's certificate. `false` lets anybody in the middle listen.",
        examples=[True],
    )

    def context(self) -> ssl.SSLContext:
        """A new context from the files as they are now. Raises NotFoundError, FatalError."""
        for name, path in (("ca", self.ca), ("certificate", self.certificate), ("key", self.key)):
            if path is not None and not path.is_file():
                raise NotFoundError(f"schema_registry.tls.{name}: there is no file {path}")
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                # A password is given, an empty one: without it OpenSSL would ask the terminal.
                context.load_cert_chain(self.certificate, self.key, lambda: "")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise FatalError(f"schema_registry.tls: a file cannot be used as PEM: {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class SchemaRegistrySettings(Model):
    """How to reach a schema registry with Confluent's API."""

    url: Annotated[
        tuple[Annotated[str, Field(pattern=_URL)], ...],
        BeforeValidator(_urls),
        Field(min_length=1),
        WithJsonSchema(_URLS_SCHEMA),
    ] = Field(
        description="The registry's address, or several: each is asked when those before it cannot be reached. With "
        "the path of the API, where it has one, and without user and password, which have fields of their own.",
        examples=["https://registry.example.com", ["http://registry-a:8081", "http://registry-b:8081"]],
    )
    username: str | None = Field(None, min_length=1, description="Who we are, by name.", examples=["streamd"])
    password: SecretStr | None = Field(
        None, description="The password of `username`.", examples=["${file:/run/secrets/registry_password}"]
    )
    token: SecretStr | None = Field(
        None, description="Who we are, by a bearer token.", examples=["${file:/run/secrets/registry_token}"]
    )
    tls: RegistryTls | None = Field(
        None, description="TLS of https addresses.", examples=[{"ca": "/etc/streamd/ca.pem"}]
    )
    timeout: Duration = Field(5.0, gt=0, description="How long one request may take.", examples=["10s"])

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username, password: expected both, or none")
        if self.token is not None and self.username is not None:
            raise ValueError("token, username: expected one of the two")
        return self

    def headers(self) -> dict[str, str]:
        """What says who we are."""
        if self.token is not None:
            return {"Authorization": f"Bearer {self.token.get_secret_value()}"}
        if self.username is not None and self.password is not None:
            both = f"{self.username}:{self.password.get_secret_value()}"
            return {"Authorization": f"Basic {b64encode(both.encode()).decode()}"}
        return {}
