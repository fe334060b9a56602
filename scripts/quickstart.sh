#!/usr/bin/env bash
# From a fresh clone to a trained model: virtual environment, installation, handwritten digits.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh

install_gpunet
.venv/bin/gpunet-train digits "$@"
cat <<EOF

What next, in $PWD:
  . .venv/bin/activate                        then gpunet-train and "import gpunet" are there
  gpunet-train your.csv --target COLUMN       your own table
  gpunet-train env                            what was found here: processor, GPU, what is missing
  bash scripts/test.sh                        the tests
EOF
