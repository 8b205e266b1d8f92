"""The Python API: pipelines built in code, and sources, stages and sinks of one's own."""

from streamd.config.pipeline import ErrorPolicy
from streamd.pipeline.build import Pipeline, PipelineMetrics
from streamd.pipeline.own import DataSink, DataSource, PipelineStage
from streamd.pipeline.processor import StreamProcessor
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
]
