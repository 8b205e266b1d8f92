"""The metrics of several processes as one, and how they are written out."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from streamd.observability import catalog
from streamd.observability.catalog import CATALOG
from streamd.observability.merge import MergedMetrics
from streamd.observability.metrics import MetricSet


def worker(records: float, lag: float = 0, partition: int = 0) -> MetricSet:
    metrics = MetricSet()
    metrics.counter(catalog.SOURCE_RECORDS, pipeline="p", source="s").add(records)
    metrics.histogram(catalog.LATENCY, pipeline="p").observe(0.03, int(records))
    metrics.gauge(catalog.SOURCE_LAG_RECORDS, source="s", pipeline="p", part=0, partition=partition).set(lag)
    return metrics


def samples(merged: MergedMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page, _ = merged.exposition()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(page.decode())
        for sample in family.samples
    }


def test_counters_and_histograms_are_sums_and_gauges_stand_side_by_side():
    merged = MergedMetrics()
    merged.update("worker-0", worker(10, lag=3, partition=0).snapshot())
    merged.update("worker-1", worker(5, lag=4, partition=1).snapshot())
    assert merged.totals(catalog.SOURCE_RECORDS) == 15
    assert merged.totals(catalog.LATENCY, pipeline="p") == 15
    assert merged.by(catalog.SOURCE_LAG_RECORDS, "partition") == {"0": 3, "1": 4}
    assert merged.totals(catalog.SOURCE_RECORDS, pipeline="other") == 0


def test_counters_stay_and_gauges_go_when_a_worker_dies():
    merged = MergedMetrics()
    merged.update("worker-0", worker(10, lag=3).snapshot())
    merged.forget("worker-0")
    assert merged.totals(catalog.SOURCE_RECORDS) == 10
    assert merged.totals(catalog.LATENCY) == 10
    assert merged.series(catalog.SOURCE_LAG_RECORDS) == {}
    merged.forget("worker-0")
    assert merged.totals(catalog.SOURCE_RECORDS) == 10


def test_a_replaced_worker_counts_on_also_when_nobody_said_that_the_old_one_died():
    merged = MergedMetrics()
    merged.update("worker-0", worker(10).snapshot())
    merged.update("worker-0", worker(25).snapshot())
    assert merged.totals(catalog.SOURCE_RECORDS) == 35
    assert sum(merged.buckets(catalog.LATENCY)[("p",)]) == 35


def test_a_series_that_a_process_dropped_keeps_its_total():
    merged = MergedMetrics()
    metrics = worker(10, lag=3)
    metrics.counter(catalog.SOURCE_RECORDS, pipeline="q", source="s").add(1)
    merged.update("worker-0", metrics.snapshot())
    metrics.remove(pipeline="p")
    merged.update("worker-0", metrics.snapshot())
    assert merged.by(catalog.SOURCE_RECORDS, "pipeline") == {"p": 10, "q": 1}
    assert merged.series(catalog.SOURCE_LAG_RECORDS) == {}
    metrics.counter(catalog.SOURCE_RECORDS, pipeline="p", source="s").add(2)
    merged.update("worker-0", metrics.snapshot())
    assert merged.totals(catalog.SOURCE_RECORDS, pipeline="p") == 12


def test_counts_of_a_removed_pipeline_can_be_forgotten():
    merged = MergedMetrics()
    merged.update("worker-0", worker(10).snapshot())
    merged.forget("worker-0")
    merged.remove(pipeline="other")
    assert merged.totals(catalog.SOURCE_RECORDS) == 10
    merged.remove(pipeline="p")
    assert merged.collect() == []


def test_forgetting_without_keeping_counters():
    merged = MergedMetrics()
    merged.update("worker-0", worker(10).snapshot())
    merged.forget("worker-0", keep_counters=False)
    assert merged.totals(catalog.SOURCE_RECORDS) == 0


def test_gauges_with_the_same_labels_merge_as_the_catalog_says():
    merged = MergedMetrics()
    for source, value in (("a", 1.0), ("b", 3.0)):
        metrics = MetricSet()
        metrics.gauge(catalog.PIPELINES, state="running").set(value)
        metrics.gauge(catalog.TRANSACTION_AGE, pipeline="p", part=0, partition=0).set(value)
        metrics.gauge(catalog.LIVE).set(value)
        merged.update(source, metrics.snapshot())
    assert merged.totals(catalog.PIPELINES) == 4
    assert merged.totals(catalog.TRANSACTION_AGE) == 3
    assert merged.totals(catalog.LIVE) == 1


def test_merging_leaves_the_snapshots_alone():
    merged = MergedMetrics()
    first, second = worker(10).snapshot(), worker(5).snapshot()
    merged.update("worker-0", first)
    merged.update("worker-1", second)
    for _ in range(3):
        assert merged.totals(catalog.SOURCE_RECORDS) == 15
        assert sum(merged.buckets(catalog.LATENCY)[("p",)]) == 15
    merged.forget("worker-0")
    for _ in range(3):
        assert merged.totals(catalog.LATENCY) == 15


def test_the_page_says_what_was_counted():
    merged = MergedMetrics()
    merged.update("worker-0", worker(10, lag=3).snapshot())
    page = samples(merged)
    assert page["streamd_source_records_total", (("pipeline", "p"), ("source", "s"))] == 10
    place = (("part", "0"), ("partition", "0"), ("pipeline", "p"), ("source", "s"))
    assert page["streamd_source_lag_records", place] == 3
    assert page["streamd_end_to_end_latency_seconds_count", (("pipeline", "p"),)] == 10
    assert page["streamd_end_to_end_latency_seconds_sum", (("pipeline", "p"),)] == 0.3
    assert page["streamd_end_to_end_latency_seconds_bucket", (("le", "0.02"), ("pipeline", "p"))] == 0
    assert page["streamd_end_to_end_latency_seconds_bucket", (("le", "0.03"), ("pipeline", "p"))] == 10
    assert page["streamd_end_to_end_latency_seconds_bucket", (("le", "+Inf"), ("pipeline", "p"))] == 10


def test_every_metric_of_the_catalog_can_be_written_and_read_back():
    metrics = MetricSet()
    for metric in CATALOG.values():
        labels = dict.fromkeys(metric.labels, 'a "quoted\\" \n value')
        {"counter": metrics.counter, "gauge": metrics.gauge, "histogram": metrics.histogram}[metric.kind](
            metric, **labels
        )
    merged = MergedMetrics()
    merged.update("all", metrics.snapshot())
    text, text_type = merged.exposition("text/plain;version=0.0.4")
    open_text, open_type = merged.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert text_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    names = {name.removesuffix("_total") for name in CATALOG}
    for families in (list(parse(text.decode())), list(parse_openmetrics(open_text.decode()))):
        assert {family.name.removesuffix("_total") for family in families} == names
        for family in families:
            for sample in family.samples:
                assert set(sample.labels.values()) - {sample.labels.get("le")} <= {'a "quoted\\" \n value'}


def test_families_that_this_version_does_not_know_are_left_out():
    merged = MergedMetrics()
    snapshot = worker(1).snapshot()
    snapshot.families[0].name = "streamd_from_another_version_total"
    merged.update("worker-0", snapshot)
    assert merged.totals(catalog.SOURCE_RECORDS) == 0
    assert merged.totals(catalog.LATENCY) == 1
