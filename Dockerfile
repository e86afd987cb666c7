# Three images:
#   local          the local stack of docker-compose.yaml: Airflow, the local Dataflow, the emulators that are ours to start
#   flex-template  one pipeline on Dataflow, as launcher and as worker: docker build --build-arg PIPELINE=load_events .
#   dashboard      the dashboard on its own, as on Cloud Run: docker build --target dashboard .
# All install exactly what the lock files say.

ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm
ARG SPANNER_IMAGE=gcr.io/cloud-spanner-emulator/emulator:1.5.28
ARG BEAM_IMAGE=apache/beam_python3.11_sdk:2.77.0
ARG LAUNCHER_IMAGE=gcr.io/dataflow-templates-base/python311-template-launcher-base:flex_templates_base_image_release_20260720_RC00


FROM ${PYTHON_IMAGE} AS python
ARG UV_VERSION=0.13.9
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==${UV_VERSION} \
 && ln -s /opt/uv/bin/uv /usr/local/bin/uv \
 && useradd --uid 50000 --create-home shopstream
ENV PYTHONUNBUFFERED=1 UV_NO_CACHE=1
WORKDIR /app


FROM ${SPANNER_IMAGE} AS spanner


FROM python AS local
COPY local/emulators.txt local/
RUN python3 -m venv .venv-emulators \
 && uv pip sync --compile-bytecode --python .venv-emulators/bin/python local/emulators.txt
COPY requirements.txt ./
RUN python3 -m venv .venv \
 && uv pip sync --compile-bytecode --python .venv/bin/python requirements.txt
# Google's image of the Spanner emulator holds no shell and no Python by which its health could be asked.
COPY --from=spanner /emulator_main /opt/spanner/emulator_main
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONPATH=/app:/app/plugins \
    SHOPSTREAM_LISTEN=0.0.0.0 \
    SHOPSTREAM_SPANNER_EMULATOR=/opt/spanner/emulator_main \
    SHOPSTREAM_STACK_DIR=/state
COPY local/__init__.py local/root.py local/
COPY local/stack/__init__.py local/stack/emulators.py local/stack/
# The volumes take over the owner of their folders.
RUN mkdir /keys /state && chown shopstream /keys /state .venv-emulators
USER shopstream
# Lays out the BigQuery emulator's home.
RUN python -c "from pathlib import Path; from local.stack.emulators import bigquery; bigquery(9050, 9060, Path('/state'), '')"
ENTRYPOINT ["python", "-m", "local.stack.compose"]


FROM python AS dashboard
COPY requirements.txt ./
RUN python3 -m venv .venv \
 && uv pip install --compile-bytecode --python .venv/bin/python --constraints requirements.txt \
    cryptography fastapi google-cloud-bigquery google-cloud-spanner numpy pyarrow uvicorn
COPY beam_jobs beam_jobs
COPY plugins plugins
# `make install` makes it; without it no chart is drawn.
RUN test -f plugins/shopstream/charts/vega.js
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONPATH=/app:/app/plugins
USER shopstream
ENTRYPOINT ["python", "-m", "shopstream.dashboard"]


FROM ${BEAM_IMAGE} AS beam


FROM ${LAUNCHER_IMAGE} AS launcher


FROM python AS flex-template
ARG PIPELINE=load_events
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY requirements.txt pyproject.toml ./
COPY beam_jobs beam_jobs
RUN python3 -m venv /opt/venv \
 && uv pip install --compile-bytecode --python /opt/venv/bin/python --constraints requirements.txt \
    --build-constraints requirements.txt . \
 && rm -r /app/* \
 && mkdir /template \
 && printf 'from beam_jobs.%s import run\n\nif __name__ == "__main__":\n    run()\n' "${PIPELINE}" > /template/main.py \
 && /opt/venv/bin/python -c "import beam_jobs.${PIPELINE}"
ENV PATH=/opt/venv/bin:$PATH \
    FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py \
    # Otherwise a worker makes a virtual environment of its own, beside the one that holds beam_jobs.
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
WORKDIR /template
# Dataflow's launcher writes below /var/log/dataflow and its workers below /var/opt, both of which belong to root there.
USER root
# A worker starts here; Dataflow starts the launcher by its path.
ENTRYPOINT ["/opt/apache/beam/boot"]
