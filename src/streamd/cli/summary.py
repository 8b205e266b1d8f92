"""The end-of-run summary."""

from __future__ import annotations

from collections.abc import Iterator

from streamd.supervisor.run import PipelineSummary, RunSummary


def summary_lines(summary: RunSummary) -> Iterator[str]:
    """One line for the whole run, and before it one for each pipeline where there are several or one failed."""
    width = max((len(pipeline.name) for pipeline in summary.pipelines), default=0)
    if len(summary.pipelines) > 1:
        for pipeline in summary.pipelines:
            yield f"{pipeline.name:<{width}}  {_counts(pipeline)}  {pipeline.state}"
    for pipeline in summary.pipelines:
        if pipeline.state == "failed":
            yield f"pipeline {pipeline.name} failed: {pipeline.error or 'no reason is known'}"
    rate = summary.records_processed / summary.seconds if summary.seconds > 0 else 0.0
    yield f"{_counts(summary)} in {summary.seconds:.2f} s ({rate:,.0f} records/s)"


def _counts(counts: PipelineSummary | RunSummary) -> str:
    errors = "1 error" if counts.errors == 1 else f"{counts.errors:,} errors"
    records = "1 record" if counts.records_processed == 1 else f"{counts.records_processed:,} records"
    return f"{records} processed, {counts.records_filtered:,} filtered, {errors}"
