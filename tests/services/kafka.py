"""Real Apache Kafka 4.1.0 (KRaft) from Maven jars: one broker, or a cluster of them.

Every method blocks and may be called from any thread: from an async test use `await asyncio.to_thread(broker.restart)`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.process import ServiceError, ServiceProcess, cache_folder, free_ports, locked, require, tail

POM = Path(__file__).with_name("kafka-pom.xml")
START_DEADLINE = 90.0  # seconds; 3 to 5 on a quiet machine
JAVA = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts faster in a third of the memory; benchmarks bring their own broker
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
# Directory ids of the voters of a cluster; any 16 bytes but the reserved low ones.
DIRECTORY_IDS = ("c3RyZWFtZGJyb2tlcjAwMQ", "c3RyZWFtZGJyb2tlcjAwMg", "c3RyZWFtZGJyb2tlcjAwMw")
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"


def jars() -> str:
    """The broker's class path; fetched by Maven into the cache on first use, once for all sessions side by side."""
    key = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    ready = cache_folder() / f"kafka-{key}"
    with locked(cache_folder() / "kafka.lock"):
        if not ready.exists():
            partial = ready.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            command = [require("mvn", "maven"), "-B", "-q", "-Dstyle.color=never", "-f", str(POM)]
            command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ServiceError(f"Maven could not fetch Kafka:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
            partial.rename(ready)
    return f"{ready}/*"


@dataclass(frozen=True, slots=True)
class Voter:
    """A controller of the quorum of a cluster: node id, port of its controller listener, directory id."""

    node: int
    port: int
    directory: str


class KafkaBroker:
    """One broker (and controller) with its own ports and data folder.

    `listeners` adds client listeners beside `PLAINTEXT`: name → security protocol, as `{"SASL": "SASL_PLAINTEXT"}`;
    their settings go into `properties` (`listener.name.sasl.…`), their address is `address("SASL")`.
    `properties` is laid over the defaults; a value of None takes a default out. `format_arguments` go to the storage
    tool, as `["--add-scram", "SCRAM-SHA-256=[name=alice,password=…]"]`. The plain listener stays (tests administer
    through it as `User:ANONYMOUS`: with an authorizer, make that a super user).

    `proxied` adds a plain listener that tells its clients to come to another port, `proxy_port`, where a test's proxy
    listens and goes on to `behind_proxy`: so all traffic of whoever starts at that port passes through the proxy.
    """

    def __init__(
        self,
        folder: Path,
        *,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, object] | None = None,
        format_arguments: Sequence[str] = (),
        proxied: bool = False,
        node: int = 1,
        voters: Sequence[Voter] = (),
    ) -> None:
        self.folder = folder
        self.node = node
        self._extra = {**(listeners or {}), **({"PROXIED": "PLAINTEXT"} if proxied else {})}
        self._properties = dict(properties or {})
        self._format_arguments = list(format_arguments)
        self._voters = tuple(voters)
        names = ["PLAINTEXT", *self._extra]
        self.proxy_port, *ports = free_ports(1 + len(names))
        self._ports = dict(zip(names, ports, strict=True))
        self._controller = next((v.port for v in self._voters if v.node == node), None) or free_ports(1)[0]
        self._process: ServiceProcess | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` of the plain listener."""
        return self.address("PLAINTEXT")

    def address(self, listener: str) -> str:
        """`host:port` of a listener by its name."""
        return (
            f"localhost:{self._ports[listener]}"
            if self._extra.get(listener, "").endswith("SSL")
            else (f"127.0.0.1:{self._ports[listener]}")
        )

    @property
    def behind_proxy(self) -> str:
        """`host:port` that a proxy at `proxy_port` goes on to."""
        return self.address("PROXIED")

    def _advertised(self, listener: str) -> str:
        return f"127.0.0.1:{self.proxy_port}" if listener == "PROXIED" else self.address(listener)

    @property
    def log(self) -> Path:
        """The broker's own log file."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServiceError("the broker was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self, *, ready: bool = True) -> None:
        """Starts the broker on its data folder (formatted when new) and, unless told otherwise, waits until it serves.

        Raises ServiceError with the tail of the log when it ends or does not serve within 90 s.
        """
        if self.running:
            raise ServiceError(f"broker {self.node} already runs with pid {self.pid}")
        classpath = jars()
        self._configure()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(classpath)
        command = [require("java", "a Java 17 runtime"), "-Xms128m", "-Xmx512m", *JAVA, "-cp", classpath]
        self._process = ServiceProcess([*command, "kafka.Kafka", str(self._config)], self.log)
        if ready:
            self.wait_ready()

    def wait_ready(self, brokers: int = 1, deadline: float = START_DEADLINE) -> None:
        """Waits until the cluster answers with at least `brokers` brokers and a controller."""
        process = self._process
        if process is None:
            raise ServiceError("the broker was never started")
        end = time.monotonic() + deadline
        while not describes(self.bootstrap, brokers):
            if not process.running:
                raise ServiceError(f"Kafka broker {self.node} ended while it started:\n{tail(self.log)}")
            if time.monotonic() > end:
                raise ServiceError(f"Kafka broker {self.node} not ready within {deadline:g} s:\n{tail(self.log)}")
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM: an ordered shutdown, at most 30 s, then SIGKILL."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: a crash. The next start recovers; the old session must run out first (2 s)."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        if self._process is not None:
            self._process.resume()

    def restart(self, *, crash: bool = False) -> None:
        """Stops (or with `crash` kills) the broker and starts it again on the same ports and data, until it serves."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start()

    def discard(self) -> None:
        """Kills the broker and deletes its data; the log and the settings stay for whoever looks at a failed test."""
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{key}={value}" for key, value in self._settings().items() if value is not None]
        self._config.write_text("\n".join(lines) + "\n")

    def _settings(self) -> dict[str, object]:
        replicas = max(len(self._voters), 1)
        quorum = [voter.port for voter in self._voters] or [self._controller]
        clients = ",".join(f"{name}://{self.address(name)}" for name in self._ports)
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._extra}
        in_sync = max(1, replicas - 1)
        return {
            "process.roles": "broker,controller",
            "node.id": self.node,
            "controller.quorum.bootstrap.servers": ",".join(f"127.0.0.1:{port}" for port in quorum),
            "listeners": f"{clients},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": ",".join(f"{name}://{self._advertised(name)}" for name in self._ports),
            "listener.security.protocol.map": ",".join(f"{name}:{value}" for name, value in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "num.partitions": 4,
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": 4,
            # A transaction that nobody ends is aborted at its timeout plus this, not plus the default 10 s.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "share.coordinator.state.topic.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            "log.retention.ms": -1,  # test events carry historic timestamps
            "log.segment.delete.delay.ms": 1000,
            "broker.session.timeout.ms": 2000 if replicas == 1 else 3000,
            "broker.heartbeat.interval.ms": 500,
            "controller.quorum.fetch.timeout.ms": 1000 if replicas > 1 else None,
            "controller.quorum.election.timeout.ms": 500 if replicas > 1 else None,
            "replica.lag.time.max.ms": 5000 if replicas > 1 else None,
            **self._properties,
        }

    def _format(self, classpath: str) -> None:
        if self._voters:
            voters = ",".join(f"{v.node}@127.0.0.1:{v.port}:{v.directory}" for v in self._voters)
            quorum = ["--initial-controllers", voters]
        else:
            quorum = ["--standalone"]
        command = [require("java", "a Java 17 runtime"), *JAVA, "-cp", classpath, "kafka.tools.StorageTool", "format"]
        command += [*quorum, "-t", CLUSTER_ID, "-c", str(self._config), *self._format_arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServiceError(f"Kafka's storage could not be formatted:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


class KafkaCluster:
    """Three brokers, each also a controller; transaction state, offsets and topics with 3 replicas, 2 in sync."""

    def __init__(self, folder: Path, *, properties: Mapping[str, object] | None = None) -> None:
        ports = free_ports(len(DIRECTORY_IDS))
        pairs = zip(ports, DIRECTORY_IDS, strict=True)
        voters = [Voter(node, port, directory) for node, (port, directory) in enumerate(pairs, 1)]
        self.brokers = [
            KafkaBroker(folder / str(voter.node), properties=properties, node=voter.node, voters=voters)
            for voter in voters
        ]

    @property
    def bootstrap(self) -> str:
        """`host:port` of all brokers, comma-separated."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def broker(self, node: int) -> KafkaBroker:
        """The broker of a node id, 1 to 3."""
        return self.brokers[node - 1]

    def start(self) -> None:
        """Starts all brokers side by side and waits until they have found each other."""
        threads = [threading.Thread(target=broker.start, kwargs={"ready": False}) for broker in self.brokers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for broker in self.brokers:
            broker.wait_ready(brokers=len(self.brokers))

    def discard(self) -> None:
        """Kills all brokers and deletes their data."""
        for broker in self.brokers:
            broker.discard()


_ASKING = "kafka-describe"


def _unless_asking(record: logging.LogRecord) -> bool:
    # aiokafka logs each refused connection as an error. Levels are not touched: they are for all threads.
    return record.threadName != _ASKING


for _name in ("aiokafka", "aiokafka.client", "aiokafka.cluster", "aiokafka.conn", "aiokafka.admin.client"):
    logging.getLogger(_name).addFilter(_unless_asking)


def describes(bootstrap: str, brokers: int = 1) -> bool:
    """Whether `brokers` brokers and a controller answer; a port that accepts is not enough."""
    answer: list[bool] = []
    # A thread of its own: the caller may or may not be inside a running loop.
    thread = threading.Thread(target=lambda: answer.append(asyncio.run(_describes(bootstrap, brokers))), name=_ASKING)
    thread.start()
    thread.join()
    return answer == [True]


async def _describes(bootstrap: str, brokers: int) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        return len(cluster["brokers"]) >= brokers and cluster["controller_id"] >= 0
    except Exception:
        return False
    finally:
        await admin.close()


class Topics:
    """Makes topics with names of their own, and deletes them all at the end."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._made: list[str] = []

    async def make(self, partitions: int = 1, prefix: str = "test", **config: object) -> str:
        """Name of a new topic that has its leaders; `config` as `retention_ms=-1` or `**{"retention.ms": -1}`."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            response = await admin.create_topics([NewTopic(name, partitions, -1, {}, settings)])
            failed = [entry for entry in response.topic_errors if entry[1] != 0]
            if failed:
                raise ServiceError(f"topic {name} was not created: {failed}")
            self._made.append(name)
            await self._wait_for_leaders(admin, name, partitions)
        finally:
            await admin.close()
        return name

    @staticmethod
    async def _wait_for_leaders(admin: AIOKafkaAdminClient, name: str, partitions: int) -> None:
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            [topic] = await admin.describe_topics([name])
            found = topic["partitions"]
            if topic["error_code"] == 0 and len(found) == partitions and all(p["leader"] >= 0 for p in found):
                return
            await asyncio.sleep(0.05)
        raise ServiceError(f"topic {name} got no leaders within 30 s")

    async def delete_all(self) -> None:
        """Deletes what `make` made; a broker that is gone is not an error."""
        if not self._made or not describes(self.bootstrap):
            return
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics(self._made)
        finally:
            await admin.close()


async def produce(
    bootstrap: str,
    topic: str,
    values: Iterable[bytes | tuple[bytes | None, bytes | None] | None],
    *,
    partition: int | None = None,
    timestamp_ms: int | None = None,
) -> None:
    """Writes values (or (key, value) pairs) to a topic and waits until all are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, acks="all")
    await producer.start()
    try:
        futures = []
        for value in values:
            key, body = value if isinstance(value, tuple) else (None, value)
            futures.append(await producer.send(topic, body, key, partition=partition, timestamp_ms=timestamp_ms))
        await producer.flush()
        for future in futures:
            await future
    finally:
        await producer.stop()


async def read_topic(
    bootstrap: str, topic: str, *, committed: bool = True, expected: int | None = None, deadline: float = 60.0
) -> list[ConsumerRecord]:
    """All records of a topic, partition by partition in order; with `committed` only what transactions committed.

    Reads to the end offsets as they are now; with `expected`, goes on until that many records came.
    Raises TimeoutError after `deadline` seconds.
    """
    level = "read_committed" if committed else "read_uncommitted"
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=level, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(deadline):
            return await _read(consumer, topic, expected)
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, topic: str, expected: int | None) -> list[ConsumerRecord]:
    await consumer._client.force_metadata_update()
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    if not partitions:
        return []
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)  # of read_committed: the last stable offset
    found: dict[TopicPartition, list[ConsumerRecord]] = {partition: [] for partition in partitions}
    while True:
        for partition, records in (await consumer.getmany(*partitions, timeout_ms=100)).items():
            found[partition].extend(records)
        if expected is not None:
            done = sum(map(len, found.values())) >= expected
        else:
            done = all([await consumer.position(partition) >= ends[partition] for partition in partitions])
        if done:
            return [record for partition in partitions for record in found[partition]]
