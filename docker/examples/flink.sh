#!/usr/bin/env bash
# Score on a Flink cluster. Here: curricle[curate] and a cloud's extra as in the image, and Java 11 or newer, with which
# Beam starts its job server; it fetches that from Maven, or takes the file in JOB_SERVER_JAR.
# Beside each TaskManager, in its network, runs a pool of workers:
#   docker run -d --init --network host --entrypoint curricle curricle:beam-worker workers
set -euo pipefail
: "${FLINK:?is HOST:PORT of the JobManager, such as flink:8081}"
: "${INPUT:?is where the data is}" "${OUTPUT:?is where the table goes: all workers must reach both}"
command -v java >/dev/null || { echo "there is no java here, which Beam's job server needs" >&2 && exit 2; }

options=()
if [[ -n ${JOB_SERVER_JAR:-} ]]; then
    options+=(--beam.flink_job_server_jar "$JOB_SERVER_JAR")
fi

curricle score "$INPUT" --output "$OUTPUT" \
    --engine flink --engine-address "$FLINK" --workers 4 --log-format json \
    --beam.flink_version 2.2 --beam.parallelism 4 \
    --beam.environment_type EXTERNAL --beam.environment_config localhost:50000 \
    "${options[@]}"
curricle verify "$OUTPUT"
