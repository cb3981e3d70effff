# Two images from one file: `service` (the default, no PyTorch) and `training`.
#   docker build .                            docker build --target training .
ARG PYTHON_IMAGE=python:3.11-slim

# --- compiled once: the wheel, with its native kernel -------------------------------------------------
FROM ${PYTHON_IMAGE} AS wheel
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY recjpq recjpq
COPY training training
COPY service service
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# --- dependencies of the service ----------------------------------------------------------------------
FROM wheel AS service-environment
RUN /opt/venv/bin/pip install --no-cache-dir "$(ls /wheels/*.whl)[cpu]"

# --- dependencies of training -------------------------------------------------------------------------
FROM service-environment AS training-environment
# The address of PyTorch's CPU wheels, to leave out several gigabytes of CUDA: see the README.
ARG TORCH_INDEX=
RUN /opt/venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    "$(ls /wheels/*.whl)[training]"

# --- what both images share ---------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS base
RUN useradd --uid 10001 --create-home recjpq \
 && mkdir -p /app/runs /data \
 && chown recjpq: /app /app/runs /data
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER recjpq

FROM base AS training
COPY --from=training-environment /opt/venv /opt/venv
COPY training/configs configs
ENTRYPOINT ["recjpq-train"]
CMD ["--help"]

FROM base AS service
COPY --from=service-environment /opt/venv /opt/venv
ENV RECJPQ_HOST=0.0.0.0 \
    RECJPQ_PORT=8000 \
    RECJPQ_MODEL_PATH=/app/runs/demo/artifacts \
    RECJPQ_STORE_URL=sqlite:////data/sequences.sqlite3
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['RECJPQ_PORT'] + '/readyz', timeout=2)"]
CMD ["recjpq-serve"]
