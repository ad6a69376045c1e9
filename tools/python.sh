#!/bin/sh
# Runs a script with a Python that is new enough: `sh tools/python.sh SCRIPT [ARGUMENT…]`.
# $PYTHON if it is set, and then that one only; else the one that .venv was made with; else what is on the PATH.
set -eu

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates='.venv/bin/python python3 python3.13 python3.12 python3.11'
fi
for candidate in $candidates; do
    if is_new_enough "$candidate"; then
        exec "$candidate" "$@"
    fi
done

if [ -n "${PYTHON:-}" ]; then
    printf 'PYTHON=%s is not a Python of version 3.11 or newer' "$PYTHON" >&2
else
    printf 'No Python of version 3.11 or newer was found (tried: %s)' "$candidates" >&2
fi
if found=$("${PYTHON:-python3}" --version 2>&1); then
    printf '; it is %s' "$found" >&2
fi
printf '.\nInstall one, or name one: make demo PYTHON=/path/to/python3.12\n' >&2
exit 2
