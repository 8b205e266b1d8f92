"""streamd: stream processing as a daemon. YAML in, exactly once out, on Kafka or without any server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamd.version import __version__

if TYPE_CHECKING:
    from streamd.config.pipeline import ErrorPolicy
    from streamd.pipeline import DataSink, DataSource, Pipeline, PipelineMetrics, PipelineStage, StreamProcessor
    from streamd.record import Record

__all__ = [
    "DataSink",
    "DataSource",
    "ErrorPolicy",
    "Pipeline",
    "PipelineMetrics",
    "PipelineStage",
    "Record",
    "StreamProcessor",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # On first use: the command line must start without importing the engine.
    if name in __all__:
        import streamd.pipeline

        return getattr(streamd.pipeline, name)
    raise AttributeError(f"module 'streamd' has no attribute {name!r}")
