# Head and workers with NVIDIA GPUs. Build from the repository's root:
#   docker build -f deploy/docker/gpu.Dockerfile -t steerline:gpu .
# The development image carries nvcc, which DeepSpeed's fused kernels are built with.
FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv python3-dev g++ ninja-build git procps wget \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1001 ray
WORKDIR /opt/steerline
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    RAY_USAGE_STATS_ENABLED=0 \
    TORCH_EXTENSIONS_DIR=/opt/torch_extensions \
    PYTHONUNBUFFERED=1

COPY pyproject.toml constraints.txt README.md ./
COPY steerline steerline
RUN python3 -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir -c constraints.txt uv \
    && uv pip install --no-cache -c constraints.txt ".[train,track]" \
    && mkdir -p "$TORCH_EXTENSIONS_DIR" && chown -R ray:ray "$TORCH_EXTENSIONS_DIR"

USER ray
COPY --chown=ray:ray jobs jobs
