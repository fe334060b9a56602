# gpunet in a container: gpunet-train on the files of the current folder.
#   docker build --target cpu -t gpunet .
#   docker run --rm -v "$PWD:/work" -u "$(id -u):$(id -g)" gpunet data.csv --target y
#   docker build --target cuda -t gpunet:cuda .
#   docker run --rm --gpus all -v "$PWD:/work" -u "$(id -u):$(id -g)" gpunet:cuda data.csv --target y

# Debian 12 has the oldest glibc of the three images, so the wheel made here runs in the others.
FROM python:3.12-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# an image without the C++ kernels would be a mistake
ENV GPUNET_REQUIRE_NATIVE=1
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

# "base" of NVIDIA's images, not "runtime": CuPy's [ctk] wheels bring the CUDA libraries and also the headers that
# kernels are compiled against, which "runtime" lacks; its two gigabytes of libraries would be carried twice.
FROM nvidia/cuda:13.0.3-base-ubuntu24.04 AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/gpunet
ENV PATH=/opt/gpunet/bin:$PATH \
    CUPY_CACHE_DIR=/tmp/cupy \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/*.whl)[cuda13,tabular]"
RUN useradd --create-home --uid 10001 gpunet && install --directory --owner gpunet /work
USER 10001
WORKDIR /work
ENTRYPOINT ["gpunet-train"]
CMD ["--help"]

# the last stage is what a build without --target makes
FROM python:3.12-slim-bookworm AS cpu
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/*.whl)[tabular]"
RUN useradd --create-home --uid 10001 gpunet && install --directory --owner gpunet /work
USER 10001
WORKDIR /work
ENTRYPOINT ["gpunet-train"]
CMD ["--help"]
