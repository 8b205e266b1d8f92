"""A real schema registry with Confluent's API: Apicurio Registry 2.6, its data in a file.

Every method blocks and may be called from any thread.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from services.process import ServiceError, ServiceProcess, cache_folder, free_ports, locked, require, tail, wait_until

VERSION = "2.6.13.Final"  # the last that runs on Java 17
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
START_DEADLINE = 90.0  # seconds; 4 on a quiet machine
CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


def jar() -> Path:
    """The registry's program; fetched by Maven into the cache on first use, once for all sessions side by side."""
    folder = cache_folder() / f"registry-{VERSION}"
    with locked(cache_folder() / "registry.lock"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            command = [require("mvn", "maven"), "-B", "-q", "-Dstyle.color=never", COPY]
            command += [f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={partial}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ServiceError(f"Maven could not fetch the registry:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
            [archive] = partial.glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(partial, filter="data")
            archive.unlink()
            partial.rename(folder)
    return next(iter([*folder.rglob("*-runner.jar"), *folder.rglob("quarkus-run.jar")]))


class SchemaRegistry:
    """One registry on a port of its own, which stays the same; so does what it knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port, self._management = free_ports(2)
        self._process: ServiceProcess | None = None

    @property
    def url(self) -> str:
        """Where Confluent's API is."""
        return f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        """Returns when it serves. Raises ServiceError with the tail of its log when it ends or does not."""
        if self._process is not None and self._process.running:
            return
        env = {
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self._port),
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": str(self._management),
            "REGISTRY_DATASOURCE_URL": f"jdbc:h2:file:{self.folder}/registry;WRITE_DELAY=0",
        }
        java = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", str(jar())]
        log = self.folder / "registry.log"
        process = self._process = ServiceProcess([require("java", "default-jre-headless"), *java], log, env)
        try:
            wait_until(lambda: not process.running or self._serves(), "the registry serves", START_DEADLINE)
        except TimeoutError as error:
            raise ServiceError(f"{error}\n{tail(log)}") from None
        if not process.running:
            raise ServiceError(f"the registry ended at once\n{tail(log)}")
        # Confluent's default; Apicurio's own is NONE.
        self.ask("PUT", "/config", {"compatibility": "BACKWARD"})

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Kill it, and start it anew, with what it knew."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """It takes connections and answers nothing."""
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        """It answers again."""
        assert self._process is not None
        self._process.resume()

    def discard(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()

    def register(self, subject: str, schema: Any, **more: Any) -> int:
        """The id of a schema under a subject, as any client would register it."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        return int(self.ask("POST", f"/subjects/{subject}/versions", {"schema": text, **more})["id"])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request, as JSON. Raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": CONTENT_TYPE}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def _serves(self) -> bool:
        try:
            self.ask("GET", "/subjects")
        except (OSError, urllib.error.HTTPError):
            return False
        return True
