#!/usr/bin/env bash
# Score on a Spark 3 cluster. Here: curricle[curate] and a cloud's extra as in the image, and Java 11 or newer, with
# which Beam starts its job server; it fetches that from Maven, or takes the file in JOB_SERVER_JAR.
# Beside each Spark worker, in its network, runs a pool of workers:
#   docker run -d --init --network host --entrypoint curricle curricle:beam-worker workers
set -euo pipefail
: "${SPARK:?is the master, such as spark://spark:7077}"
: "${INPUT:?is where the data is}" "${OUTPUT:?is where the table goes: all workers must reach both}"
command -v java >/dev/null || { echo "there is no java here, which Beam's job server needs" >&2 && exit 2; }

options=()
if [[ -n ${JOB_SERVER_JAR:-} ]]; then
    options+=(--beam.spark_job_server_jar "$JOB_SERVER_JAR")
fi

curricle score "$INPUT" --output "$OUTPUT" \
    --engine spark --engine-address "$SPARK" --workers 4 --log-format json \
    --beam.spark_version 3 --beam.environment_type EXTERNAL --beam.environment_config localhost:50000 \
    "${options[@]}"
curricle verify "$OUTPUT"
