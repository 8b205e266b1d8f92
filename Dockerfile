# streamd in a container: `docker build -t streamd .` (BuildKit not needed).
#
#   docker run --rm --read-only --tmpfs /tmp -v streamd-state:/var/lib/streamd -v ./pipelines:/etc/streamd/pipelines:ro \
#     -e KAFKA_BOOTSTRAP=kafka:9092 -e STREAMD_HTTP_HOST=0.0.0.0 -e STREAMD_HTTP_TOKEN=… -p 8470:8470 streamd
#
# Settings are those of config/streamd.yaml, each by its variable; mount your own over /etc/streamd/streamd.yaml for more.
#
# BASE can be any Debian-like image with Python 3.11 or newer as `python3`, with its venv module.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv /opt/streamd
# The dependencies are a layer of their own: they change rarely, the code often.
COPY pyproject.toml constraints.txt README.md ./
COPY src/streamd/version.py src/streamd/version.py
RUN touch src/streamd/__init__.py \
    && /opt/streamd/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[all]"
COPY src ./src
RUN /opt/streamd/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall ".[all]" \
    && /opt/streamd/bin/python3 -m compileall -q /opt/streamd \
    && /opt/streamd/bin/pip uninstall --yes --quiet pip

FROM ${BASE}
LABEL org.opencontainers.image.title="streamd" \
      org.opencontainers.image.description="A stream-processing daemon: YAML pipelines, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 streamd \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/streamd --shell /usr/sbin/nologin streamd \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/streamd \
    && install -d /etc/streamd/pipelines
COPY --from=build /opt/streamd /opt/streamd
COPY config/streamd.yaml /etc/streamd/streamd.yaml
ENV PATH=/opt/streamd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STREAMD_STATE_DIR=/var/lib/streamd \
    STREAMD_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/streamd
VOLUME /var/lib/streamd
EXPOSE 8470
# Live means progress against lag, not "the process is up"; the first seconds are start-up.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/health/live' % os.environ.get('STREAMD_HTTP_PORT', 8470), timeout=2)"]
STOPSIGNAL SIGTERM
# streamd is PID 1 itself: it handles signals and reaps its workers, so no init is needed in between.
ENTRYPOINT ["streamd"]
CMD ["run", "/etc/streamd/pipelines", "--config", "/etc/streamd/streamd.yaml"]
