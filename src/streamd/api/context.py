"""What the routes work on: the node's status, its metrics, and the rates made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from streamd.api.options import ApiOptions
from streamd.api.peers import Peers, ViewSource
from streamd.clock import Clock
from streamd.observability import catalog
from streamd.observability.health import live, ready
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet
from streamd.observability.rates import Rates
from streamd.observability.status import NodeStatus

RATED = (
    catalog.SOURCE_RECORDS,
    catalog.SOURCE_BYTES,
    catalog.STAGE_INPUT,
    catalog.STAGE_OUTPUT,
    catalog.STAGE_FILTERED,
    catalog.SINK_RECORDS,
    catalog.SINK_BYTES,
    catalog.FAILED_RECORDS,
    catalog.LATENCY,
)


class StatusSource(Protocol):
    """Who knows how the node does: the supervisor. Both are asked on the event loop and answer at once."""

    def status(self) -> NodeStatus:
        """The node at this moment."""

    @property
    def metrics(self) -> MergedMetrics:
        """The metrics of all processes of the node; the HTTP server adds its own under the source `api`."""


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Handed to every route. `views`: None where nobody keeps any; `peers`: the other nodes."""

    source: StatusSource
    clock: Clock
    rates: Rates
    own: MetricSet
    peers: Peers
    views: ViewSource | None = None

    @classmethod
    def of(cls, source: StatusSource, options: ApiOptions, clock: Clock) -> ApiContext:
        """Raises ConfigError when what other nodes are asked with is not usable."""
        views: ViewSource | None = getattr(source, "views", None)
        return cls(source, clock, Rates(source.metrics, RATED, clock), MetricSet(), Peers(options), views)

    def sample(self) -> None:
        """Note what rates are made of. Called once a second."""
        self.rates.sample()

    def publish(self) -> None:
        """Bring the server's own metrics, and health as a metric, up to date."""
        status = self.source.status()
        self.own.gauge(catalog.LIVE).set(live(status).ok)
        self.own.gauge(catalog.READY).set(ready(status).ok)
        self.source.metrics.update("api", self.own.snapshot())


CONTEXT = web.AppKey("CONTEXT", ApiContext)
