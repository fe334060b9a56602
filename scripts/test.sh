#!/usr/bin/env bash
# Runs the tests: virtual environment, installation, pytest. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh

install_gpunet test
exec .venv/bin/python -m pytest "$@"
