#!/usr/bin/env bash
# Score what arrived and check the table: for cron, systemd, or whatever else looks at an exit code.
#   nightly.sh JOB.yaml
set -euo pipefail

job=${1:?name the YAML file of the job}
: "${CURRICLE_OUTPUT:?is where the table goes}"

# Only code 1 may end differently the next time, and the same command goes on from the finished shards.
for pause in 1m 10m ""; do
    code=0
    curricle score --config "$job" || code=$?
    [[ $code -eq 1 && -n $pause ]] || break
    echo "curricle score failed; again in $pause" >&2
    sleep "$pause"
done

case $code in
    0) curricle verify "$CURRICLE_OUTPUT" ;;
    3) echo "the table is whole, but too many records were rejected: look at $CURRICLE_OUTPUT/report.html" >&2 ;;
    4) echo "another job is at work on $CURRICLE_OUTPUT; nothing to do" >&2 && code=0 ;;
    *) echo "curricle score ended with code $code" >&2 ;;
esac
exit "$code"
