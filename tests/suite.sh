#!/usr/bin/env bash
# The whole suite in two processes side by side: runs of the whole system wait for traffic most of the time, the rest computes.
# The rest is nice, so that it takes nothing from traffic that is measured. Exit code: 0 if both are well.
#
#   tests/suite.sh PYTHON [PYTEST-OPTION...]
set -u
python=$1; shift
system="tests/system tests/upf/test_upf_system.py"
rest_out=$(mktemp)
rest=
trap '[ -z "$rest" ] || kill "$rest" 2>/dev/null; rm -f "$rest_out"' EXIT
# shellcheck disable=SC2086
nice -n 10 "$python" -m pytest tests $(printf -- '--ignore=%s ' $system) "$@" >"$rest_out" 2>&1 &
rest=$!
# shellcheck disable=SC2086
"$python" -m pytest $system "$@"
system_code=$?
wait "$rest"
rest_code=$?
rest=                           # it is over: nothing to end
echo "--- all but whole-system runs:"
cat "$rest_out"
[ "$system_code" = 0 ] && [ "$rest_code" = 0 ]
