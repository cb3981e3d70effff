# Three images from one file; none has a compiler, and only `training` has PyTorch.
#   docker build .                              the service, on CPUs (the default)
#   docker build --target service-gpu .         the service, on an NVIDIA GPU
#   docker build --target training .            recjpq-train
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

# --- compiled once: the wheel, with its native kernels ------------------------------------------------
FROM ${PYTHON_IMAGE} AS wheel
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Installed beforehand, because what pip installs for an isolated build follows the constraints of some releases only.
COPY deploy/docker/constraints.txt deploy/docker/constraints-build.txt ./
RUN python -m pip install --no-cache-dir -c constraints-build.txt cmake nanobind ninja scikit-build-core
COPY pyproject.toml README.md LICENSE ./
COPY recjpq recjpq
COPY training training
COPY service service
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

# --- dependencies, in layers that a change of the code does not touch ---------------------------------
# Every image has the versions of deploy/docker/constraints.txt; those of the service have no pip.
# EXTRAS: more of the project's extras for the service, `tracing` and `remote`.
FROM ${PYTHON_IMAGE} AS dependencies
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml deploy/docker/constraints*.txt deploy/docker/requirements.py ./
RUN python -m venv --without-pip /opt/venv

FROM dependencies AS service-dependencies
COPY deploy/docker/slim.sh ./
ARG EXTRAS=
RUN python requirements.py pyproject.toml cpu ${EXTRAS} > requirements.txt \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir -c constraints.txt -r requirements.txt \
 && sh slim.sh /opt/venv/lib/python3*/site-packages

FROM dependencies AS gpu-dependencies
COPY deploy/docker/slim.sh ./
ARG EXTRAS=
RUN python requirements.py pyproject.toml gpu ${EXTRAS} > requirements.txt \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir -c constraints-gpu.txt -r requirements.txt \
 && sh slim.sh /opt/venv/lib/python3*/site-packages

FROM dependencies AS training-dependencies
# The address of PyTorch's CPU wheels, to leave out several gigabytes of CUDA: see the README.
ARG TORCH_INDEX=
# With pip, by which `recjpq-train download` fetches the demo's data where GroupLens cannot be reached.
RUN { python requirements.py pyproject.toml cpu training; echo pip; } > requirements.txt \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt -r requirements.txt

# --- with the project itself --------------------------------------------------------------------------
FROM service-dependencies AS service-environment
COPY --from=wheel /wheels /wheels
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /wheels/*.whl \
 && rm -r /opt/venv/lib/python3*/site-packages/training /opt/venv/bin/recjpq-train \
 && /opt/venv/bin/recjpq-serve --help > /dev/null

FROM gpu-dependencies AS gpu-environment
COPY --from=wheel /wheels /wheels
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /wheels/*.whl \
 && rm -r /opt/venv/lib/python3*/site-packages/training /opt/venv/bin/recjpq-train \
 && /opt/venv/bin/recjpq-serve --help > /dev/null

FROM training-dependencies AS training-environment
COPY --from=wheel /wheels /wheels
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /wheels/*.whl

# --- what the images share ----------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS base
RUN useradd --uid 10001 --create-home recjpq \
 && mkdir -p /app/runs /data \
 && chown recjpq: /app /app/runs /data
# Nothing but /data, /app/runs and /tmp is ever written: the root file system may be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
USER 10001

FROM base AS training
COPY --from=training-environment /opt/venv /opt/venv
COPY training/configs configs
ENTRYPOINT ["recjpq-train"]
CMD ["--help"]

FROM base AS served
ENV RECJPQ_HOST=0.0.0.0 \
    RECJPQ_PORT=8000 \
    RECJPQ_MODEL_PATH=/app/runs/demo/artifacts \
    RECJPQ_MODEL_CACHE=/data/models \
    RECJPQ_STATE_PATH=/data/state \
    RECJPQ_STORE_URL=sqlite:////data/sequences.sqlite3
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['RECJPQ_PORT'] + '/readyz', timeout=2)"]
CMD ["recjpq-serve"]

FROM served AS service-gpu
COPY --from=gpu-environment /opt/venv /opt/venv
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility RECJPQ_DEVICE=cuda

FROM served AS service
COPY --from=service-environment /opt/venv /opt/venv
