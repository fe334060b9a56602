#!/usr/bin/env bash
# From a fresh clone to a trained model: virtual environment, installation, handwritten digits.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh

# shellcheck disable=SC2119
install_gpunet
.venv/bin/gpunet-train digits

aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
official=$(.venv/bin/gpunet-train digits --split official --quiet --json --out "$aside/run" |
    .venv/bin/python -c 'import json, sys; print(format(json.load(sys.stdin)["test.accuracy"], ".4f"))')
cat <<EOF
test accuracy on digits of writers who are not in the training set (the official split): $official

What next, in $PWD:
  . .venv/bin/activate                        then gpunet-train and "import gpunet" are there
  gpunet-train your.csv --target COLUMN       your own table
  gpunet-train env                            what was found here: processor, GPU, what is missing
  bash scripts/test.sh                        the tests
EOF
