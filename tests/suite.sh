#!/usr/bin/env bash
# The whole suite in four processes side by side: runs of the whole system wait for traffic most of the time, so two of them share the
# cores with the rest, which computes. Those whose traffic is measured go first at the cores; the others are nice.
# Beside each other on a shared machine a test may lose for want of a processor alone: up to $AGAIN_MAX that failed run once more, by
# themselves, and the output names them, because a test that passes only alone has something to mend.
# Exit code: 0 if all are well, or the few that were not are well alone.
#
#   tests/suite.sh PYTHON [PYTEST-OPTION...]
set -u
python=$1; shift
others="tests/system/test_system_attacks.py tests/system/test_system_capture.py tests/system/test_system_tamper.py
        tests/system/test_system_wires.py tests/upf/test_upf_system.py tests/lab"
engine="tests/native tests/simulation tests/conformance tests/fuzz tests/mpquic"
ignored=$(printf -- '--ignore=%s ' $others)
elsewhere=$(printf -- '--ignore=%s ' tests/system $engine)
AGAIN_MAX=3
said=$(mktemp -d)
others_out=$said/others engine_out=$said/engine rest_out=$said/rest measured_out=$said/measured
running=
# shellcheck disable=SC2086
trap '[ -z "$running" ] || kill $running 2>/dev/null; rm -rf "$said"' EXIT
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
"$python" -m pytest tests/system $ignored "$@" 2>&1 | tee "$measured_out"
measured_code=${PIPESTATUS[0]}
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
if [ "$measured_code" = 0 ] && [ "$others_code" = 0 ] && [ "$engine_code" = 0 ] && [ "$rest_code" = 0 ]; then exit 0; fi
# Codes other than 1 (a test failed) are no test's fault: nothing to run again.
for code in "$measured_code" "$others_code" "$engine_code" "$rest_code"; do
    case $code in 0|1) ;; *) exit "$code" ;; esac
done
mapfile -t failed < <(sed -nE 's/^(FAILED|ERROR) (tests\/[^ ]+\.py::[^[ ]+(\[.*\])?)( - .*)?$/\2/p' "$said"/* | sort -u)
if [ "${#failed[@]}" = 0 ] || [ "${#failed[@]}" -gt "$AGAIN_MAX" ]; then exit 1; fi
echo "--- ${#failed[@]} failed beside the others; once more, alone:"
printf '    %s\n' "${failed[@]}"
"$python" -m pytest "${failed[@]}" "$@"
