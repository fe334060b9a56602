#!/usr/bin/env bash
# On a machine with a GPU: builds gpunet, checks the CUDA path and times it. Writes gpu-check.json and gpu-check.log;
# what this machine does not admit is skipped, and said.
#
#     bash scripts/gpu_check.sh                  installs gpunet with CuPy into .venv; CUDA=12 for an older driver
#     bash scripts/gpu_check.sh --data FOLDER    MNIST's four files, to train on
#     bash scripts/gpu_check.sh --in-place       builds in the source tree, with the packages of PYTHON (no network)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GPUNET_REQUIRE_NATIVE=1

if [ "${1-}" = --in-place ]; then
    shift
    python=${PYTHON:-python3}
    "$python" setup.py --quiet build_ext --inplace
else
    . scripts/venv.sh
    install_gpunet test dev "cuda${CUDA:-13}"
    python=.venv/bin/python
fi
PYTHONPATH=$PWD exec "$python" scripts/gpu_check.py "$@"
