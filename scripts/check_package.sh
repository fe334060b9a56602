#!/usr/bin/env bash
# Builds the sdist and the wheel, installs each of them and the source tree in a clean environment, and runs the tests
# there, away from the sources. Then sizes, and the Dockerfile's own pip lines. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GPUNET_REQUIRE_NATIVE=1

venv() { "$python" -m venv --clear "$work/$1" && printf '%s' "$work/$1/bin/python"; }
megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }
bytes_of() { du -sb --total "$@" | tail -n 1 | cut -f 1; }
under() { # under WHAT LIMIT_MB BYTES
    say "$1: $(megabytes "$3") (at most $2 MB)"
    [ "$3" -le $(($2 * 1000000)) ] || die "$1 is too large"
}

python=$(find_python)
mkdir "$work/tree" "$work/away"
git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from - | tar -x -C "$work/tree"
cp -r tests pyproject.toml "$work/away"

say "== build"
builder=$(venv builder)
"$builder" -m pip install --quiet build
"$builder" -m build --outdir "$work/dist" "$work/tree" >"$work/build.log" 2>&1 || { cat "$work/build.log"; die "build failed"; }
wheel=$(echo "$work"/dist/*.whl) sdist=$(echo "$work"/dist/*.tar.gz)
say "wheel $(megabytes "$(bytes_of "$wheel")"), sdist $(megabytes "$(bytes_of "$sdist")")"

say "== size of the base install"
clean=$(venv size)
site=$("$clean" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
before=$(bytes_of "$site")
"$clean" -m pip install --quiet --no-compile "$wheel"
under "base install" 120 $(($(bytes_of "$site") - before))
under "native part" 5 "$(bytes_of "$site"/gpunet/_cpu.*.so "$site/gpunet/csrc")"

for kind in wheel sdist editable; do
    say "== tests of the $kind"
    case $kind in
    wheel) what=("${wheel}[test]") ;;
    sdist) what=("${sdist}[test]") ;;
    editable) what=(--editable "$work/tree[test]") ;;
    esac
    clean=$(venv "$kind")
    "$clean" -m pip install --quiet "${what[@]}"
    (cd "$work/away" && "$clean" -m pytest -p no:cacheprovider "$@")
done

say "== pip lines of the Dockerfile"
clean=$(venv docker)
export PATH="${clean%/*}:$PATH"
rm -rf "$work/dist"
(cd "$work/tree" && eval "$(sed -n "s#^RUN \(pip wheel .*\)#\1 --quiet#p" Dockerfile | sed "s#/dist#$work/dist#")")
sed -n "s#^ *\(pip install .*\)#\1 --quiet#p" Dockerfile | sed "s#/dist#$work/dist#" | while read -r line; do
    case $line in
    *cuda*) eval "$line --dry-run" ;; # two gigabytes: only that it resolves
    *) eval "$line" ;;
    esac
done
gpunet-train --version
say "all is well"
