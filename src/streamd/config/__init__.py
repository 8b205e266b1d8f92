"""YAML with positions → models → checked configuration, or diagnostics. Reads files and nothing else."""

from streamd.config.load import load_pipeline_text, load_pipelines, load_service
from streamd.config.pipeline import (
    ComponentConfig,
    ErrorPolicy,
    ErrorThreshold,
    PipelineConfig,
    Place,
)
from streamd.config.service import ServiceConfig

__all__ = [
    "ComponentConfig",
    "ErrorPolicy",
    "ErrorThreshold",
    "PipelineConfig",
    "Place",
    "ServiceConfig",
    "load_pipeline_text",
    "load_pipelines",
    "load_service",
]
