"""One process's metrics, and the table they come from."""

from __future__ import annotations

import re

import msgspec
import pytest

from streamd.observability import catalog
from streamd.observability.catalog import CATALOG, Metric
from streamd.observability.metrics import Histogram, MetricSet, Snapshot


def values(metrics: MetricSet, metric: Metric) -> dict[tuple[str, ...], float]:
    for family in metrics.snapshot().families:
        if family.name == metric.name:
            return dict(zip(family.labels, family.values, strict=True))
    return {}


@pytest.mark.parametrize("metric", CATALOG.values(), ids=str)
def test_catalog_keeps_its_naming_rules(metric: Metric):
    assert re.fullmatch(r"streamd_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not re.search(r"_(ms|millis|minutes|kb|mb|percent)(_|$)", metric.name)
    assert metric.help.endswith(".")
    assert all(re.fullmatch(r"[a-z_]+", label) and label != "le" for label in metric.labels)
    assert len(set(metric.labels)) == len(metric.labels)
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_the_same_labels_give_the_same_object():
    metrics = MetricSet()
    first = metrics.counter(catalog.SOURCE_RECORDS, pipeline="p", source="s")
    assert metrics.counter(catalog.SOURCE_RECORDS, source="s", pipeline="p") is first
    assert metrics.counter(catalog.SOURCE_RECORDS, pipeline="p", source="t") is not first


def test_label_values_become_text():
    metrics = MetricSet()
    gauge = metrics.gauge(catalog.WATERMARK, pipeline="p", part=0, partition=12)
    assert metrics.gauge(catalog.WATERMARK, pipeline="p", part="0", partition="12") is gauge


@pytest.mark.parametrize(
    "labels", [{}, {"pipeline": "p"}, {"pipeline": "p", "source": "s", "more": 1}, {"pipeline": "p", "sink": "s"}]
)
def test_wrong_labels_are_refused(labels: dict[str, str]):
    with pytest.raises(ValueError, match=r"it has \['pipeline', 'source'\]"):
        MetricSet().counter(catalog.SOURCE_RECORDS, **labels)


def test_a_metric_of_another_kind_or_from_elsewhere_is_refused():
    with pytest.raises(ValueError, match="is a counter, not a gauge"):
        MetricSet().gauge(catalog.SOURCE_RECORDS, pipeline="p", source="s")
    with pytest.raises(ValueError, match="not in the catalog"):
        MetricSet().counter(Metric("streamd_made_up_total", "counter", "Made up."))


def test_a_gauge_is_there_only_once_it_is_asked_for():
    metrics = MetricSet()
    assert values(metrics, catalog.WATERMARK) == {}
    metrics.gauge(catalog.WATERMARK, pipeline="p", part=0, partition=0).set(7)
    assert values(metrics, catalog.WATERMARK) == {("p", "0", "0"): 7}


def test_remove_takes_what_belongs_to_a_task_and_leaves_what_belongs_to_its_pipeline():
    metrics = MetricSet()
    metrics.counter(catalog.CHECKPOINTS, pipeline="p").add(3)
    for partition in range(3):
        metrics.gauge(catalog.TRANSACTION_AGE, pipeline="p", part=0, partition=partition).set(partition)
    metrics.remove(pipeline="p", part=0, partition=1)
    assert values(metrics, catalog.TRANSACTION_AGE) == {("p", "0", "0"): 0, ("p", "0", "2"): 2}
    assert values(metrics, catalog.CHECKPOINTS) == {("p",): 3}
    metrics.remove(pipeline="p")
    assert metrics.snapshot().families == []


def test_hooks_run_before_each_snapshot_until_taken_out():
    metrics = MetricSet()
    counter = metrics.counter(catalog.CHECKPOINTS, pipeline="p")
    forget = metrics.before_snapshot(counter.add)
    metrics.snapshot()
    metrics.snapshot()
    forget()
    forget()
    assert values(metrics, catalog.CHECKPOINTS) == {("p",): 2}


def test_a_snapshot_is_a_copy_that_survives_the_wire():
    metrics = MetricSet()
    histogram = metrics.histogram(catalog.LATENCY, pipeline="p")
    histogram.observe(0.02, 5)
    metrics.counter(catalog.CHECKPOINTS, pipeline="p").add(2)
    snapshot = metrics.snapshot()
    histogram.observe(0.02)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=Snapshot) == snapshot
    assert sum(snapshot.families[1].counts[0]) == 5


def test_each_metric_set_is_another_instance():
    assert MetricSet().snapshot().instance != MetricSet().snapshot().instance


def test_a_value_on_a_bound_counts_below_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 7.5


@pytest.mark.parametrize("sample", [[], [3.0], [0.1, 5, 1, 1, 2, 99, 2.5, 0], list(range(100))])
def test_many_values_at_once_are_the_same_as_one_by_one(sample: list[float]):
    at_once, one_by_one = Histogram((1, 2, 10)), Histogram((1, 2, 10))
    at_once.observe_many(sample)
    for value in sample:
        one_by_one.observe(value)
    assert at_once.counts == one_by_one.counts
    assert at_once.sum == pytest.approx(one_by_one.sum)
