#!/usr/bin/env bash
# Builds the C++ kernels with AddressSanitizer and UBSan, then with ThreadSanitizer, in a temporary copy of the tree, and
# runs their tests under each. Any report is a failure. Arguments choose: `address`, `thread`, or both (about 10 minutes).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh
install_gpunet test
python=$PWD/.venv/bin/python
"$python" -c 'import pybind11, setuptools' 2>/dev/null || "$python" -m pip install --quiet pybind11 'setuptools>=77'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

runtime() { "${CXX:-g++}" -print-file-name="lib$1.so"; }

build() { # build NAME FLAGS
    mkdir "$work/$1"
    git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from - | tar -x -C "$work/$1"
    say "== $1: build"
    (cd "$work/$1" && CXXFLAGS="-O1 -g1 -fno-omit-frame-pointer $2" LDFLAGS="$2" GPUNET_REQUIRE_NATIVE=1 \
        "$python" setup.py --quiet build_ext --inplace)
}

check() { # check NAME TESTS...: the runtime must be loaded before Python, and libstdc++ before it can throw
    local name=$1
    shift
    say "== $name: test"
    (cd "$work/$name" && GPUNET_REQUIRE_NATIVE=1 PYTHONPATH=$PWD PYTHONMALLOC=malloc OMP_NUM_THREADS=2 \
        LD_PRELOAD="$(runtime "$preload") $(runtime stdc++)" setarch -R "$python" -m pytest -q -p no:cacheprovider "$@")
}

# Addresses are not laid out at random (setarch -R): ThreadSanitizer wants them where it knows them. Python's own leaks
# are no concern of ours, nor are locks that it takes where no sanitizer sees.
for name in ${*:-address thread}; do
    case $name in
    address)
        preload=asan
        export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1
        export UBSAN_OPTIONS=print_stacktrace=1
        build address "-fsanitize=address,undefined -fno-sanitize-recover=all"
        check address tests/test_kernels.py tests/test_native_program.py
        ;;
    thread)
        preload=tsan
        export TSAN_OPTIONS=halt_on_error=1:exitcode=66:ignore_noninstrumented_modules=1:die_after_fork=0
        build thread "-fsanitize=thread"
        check thread tests/test_kernels.py tests/test_native_program.py -k "thread"
        ;;
    *) die "no sanitizer $name; there are: address, thread" ;;
    esac
done
say "== no reports"
