# Head and workers without GPUs. Build from the repository's root:
#   docker build -f deploy/docker/cpu.Dockerfile -t steerline:cpu .
FROM python:3.11-slim-bookworm

# Steering's kernels are built with g++; the dashboard agent and Ray's probes use procps and wget.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git procps wget \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 ray
WORKDIR /opt/steerline
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    DS_ACCELERATOR=cpu \
    RAY_USAGE_STATS_ENABLED=0 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/opt/steerline

COPY pyproject.toml constraints.txt README.md ./
COPY steerline steerline
# The CPU wheels of PyTorch are a fraction of the CUDA ones.
RUN python -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir -c constraints.txt uv \
    && uv pip install --no-cache --torch-backend cpu -c constraints.txt ".[train,track,tune,simulate,serve]"

USER ray
# Built here once, so that no worker waits for a compiler; a CPU of another kind than this one's builds its own.
RUN steerline doctor --build
COPY --chown=ray:ray jobs jobs
COPY --chown=ray:ray services services
