# Sourced by ./demo and ./test: leaves $python, the interpreter of a virtual environment with ck in it.
# usage: ck_setup EXTRAS, for example ck_setup "" or ck_setup "[dev,oracle]".

ck_fail() { printf '%s\n' "$1" >&2; exit 6; }

ck_setup() {
    base=${CK_PYTHON:-python3}
    command -v "$base" >/dev/null 2>&1 ||
        ck_fail "python3 is missing: apt-get install python3 python3-venv"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        ck_fail "ck needs Python 3.11 or newer, found $("$base" -V): set CK_PYTHON to a newer interpreter"
    "$base" -c 'import venv, ensurepip' 2>/dev/null ||
        ck_fail "the venv module of $base is missing: apt-get install python3-venv"
    command -v "${CC:-cc}" >/dev/null 2>&1 || ck_fail "a C compiler is missing: apt-get install gcc libc6-dev"
    venv=${CK_VENV:-.venv}
    python=$venv/bin/python
    stamp=$venv/.ck-stamp
    wanted="$1 $(cat pyproject.toml scripts/setup.sh | cksum)"
    if [ ! -x "$python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "setting up $venv (once; packages come from your package index) ..." >&2
        [ -x "$python" ] || "$base" -m venv "$venv" || ck_fail "could not create $venv"
        case $1 in *oracle*)
            # A CPU build of torch keeps gigabytes of CUDA away. Where the index has none under this name:
            # CK_TORCH="torch --index-url https://download.pytorch.org/whl/cpu" ./test
            # shellcheck disable=SC2086
            "$python" -m pip install -q ${CK_TORCH:-torch==2.13.0} || ck_fail "could not install torch" ;;
        esac
        "$python" -m pip install -q -e ".$1" || ck_fail "could not install ck and its dependencies"
        printf '%s' "$wanted" > "$stamp"
    fi
}
