"""Logins, TLS and authorization against a real broker that insists on them."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from services.command import Ended, service_file, streamd
from services.kafka import KafkaBroker, jars
from streamd.errors import AccessDeniedError, FatalError, StreamdError, UnavailableError
from streamd.transport.kafka.admin import KafkaAdmin, open_admin
from streamd.transport.kafka.membership import GroupMember
from streamd.transport.kafka.settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

PASSWORD = "pass-of-alice"
KEY_PASSWORD = "pass-of-the-key"
OPEN_TOPIC, CLOSED_TOPIC = "open", "closed"


class Certificates:
    """An authority, a broker's certificate for `localhost` alone, a client's, and a foreign authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.ca = self._authority("ca")
        self.foreign_ca = self._authority("foreign")
        self.broker = self._signed("broker", "subjectAltName=DNS:localhost", "ca")
        self.client = self._signed("client", "extendedKeyUsage=clientAuth", "ca")
        self.foreign_client = self._signed("stranger", "extendedKeyUsage=clientAuth", "foreign")
        self.encrypted_key = folder / "client.encrypted.key"
        self._openssl("pkcs8", "-topk8", "-in", self.key("client"), "-out", self.encrypted_key,
                      "-passout", f"pass:{KEY_PASSWORD}")  # fmt: skip
        both = folder / "broker.keystore.pem"
        both.write_text(self.key("broker").read_text() + self.broker.read_text())
        self.keystore = both

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def _authority(self, name: str) -> Path:
        made = self.folder / f"{name}.pem"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                      "-keyout", self.key(name), "-out", made)  # fmt: skip
        return made

    def _signed(self, name: str, extension: str, authority: str) -> Path:
        request, made, extensions = (self.folder / f"{name}.{end}" for end in ("csr", "pem", "ext"))
        extensions.write_text(extension)
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", self.key(name),
                      "-out", request)  # fmt: skip
        self._openssl("x509", "-req", "-in", request, "-CA", self.folder / f"{authority}.pem", "-CAkey",
                      self.key(authority), "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out",
                      made)  # fmt: skip
        return made

    @staticmethod
    def _openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def properties(certificates: Certificates) -> dict[str, object]:
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{PASSWORD}" '
    plain += 'user_bob="bob" user_carol="carol";'
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    bearer += 'unsecuredLoginStringClaim_sub="broker";'
    chosen: dict[str, object] = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:alice;User:CN=client",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.plain.sasl.jaas.config": plain,
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.sasl.oauthbearer.sasl.jaas.config": bearer,
        "listener.name.sasltls.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasltls.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.mtls.ssl.client.auth": "required",
    }
    for listener in ("tls", "mtls", "sasltls"):
        chosen[f"listener.name.{listener}.ssl.keystore.type"] = "PEM"
        chosen[f"listener.name.{listener}.ssl.keystore.location"] = certificates.keystore
        chosen[f"listener.name.{listener}.ssl.truststore.type"] = "PEM"
        chosen[f"listener.name.{listener}.ssl.truststore.location"] = certificates.ca
    return chosen


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[KafkaBroker]:
    scram = [f"SCRAM-SHA-{size}=[name=alice,password={PASSWORD}]" for size in (256, 512)]
    made = KafkaBroker(
        tmp_path_factory.mktemp("secure-kafka"),
        listeners={"TLS": "SSL", "MTLS": "SSL", "SASL": "SASL_PLAINTEXT", "SASLTLS": "SASL_SSL"},
        properties=properties(certificates),
        format_arguments=[argument for one in scram for argument in ("--add-scram", one)],
    )
    try:
        made.start()
        # Carol may read one topic, but is no member of any group; Bob may do nothing.
        command = ["java", "-cp", jars(), "org.apache.kafka.tools.AclCommand", "--bootstrap-server", made.bootstrap]
        command += ["--add", "--allow-principal", "User:carol", "--operation", "Read", "--topic", OPEN_TOPIC]
        subprocess.run(command, check=True, capture_output=True)
        yield made
    finally:
        made.discard()


@pytest.fixture(autouse=True)
async def topics(broker: KafkaBroker) -> None:
    async with open_admin(KafkaSettings.model_validate({"bootstrap": broker.bootstrap})) as admin:
        for topic in (OPEN_TOPIC, CLOSED_TOPIC):
            await admin.create_topic(topic, 1)


def login(mechanism: str, username: str = "alice", password: str = PASSWORD) -> dict[str, str]:
    return {"mechanism": mechanism, "username": username, "password": password}


def at(broker: KafkaBroker, listener: str, **section: Any) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": broker.address(listener)} | section)


def unsecured_token(user: str, life: float = 3600) -> str:
    """A JWS without signature, as the broker's development handler takes it."""
    claims = {"sub": user, "iat": time.time(), "exp": time.time() + life}
    parts = [base64.urlsafe_b64encode(orjson.dumps(part)).decode().rstrip("=") for part in ({"alg": "none"}, claims)]
    return ".".join([*parts, ""])


async def works(settings: KafkaSettings) -> None:
    """Admin calls and a group member, over every connection that these need."""
    async with open_admin(settings) as admin:
        assert (await admin.cluster()).brokers
        assert OPEN_TOPIC in await admin.topics([OPEN_TOPIC])
        assert await admin.offsets(OPEN_TOPIC, [0], "latest") == {0: 0}

    async def drained() -> None:
        return None

    member = GroupMember(settings, f"group-{uuid.uuid4().hex}", [OPEN_TOPIC], lambda assignment: None, drained)
    await member.start()
    try:
        assert await member.confirm() is not None
    finally:
        await member.stop()


async def refusal(settings: KafkaSettings) -> StreamdError:
    with pytest.raises(StreamdError) as caught:
        await KafkaAdmin(settings).start()
    assert PASSWORD not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_users_with_passwords_get_in(broker, mechanism):
    await works(at(broker, "SASL", sasl=login(mechanism)))


async def test_a_password_over_tls(broker, certificates):
    await works(at(broker, "SASLTLS", sasl=login("SCRAM-SHA-512"), tls={"ca": certificates.ca}))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_told(broker, mechanism):
    error = await refusal(at(broker, "SASL", sasl=login(mechanism, password="wrong-one")))
    assert isinstance(error, AccessDeniedError)
    assert f"refused the login as user alice with {mechanism}" in str(error)
    assert "`kafka.sasl`" in str(error)
    assert "wrong-one" not in str(error)


async def test_a_mechanism_that_the_listener_does_not_take_is_told(broker, certificates):
    error = await refusal(at(broker, "SASLTLS", sasl=login("PLAIN"), tls={"ca": certificates.ca}))
    assert isinstance(error, AccessDeniedError)
    assert "`kafka.sasl.mechanism`" in str(error)
    assert "as user alice with PLAIN:" in str(error)


async def test_a_token_gets_in(broker):
    await works(at(broker, "SASL", sasl={"mechanism": "OAUTHBEARER", "oauth": {"token": unsecured_token("alice")}}))


async def test_a_token_from_a_provider_gets_in(broker):
    asked: list[Any] = []

    async def give(request: web.Request) -> web.Response:
        asked.append(await request.post())
        return web.json_response({"access_token": unsecured_token("alice"), "expires_in": 3600})

    application = web.Application()
    application.router.add_post("/token", give)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = "http://{}:{}/token".format(*runner.addresses[0][:2])
        oauth = {"token_url": url, "client_id": "streamd", "client_secret": PASSWORD}
        await works(at(broker, "SASL", sasl={"mechanism": "OAUTHBEARER", "oauth": oauth}))
    finally:
        await runner.cleanup()
    assert len(asked) == 1, "all connections share a token"


async def test_a_token_that_has_expired_is_refused(broker):
    token = unsecured_token("alice", life=-60)
    error = await refusal(at(broker, "SASL", sasl={"mechanism": "OAUTHBEARER", "oauth": {"token": token}}))
    assert isinstance(error, AccessDeniedError)
    assert "the token was refused" in str(error)
    assert token not in str(error)


async def test_a_provider_that_is_down_is_the_reason_given(broker):
    oauth = {"token_url": "http://127.0.0.1:1/token", "client_id": "streamd", "client_secret": PASSWORD}
    error = await refusal(at(broker, "SASL", sasl={"mechanism": "OAUTHBEARER", "oauth": oauth}))
    assert isinstance(error, UnavailableError)
    assert "http://127.0.0.1:1/token cannot be reached" in str(error)


async def test_tls_with_the_right_authority(broker, certificates):
    settings = at(broker, "TLS", tls={"ca": certificates.ca})
    async with open_admin(settings) as admin:
        assert (await admin.cluster()).brokers


@pytest.mark.parametrize("authority", ["foreign", "the machine's"])
async def test_a_broker_of_another_authority_is_not_trusted(broker, certificates, authority):
    error = await refusal(at(broker, "TLS", tls={"ca": certificates.foreign_ca} if authority == "foreign" else True))
    assert isinstance(error, FatalError)
    assert "is not trusted" in str(error)
    assert "`kafka.tls.ca`" in str(error)


async def test_a_certificate_for_another_host_is_not_trusted(broker, certificates):
    address = broker.address("TLS").replace("localhost", "127.0.0.1")
    error = await refusal(KafkaSettings.model_validate({"bootstrap": address, "tls": {"ca": certificates.ca}}))
    assert isinstance(error, FatalError)
    assert "127.0.0.1" in str(error)
    lax = {"bootstrap": address, "tls": {"ca": certificates.ca, "check_hostname": False}}
    async with open_admin(KafkaSettings.model_validate(lax)) as admin:
        assert (await admin.cluster()).brokers


async def test_no_verification_when_asked_for(broker):
    async with open_admin(at(broker, "TLS", tls={"verify": False})) as admin:
        assert (await admin.cluster()).brokers


async def test_a_client_certificate_gets_in(broker, certificates):
    tls = {"ca": certificates.ca, "certificate": certificates.client, "key": certificates.key("client")}
    await works(at(broker, "MTLS", tls=tls))


async def test_a_client_certificate_with_an_encrypted_key(broker, certificates):
    tls = {"ca": certificates.ca, "certificate": certificates.client, "key": certificates.encrypted_key}
    await works(at(broker, "MTLS", tls={**tls, "key_password": KEY_PASSWORD}))
    for wrong in ({}, {"key_password": "wrong"}):
        error = await refusal(at(broker, "MTLS", tls={**tls, **wrong}))
        assert isinstance(error, FatalError)
        assert "kafka.tls.certificate" in str(error)


@pytest.mark.parametrize("which", ["none", "foreign"])
async def test_a_missing_or_foreign_client_certificate_is_told(broker, certificates, which):
    tls: dict[str, Any] = {"ca": certificates.ca}
    if which == "foreign":
        tls |= {"certificate": certificates.foreign_client, "key": certificates.key("stranger")}
    error = await refusal(at(broker, "MTLS", tls=tls))
    assert isinstance(error, AccessDeniedError)
    assert "`kafka.tls.certificate`" in str(error)


async def test_tls_to_a_port_without_it(broker):
    error = await refusal(
        at(broker, "PLAINTEXT", tls=True, options={"request.timeout.ms": 2000, "fetch.max.wait.ms": 0})
    )
    assert "TLS" in str(error) or "SSL" in str(error)
    assert "`kafka.bootstrap`" in str(error)


async def test_no_tls_to_a_port_with_it(broker):
    error = await refusal(at(broker, "TLS", options={"request.timeout.ms": 2000, "fetch.max.wait.ms": 0}))
    assert isinstance(error, UnavailableError)
    assert "its listener speaks PLAINTEXT, as `kafka.tls` and `kafka.sasl` say" in str(error)


async def test_no_login_to_a_port_that_wants_one(broker):
    error = await refusal(at(broker, "SASL", options={"request.timeout.ms": 2000, "fetch.max.wait.ms": 0}))
    assert isinstance(error, UnavailableError)
    assert "`kafka.sasl`" in str(error)


async def test_a_user_without_rights_is_told_what_is_denied(broker):
    async with open_admin(at(broker, "SASL", sasl=login("PLAIN", "bob", "bob"))) as admin:
        with pytest.raises(AccessDeniedError, match=r"user bob with PLAIN to describe topic closed: .*topic closed"):
            await admin.topics([CLOSED_TOPIC])
        with pytest.raises(AccessDeniedError, match="to create topic another"):
            await admin.create_topic("another", 1)
        with pytest.raises(AccessDeniedError, match="group secret-group"):
            await admin.describe_group("secret-group")
        with pytest.raises(AccessDeniedError, match="topic closed"):
            await admin.offsets(CLOSED_TOPIC, [0], "latest")


async def test_a_user_who_may_read_but_not_join_is_told_the_group(broker):
    async def drained() -> None:
        return None

    settings = at(broker, "SASL", sasl=login("PLAIN", "carol", "carol"))
    member = GroupMember(settings, "carols-group", [OPEN_TOPIC], lambda assignment: None, drained)
    with pytest.raises(AccessDeniedError, match="carols-group"):
        await member.start()
    other = GroupMember(settings, "carols-group", [CLOSED_TOPIC], lambda assignment: None, drained)
    with pytest.raises(AccessDeniedError, match="topic closed"):
        await other.start()


def examined(broker: KafkaBroker, folder: Path, listener: str, user: dict[str, str], tls: str = "") -> Ended:
    """`streamd doctor --json` of a pipeline that copies a topic to another, as one of the users."""
    sasl = ", ".join(f"{name}: '{value}'" for name, value in user.items())
    config = service_file(folder, "secure", kafka=f"{{bootstrap: '{broker.address(listener)}', sasl: {{{sasl}}}{tls}}}")
    (folder / "p.yaml").write_text(
        f"name: p\nsource: {{kafka: {{topic: {OPEN_TOPIC}}}}}\nsink: {{kafka: {{topic: {CLOSED_TOPIC}}}}}\n"
    )
    return streamd("doctor", folder / "p.yaml", "--config", config, "--json")


async def test_the_doctor_gets_in_by_password_and_tls(broker, certificates, tmp_path):
    tls = f", tls: {{ca: '{certificates.ca}'}}"
    done = await asyncio.to_thread(examined, broker, tmp_path, "SASLTLS", login("SCRAM-SHA-512"), tls)
    assert done.code == 0, done.all
    assert PASSWORD not in done.all
    allowed = {one["subject"] for one in orjson.loads(done.out)["findings"] if one["check"] == "permission"}
    assert allowed == {f"topic {OPEN_TOPIC}", f"topic {CLOSED_TOPIC}", "group streamd.secure.p",
                       "transactional id streamd.secure.*"}  # fmt: skip


async def test_the_doctor_names_every_permission_that_is_lacking(broker, tmp_path):
    done = await asyncio.to_thread(examined, broker, tmp_path, "SASL", login("PLAIN", "carol", "carol"))
    assert done.code == 1, done.all
    findings = orjson.loads(done.out)["findings"]
    denied = {one["subject"]: one["remedy"] for one in findings if one["level"] == "problem"}
    assert denied == {
        f"topic {CLOSED_TOPIC}": f"Grant Describe, Write on the topic {CLOSED_TOPIC}.",
        "group streamd.secure.p": "Grant Read and Describe on the group streamd.secure.p to the principal of "
        "`kafka.sasl`.",
        "transactional id streamd.secure.*": "Grant Write and Describe on transactional ids that start with "
        "`streamd.secure.`, and Read on the group.",
    }
    assert {one["subject"]: one["seen"] for one in findings if one["level"] == "ok"}[f"topic {OPEN_TOPIC}"]
    unread = {one["check"] for one in findings if one["level"] == "warning"}
    assert {"broker settings", "topic settings"} <= unread


async def test_the_doctor_says_that_a_login_is_refused(broker, tmp_path):
    done = await asyncio.to_thread(examined, broker, tmp_path, "SASL", login("PLAIN", "alice", "wrong-one"))
    assert done.code == 1
    [problem] = [one for one in orjson.loads(done.out)["findings"] if one["level"] == "problem"]
    assert problem["check"] == "connection"
    assert "refused the login as user alice with PLAIN" in problem["seen"]
    assert "wrong-one" not in done.all
