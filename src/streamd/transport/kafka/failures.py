"""What went wrong with Kafka, said so that a person knows what to change: aiokafka's exceptions as streamd's errors."""

from __future__ import annotations

import asyncio
import ssl

from aiokafka.errors import KafkaError

from streamd.errors import AccessDeniedError, FatalError, NotFoundError, StreamdError, TransientError, UnavailableError
from streamd.transport.kafka.error_codes import MEANINGS, meaning
from streamd.transport.kafka.settings import KafkaSettings

_UNKNOWN_TOPIC = 3
_TOPIC_DENIED, _GROUP_DENIED, _CLUSTER_DENIED, _TRANSACTION_DENIED = 29, 30, 31, 53
_NO_MECHANISM, _BAD_SASL_STATE, _LOGIN_REFUSED = 33, 34, 58
# aiokafka has a second class for a few codes, without a number.
_UNNUMBERED = {"AuthenticationFailedError": _LOGIN_REFUSED, "AuthenticationMethodNotSupported": _NO_MECHANISM}


def explain(
    error: BaseException,
    settings: KafkaSettings,
    doing: str,
    *,
    topic: str | None = None,
    group: str | None = None,
) -> StreamdError:
    """The error to raise in place of `error`.

    `doing`: what was tried, as it follows `to` ("read topic orders"). `topic`, `group`: what it was tried on, for
    errors of authorization and of missing topics.
    """
    if isinstance(error, StreamdError):
        return error
    if isinstance(reason := getattr(error, "reason", None), StreamdError):
        return reason
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, ssl.SSLError):
            return _tls(cause, settings)
    code = _UNNUMBERED.get(type(error).__name__, getattr(error, "errno", None))
    if isinstance(error, KafkaError) and isinstance(code, int) and code in MEANINGS:
        return of_code(code, settings, doing, topic=topic, group=group, detail=_detail(error))
    if isinstance(error, KafkaError) and not error.retriable:
        return FatalError(f"Kafka at {settings.address} failed to {doing}: {_detail(error) or type(error).__name__}")
    if isinstance(error, (KafkaError, OSError, TimeoutError, asyncio.TimeoutError)):
        return unreachable(settings, doing, _detail(error) or type(error).__name__)
    return FatalError(f"failed to {doing}: {type(error).__name__}: {error}")


def unreachable(settings: KafkaSettings, doing: str, reason: str) -> UnavailableError:
    """The error for brokers that do not answer."""
    return UnavailableError(
        f"Kafka cannot be reached at {settings.address} to {doing}: {reason}. Check that a broker runs there, that "
        f"`kafka.bootstrap` names the right host and port, and that its listener speaks {settings.security_protocol}, "
        "as `kafka.tls` and `kafka.sasl` say"
    )


def of_code(
    code: int,
    settings: KafkaSettings,
    doing: str,
    *,
    topic: str | None = None,
    group: str | None = None,
    detail: str | None = None,
) -> StreamdError:
    """The error for one of Kafka's error codes."""
    said = f" ({detail})" if detail else ""
    if code == _UNKNOWN_TOPIC and topic is not None:
        return missing_topic(settings, topic)
    if code in (_LOGIN_REFUSED, _BAD_SASL_STATE):
        return AccessDeniedError(
            f"Kafka at {settings.address} refused the login {_who(settings)}{said}: check `kafka.sasl`"
        )
    if code == _NO_MECHANISM:
        return AccessDeniedError(
            f"Kafka at {settings.address} does not take logins {_who(settings)}{said}: check `kafka.sasl.mechanism`"
        )
    denied = {
        _TOPIC_DENIED: f"topic {topic}" if topic else "the topic",
        _GROUP_DENIED: f"group {group}" if group else "the group",
        _CLUSTER_DENIED: "the cluster",
        _TRANSACTION_DENIED: "the transactional id",
    }
    if what := denied.get(code):
        return AccessDeniedError(
            f"Kafka at {settings.address} does not allow {_who(settings)} to {doing}: access to {what} is denied; "
            f"grant it with an ACL for that principal{said}"
        )
    known = meaning(code)
    kind = TransientError if known.error is StreamdError else known.error
    return kind(f"Kafka at {settings.address} refused to {doing}: {known.name} ({code}){said}")


def missing_topic(settings: KafkaSettings, topic: str) -> NotFoundError:
    """The error for a topic that is not there and may not be made."""
    return NotFoundError(
        f"topic {topic} does not exist at {settings.address}: create it, or let streamd do so with "
        "`create_topics: true` in streamd.yaml (and `create:` in the sink or source for its partitions)"
    )


def _who(settings: KafkaSettings) -> str:
    """Who we are to Kafka. User names are no secrets; an operator needs them to write the ACL."""
    if settings.sasl is not None:
        user = f"as user {settings.sasl.username} " if settings.sasl.username else ""
        return f"{user}with {settings.sasl.mechanism}"
    if settings.tls is not None and settings.tls.certificate is not None:
        return f"with the certificate {settings.tls.certificate}"
    return "without login (User:ANONYMOUS)"


def _tls(error: ssl.SSLError, settings: KafkaSettings) -> StreamdError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return FatalError(
            f"the certificate of Kafka at {settings.address} is not trusted: {error.verify_message}; check "
            "`kafka.tls.ca`, and that the certificate names the host in `kafka.bootstrap`"
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason:
        return FatalError(
            f"Kafka at {settings.address} does not speak TLS on that port ({reason}): check the port in "
            "`kafka.bootstrap`, or take `kafka.tls` out"
        )
    if "alert" in reason or "certificate" in reason:
        return AccessDeniedError(
            f"Kafka at {settings.address} refused the TLS connection ({reason}): check `kafka.tls.certificate` and "
            "`kafka.tls.key`; the broker may want a client certificate, or one of another authority"
        )
    return UnavailableError(f"no TLS connection to Kafka at {settings.address}: {reason}")


def _detail(error: BaseException) -> str | None:
    if isinstance(error, OSError):
        return str(error) or None
    # aiokafka passes connections and requests along with texts; they say nothing, and may hold what must not be shown.
    text = ": ".join(str(part) for part in error.args if isinstance(part, (str, int)))
    return text or None
