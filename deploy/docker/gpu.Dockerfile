# Head and workers with NVIDIA GPUs. Build from the repository's root:
#   docker build -f deploy/docker/gpu.Dockerfile -t steerline:gpu .
# Nothing of ours is built with nvcc; the development image carries it for packages that build their own GPU kernels.
FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv python3-dev g++ git procps wget \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1001 ray
WORKDIR /opt/steerline
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    RAY_USAGE_STATS_ENABLED=0 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/opt/steerline

COPY pyproject.toml constraints.txt README.md ./
COPY steerline steerline
RUN python3 -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir -c constraints.txt uv \
    && uv pip install --no-cache -c constraints.txt ".[train,track,tune,simulate,serve]"

USER ray
COPY --chown=ray:ray jobs jobs
COPY --chown=ray:ray services services
