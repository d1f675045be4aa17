#!/usr/bin/env bash
# The whole suite in four processes side by side: runs of the whole system wait for traffic most of the time, so two of them share the
# cores with the rest, which computes. Those whose traffic is measured go first at the cores; the others are nice.
# Exit code: 0 if all are well.
#
#   tests/suite.sh PYTHON [PYTEST-OPTION...]
set -u
python=$1; shift
others="tests/system/test_system_attacks.py tests/system/test_system_capture.py tests/system/test_system_tamper.py
        tests/system/test_system_wires.py tests/upf/test_upf_system.py tests/lab"
engine="tests/native tests/simulation tests/conformance tests/fuzz tests/mpquic"
ignored=$(printf -- '--ignore=%s ' $others)
elsewhere=$(printf -- '--ignore=%s ' tests/system $engine)
others_out=$(mktemp) engine_out=$(mktemp) rest_out=$(mktemp)
running=
# shellcheck disable=SC2086
trap '[ -z "$running" ] || kill $running 2>/dev/null; rm -f "$others_out" "$engine_out" "$rest_out"' EXIT
# shellcheck disable=SC2086
nice -n 5 "$python" -m pytest $others "$@" >"$others_out" 2>&1 &
others_pid=$!
# shellcheck disable=SC2086
nice -n 10 "$python" -m pytest $engine "$@" >"$engine_out" 2>&1 &
engine_pid=$!
# shellcheck disable=SC2086
nice -n 10 "$python" -m pytest tests $elsewhere $ignored "$@" >"$rest_out" 2>&1 &
rest_pid=$!
running="$others_pid $engine_pid $rest_pid"
# shellcheck disable=SC2086
"$python" -m pytest tests/system $ignored "$@"
measured_code=$?
wait "$others_pid"
others_code=$?
wait "$engine_pid"
engine_code=$?
wait "$rest_pid"
rest_code=$?
running=                        # they are over: nothing to end
echo "--- attacks, captures and other whole-system runs, the lab:"
cat "$others_out"
echo "--- the engine and the connection:"
cat "$engine_out"
echo "--- all others:"
cat "$rest_out"
[ "$measured_code" = 0 ] && [ "$others_code" = 0 ] && [ "$engine_code" = 0 ] && [ "$rest_code" = 0 ]
