#!/usr/bin/env bash
# On a machine with a GPU: installs gpunet with CuPy, checks the CUDA path and times it. Writes gpu-check.json and
# gpu-check.log; what this machine does not admit is skipped, and said. CUDA=12 for a driver that offers CUDA 12.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh
export GPUNET_REQUIRE_NATIVE=1

install_gpunet test dev "cuda${CUDA:-13}"
exec .venv/bin/python scripts/gpu_check.py "$@"
