#!/usr/bin/env bash
# Makes, or finds again, a Python environment for tests, outside the repository.
#
# usage: venv.sh NAME REQUIREMENTS
#
# Prints the path of the environment's python on stdout and everything else on
# stderr.  REQUIREMENTS lists every package with an exact version, transitive ones
# too.  If a file of the same name with the ending .post.sh stands beside it, that is
# run with the new python as its argument after the install.
#
# The folder is
#   ${ROBOCACHE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/robocache-tests}/NAME-HASH
# where HASH covers the requirements and the version of PYTHON (default: python3).

set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: venv.sh NAME REQUIREMENTS" >&2
    exit 2
fi
name=$1
requirements=$2
post=${requirements%.txt}.post.sh
python=${PYTHON:-python3}

cache=${ROBOCACHE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/robocache-tests}
mkdir -p "$cache"

version=$("$python" -c 'import platform, sys; print(sys.version, platform.machine())')
hash=$({
    echo "$version"
    cat "$requirements"
    if [[ -e $post ]]; then cat "$post"; fi
} | sha256sum | cut -c1-12)
venv=$cache/$name-$hash
# Written last, so that an environment whose install was killed is made anew.
complete=$venv/complete

if [[ ! -e $complete ]]; then
    # Tests run in parallel: one installs, the others wait for it here.
    exec 9>"$venv.lock"
    flock 9
    if [[ ! -e $complete ]]; then
        echo "venv.sh: installing $requirements into $venv" >&2
        rm -rf "$venv"
        "$python" -m venv "$venv" >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
            --no-deps --no-compile --requirement "$requirements" >&2
        if [[ -e $post ]]; then
            bash "$post" "$venv/bin/python" >&2
        fi
        touch "$complete"
    fi
fi

echo "$venv/bin/python"
