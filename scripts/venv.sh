# shellcheck shell=bash
# Makes .venv in the source tree and installs gpunet there; sourced by the scripts beside it.
# PYTHON=/path/to/python3.12 chooses the Python.

export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "gpunet needs Python 3.10 or newer; ${PYTHON:-python3} is $("${PYTHON:-python3}" -V 2>&1 || true)." \
        "With another one: PYTHON=/path/to/python3.12 bash $0"
}

make_venv() {
    [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 && return
    local python
    python=$(find_python) || exit 1
    say "making .venv with $("$python" -V)"
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 && return
    # Debian's Python lacks ensurepip where python3-venv is not installed; its pip can serve another environment
    "$python" -m venv --without-pip --clear .venv >/dev/null 2>&1 &&
        "$python" -m pip --python .venv/bin/python install --quiet pip >/dev/null 2>&1 && return
    rm -rf .venv
    die "$python cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv"
}

# install_gpunet EXTRA...: this source tree and these extras, unless it was done and nothing that is compiled has changed
install_gpunet() {
    local key extra extras stamp stale='' stamps=(.venv/installed-base)
    make_venv
    key=$({ cat pyproject.toml setup.py csrc/*; echo "${CC-} ${CXX-} ${GPUNET_REQUIRE_NATIVE-}"; } | cksum)
    for extra in "$@"; do stamps+=(".venv/installed-$extra"); done
    for stamp in "${stamps[@]}"; do
        [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] || stale=1
    done
    [ -n "$stale" ] || return 0
    extras=$(IFS=,; echo "$*")
    say "installing gpunet${extras:+[$extras]} into .venv (a minute or two, once)"
    rm -f .venv/installed-* gpunet/_cpu.*.so # kernels of older sources must not outlive a failed compilation
    .venv/bin/python -m pip install --quiet --editable ".${extras:+[$extras]}"
    for stamp in "${stamps[@]}"; do echo "$key" >"$stamp"; done
}
