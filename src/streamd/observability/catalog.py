"""Every metric that streamd exports, in one table: the reference docs, the exposition and the checks are made from it.

Names are `streamd_<thing>_<unit>`, counters end in `_total`, units are base units (seconds, bytes, records). Label
values are ids from the configuration, numbers, or class names: never record contents.

Labels: `pipeline` its name; `source`, `stage`, `sink`, `component` an id within the pipeline; `part` and `partition`
the task within the pipeline; `worker` its number, or `supervisor`; `error` a class name from the error tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricKind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `buckets`: upper bounds, rising, without +Inf. `merge`: what a gauge with the same labels in several
    processes adds up to; counters and histograms are always summed."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Merge = "sum"

    def __hash__(self) -> int:
        return hash(self.name)


CATALOG: dict[str, Metric] = {}

# A chain over a batch takes 100 µs to seconds; a commit to Kafka 3 ms to the request timeout.
DURATION_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# End to end reaches from a quiet pipeline's few milliseconds to a backlog of hours.
LATENCY_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0),
    *(15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0),
)
BATCH_BUCKETS = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 50000)

_TASK = ("pipeline", "part", "partition")


def _add(metric: Metric) -> Metric:
    if metric.name in CATALOG:
        raise ValueError(f"metric {metric.name} is in the catalog twice")
    CATALOG[metric.name] = metric
    return metric


def _counter(name: str, help: str, *labels: str) -> Metric:  # noqa: A002
    return _add(Metric(name, "counter", help, labels))


def _gauge(name: str, help: str, *labels: str, merge: Merge = "sum") -> Metric:  # noqa: A002
    return _add(Metric(name, "gauge", help, labels, merge=merge))


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Metric:  # noqa: A002
    return _add(Metric(name, "histogram", help, labels, buckets))


# -- sources -----------------------------------------------------------------------------------------------------------
SOURCE_RECORDS = _counter("streamd_source_records_total", "Records read from a source.", "pipeline", "source")
SOURCE_BYTES = _counter("streamd_source_bytes_total", "Bytes of keys and values read.", "pipeline", "source")
SOURCE_BATCH = _histogram(
    "streamd_source_batch_records", "Records in one batch read.", BATCH_BUCKETS, "pipeline", "source"
)
SOURCE_LAG_RECORDS = _gauge(
    "streamd_source_lag_records", "Records in the source that are not read yet.", "source", *_TASK, merge="max"
)
SOURCE_LAG_BYTES = _gauge(
    "streamd_source_lag_bytes", "Bytes of a file that are not read yet.", "source", *_TASK, merge="max"
)
SOURCE_UNSTABLE_RECORDS = _gauge(
    "streamd_source_unstable_records",
    "Records of a topic that open transactions of its writers hold back: high watermark less last stable offset.",
    *("source", *_TASK),
    merge="max",
)
SOURCE_UNSTABLE_SECONDS = _gauge(
    "streamd_source_unstable_seconds",
    "For how long the last stable offset of a partition has stood still while records were held back, 0 when none is.",
    *("source", *_TASK),
    merge="max",
)
SCHEMA_CHANGES = _counter(
    "streamd_source_schema_changes_total",
    "Changes of what a source gives, each once in each process, by kind: appeared, vanished or type_changed (a field).",
    *("pipeline", "source", "kind"),
)

# -- stages ------------------------------------------------------------------------------------------------------------
STAGE_INPUT = _counter("streamd_stage_input_records_total", "Records given to a stage.", "pipeline", "stage")
STAGE_OUTPUT = _counter("streamd_stage_output_records_total", "Records a stage passed on.", "pipeline", "stage")
STAGE_FILTERED = _counter(
    "streamd_stage_filtered_records_total", "Records a stage left out on purpose.", "pipeline", "stage"
)
STAGE_ROLLED_BACK = _counter(
    "streamd_stage_rolled_back_records_total",
    "Records that went on as they were because their transformation failed.",
    "pipeline",
    "stage",
)
STAGE_DURATION = _histogram(
    "streamd_stage_duration_seconds",
    "Time to process one batch in a stage, or in a chain of fused stages, named by their ids joined with '+'.",
    DURATION_BUCKETS,
    "pipeline",
    "stage",
)
STAGE_BATCH = _histogram(
    "streamd_stage_batch_records", "Records in one batch given to a stage or chain.", BATCH_BUCKETS, "pipeline", "stage"
)
RATE_LIMIT_WAIT = _counter(
    "streamd_rate_limit_wait_seconds_total", "Time a rate limit held records back.", "pipeline", "stage"
)
LATE_RECORDS = _counter(
    "streamd_late_records_total", "Records that came after their window was closed.", "pipeline", "stage"
)

# -- quality -----------------------------------------------------------------------------------------------------------
QUALITY_CHECKS = _counter(
    "streamd_quality_checks_total",
    "Checks of records by the rules of `validate`, by what came of them: passed or failed.",
    *("pipeline", "stage", "rule", "severity", "result"),
)
QUALITY_SCORE = _gauge(
    "streamd_quality_score",
    "Share of the records of the last window that passed a rule of `validate`; with an empty rule, that passed all.",
    *("stage", "rule", *_TASK),
    merge="min",
)

# -- state -------------------------------------------------------------------------------------------------------------
STATE_KEYS = _gauge("streamd_state_keys", "Keys that a stage remembers.", "stage", *_TASK, merge="max")
RESTORED_RECORDS = _counter(
    "streamd_restored_records_total",
    "Records read from changelogs to restore what stages remember; a task that keeps running restores nothing.",
    "pipeline",
)
STANDBYS = _gauge(
    "streamd_standbys",
    "Tasks of other nodes of whose state this node keeps a copy, by state: copying (not complete yet), following "
    "(ready to be used) or backing_off.",
    "pipeline",
    "state",
)
STANDBY_LAG = _gauge(
    "streamd_standby_lag_records",
    "Records of a task's changelogs that are committed, and that this node's copy of its state does not have yet.",
    *_TASK,
)

# -- tables ------------------------------------------------------------------------------------------------------------
_TABLE = ("pipeline", "table")
TABLE_ROWS = _gauge("streamd_table_rows", "Rows of a table that a worker holds whole.", *_TABLE, merge="max")
TABLE_RECORDS = _counter("streamd_table_records_total", "Records read into a table, by all workers together.", *_TABLE)
TABLE_LAG = _gauge("streamd_table_lag_records", "Records for a table that are not read yet.", *_TABLE, merge="max")
TABLE_AGE = _gauge(
    "streamd_table_update_age_seconds", "Time since a worker last read anything into a table.", *_TABLE, merge="max"
)
TABLE_LOADED = _gauge(
    "streamd_table_loaded", "1 when every worker that looks rows up in a table has all of it, else 0.", *_TABLE,
    merge="min",
)  # fmt: skip

# -- sinks -------------------------------------------------------------------------------------------------------------
SINK_RECORDS = _counter("streamd_sink_records_total", "Records given to a sink.", "pipeline", "sink")
SINK_BYTES = _counter("streamd_sink_bytes_total", "Bytes of keys and values given to a sink.", "pipeline", "sink")
SINK_BATCH = _histogram(
    "streamd_sink_batch_records", "Records in one batch given to a sink.", BATCH_BUCKETS, "pipeline", "sink"
)
SINK_DURATION = _histogram(
    "streamd_sink_flush_duration_seconds",
    "Time until a sink had made everything it took durable, once for each checkpoint.",
    COMMIT_BUCKETS,
    "pipeline",
    "sink",
)
SINK_BACKLOG = _gauge(
    "streamd_sink_backlog_bytes", "Bytes a sink took and has not written yet.", "sink", *_TASK, merge="max"
)
BACKPRESSURE = _counter(
    "streamd_backpressure_seconds_total", "Time reading paused because a sink had not kept up.", "pipeline"
)

# -- failures ----------------------------------------------------------------------------------------------------------
FAILED_RECORDS = _counter(
    "streamd_failed_records_total",
    "Records that failed for good, by the component and phase (extract, transform, load) they failed in.",
    *("pipeline", "component", "phase", "error"),
)
LEFT_OUT_FIELDS = _counter(
    "streamd_left_out_fields_total", "Fields left out because the sink's schema lacks them.", "pipeline", "sink"
)
SKIPPED_RECORDS = _counter(
    "streamd_skipped_records_total", "Failed records left out by on_error: skip.", "pipeline", "component", "error"
)
DEAD_LETTERS = _counter(
    "streamd_dead_letter_records_total",
    "Failed records sent to a dead letter, by the component and phase (extract, transform, load) they failed in.",
    *("pipeline", "component", "phase", "error"),
)
RETRIES = _counter("streamd_retries_total", "Attempts repeated after an error.", "pipeline", "component", "error")

# -- checkpoints -------------------------------------------------------------------------------------------------------
CHECKPOINTS = _counter("streamd_checkpoints_total", "Checkpoints committed.", "pipeline")
CHECKPOINT_FAILURES = _counter(
    "streamd_checkpoint_failures_total", "Checkpoints that failed or were fenced.", "pipeline", "error"
)
CHECKPOINT_DURATION = _histogram(
    "streamd_checkpoint_duration_seconds", "Time of a checkpoint, from flush to commit.", COMMIT_BUCKETS, "pipeline"
)
CHECKPOINT_RECORDS = _histogram(
    "streamd_checkpoint_records", "Records read between two checkpoints of a task.", BATCH_BUCKETS, "pipeline"
)
CHECKPOINT_TIME = _gauge(
    "streamd_checkpoint_last_timestamp_seconds", "When a task last committed, Unix time.", *_TASK, merge="max"
)
TRANSACTION_AGE = _gauge(
    "streamd_transaction_age_seconds", "Age of a task's open transaction, 0 when none is open.", *_TASK, merge="max"
)
TOPIC_UNSTABLE_RECORDS = _gauge(
    "streamd_topic_unstable_records",
    "Records held back by open transactions in the partitions of a topic that a pipeline writes: outputs, changelogs.",
    "topic",
    merge="max",
)
TOPIC_UNSTABLE_SECONDS = _gauge(
    "streamd_topic_unstable_seconds",
    "For how long the last stable offset of one of its partitions has stood still while records were held back.",
    "topic",
    merge="max",
)
LATENCY = _histogram(
    "streamd_end_to_end_latency_seconds",
    "From a record's timestamp to the commit of what came of it.",
    LATENCY_BUCKETS,
    "pipeline",
)
WATERMARK = _gauge(
    "streamd_watermark_timestamp_seconds", "Event time up to which a task has everything, Unix time.", *_TASK
)

# -- pipelines, tasks, workers -----------------------------------------------------------------------------------------
PIPELINES = _gauge("streamd_pipelines", "Pipelines on this node, by state.", "state")
TASKS = _gauge("streamd_tasks", "Tasks on this node, by state.", "pipeline", "state")
TASK_RESTARTS = _counter("streamd_task_restarts_total", "Tasks started again after an error.", "pipeline", "error")
WORKERS = _gauge("streamd_workers", "Worker processes, by state.", "state")
WORKER_RESTARTS = _counter("streamd_worker_restarts_total", "Worker processes replaced.", "worker")
WORKER_STALLS = _counter("streamd_worker_stalls_total", "Workers killed because a task made no progress.", "worker")
REBALANCES = _counter("streamd_group_rebalances_total", "Times a pipeline's group gave out partitions.", "pipeline")
TASKS_KEPT = _counter(
    "streamd_tasks_kept_total",
    "Tasks that stayed on this node through a rebalance, with their producer and state, added up over all rebalances.",
    "pipeline",
)
TASKS_MOVED = _counter(
    "streamd_tasks_moved_total",
    "Tasks that a rebalance brought to this node (direction in) or took from it (out).",
    *("pipeline", "direction"),
)

# -- processes ---------------------------------------------------------------------------------------------------------
PROCESS_CPU = _counter("streamd_process_cpu_seconds_total", "CPU time, user and system.", "worker")
PROCESS_MEMORY = _gauge("streamd_process_resident_memory_bytes", "Resident memory.", "worker", merge="max")
PROCESS_FILES = _gauge("streamd_process_open_files", "Open file descriptors.", "worker", merge="max")
PROCESS_THREADS = _gauge("streamd_process_threads", "Threads.", "worker", merge="max")
PROCESS_BLOCKS = _gauge(
    "streamd_process_allocated_blocks",
    "Blocks of memory that the interpreter has given to objects: rises with what is never freed.",
    "worker",
    merge="max",
)
LOOP_TASKS = _gauge("streamd_event_loop_tasks", "Tasks of the event loop that have not ended.", "worker", merge="max")
LOOP_FUTURES = _gauge(
    "streamd_event_loop_futures", "Futures that are not done, counted every ten seconds.", "worker", merge="max"
)
LOOP_LAG = _gauge(
    "streamd_event_loop_lag_seconds", "Longest time the event loop was late lately.", "worker", merge="max"
)
START_TIME = _gauge("streamd_start_timestamp_seconds", "When the supervisor started, Unix time.", merge="max")
BUILD_INFO = _gauge("streamd_build_info", "Always 1; the labels say what runs.", "version", "python", merge="max")
PIPELINE_INFO = _gauge(
    "streamd_pipeline_info",
    "Always 1; config is the start of the SHA-256 of the pipeline's text and of what it imports.",
    *("pipeline", "delivery", "config"),
    merge="max",
)

# -- health and HTTP ---------------------------------------------------------------------------------------------------
LIVE = _gauge("streamd_live", "1 when /health/live answers 200.", merge="min")
READY = _gauge("streamd_ready", "1 when /health/ready answers 200.", merge="min")
HTTP_REQUESTS = _counter("streamd_http_requests_total", "Requests answered, by route and status.", "route", "status")
LOG_LINES = _counter("streamd_log_lines_total", "Log lines of level warning and above.", "level")
LOG_SUPPRESSED = _counter("streamd_log_suppressed_lines_total", "Repeated log lines left out.")
