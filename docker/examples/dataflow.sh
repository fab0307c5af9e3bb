#!/usr/bin/env bash
# Score on Google Dataflow. Here: curricle[curate,gcp] as in the image, and application default credentials.
# IMAGE is the target beam-worker, in a registry that the workers' service account reads. For GPUs build it with
# --build-arg TORCH=cu130, and set ACCELERATOR, for instance to type:nvidia-l4;count:1;install-nvidia-driver
set -euo pipefail
: "${PROJECT:?is a Google Cloud project}" "${REGION:?is a region, such as europe-west4}"
: "${BUCKET:?is a bucket, without gs://}" "${IMAGE:?is the address of the image beam-worker}"

options=()
if [[ -n ${ACCELERATOR:-} ]]; then
    options+=(--beam.dataflow_service_options "worker_accelerator=$ACCELERATOR")
fi

# Dataflow takes the code from the image: nothing is staged, and nothing is installed when a worker starts.
curricle score "gs://$BUCKET/instructions/*.jsonl.gz" --output "gs://$BUCKET/scored" \
    --engine dataflow --workers 8 --log-format json \
    --beam.project "$PROJECT" --beam.region "$REGION" --beam.temp_location "gs://$BUCKET/tmp" \
    --beam.sdk_container_image "$IMAGE" --beam.sdk_location container \
    --beam.num_workers 8 --beam.max_num_workers 8 --beam.machine_type n1-standard-8 --beam.disk_size_gb 100 \
    "${options[@]}"
curricle verify "gs://$BUCKET/scored"
