"""Scores new instruction data every night on a GPU in Kubernetes, and checks the table: a DAG for Airflow 3.

A task that Airflow tries again goes on from the finished shards, because it is the same command.
"""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import models as k8s

IMAGE = "curricle:pipeline-gpu"  # put your registry before it
OUTPUT = "s3://warehouse/scored/{{ ds }}"

NEVER_AGAIN = {
    2: "wrong usage: nothing was written",
    3: "the table is whole, but too many records were rejected: look at its report.html",
}
HELD_BY_ANOTHER = 4


class CurriclePod(KubernetesPodOperator):
    """Fails a task at once where another try could only end in the same way."""

    def cleanup(self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, *args: Any, **kwargs: Any) -> None:
        try:
            super().cleanup(pod, remote_pod, *args, **kwargs)
        except AirflowException as error:
            for container in remote_pod.status.container_statuses or ():
                ended = container.state.terminated
                if ended and ended.exit_code in NEVER_AGAIN:
                    raise AirflowFailException(NEVER_AGAIN[ended.exit_code]) from error
            raise


with DAG(
    dag_id="curricle_score",
    schedule="17 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
        "image": IMAGE,
        "namespace": "curricle",
        "service_account_name": "curricle",  # its role may read the input and write the output
        "security_context": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "termination_grace_period": 120,  # time to finish or to abandon the open shard
        "startup_timeout_seconds": 900,  # a node with a GPU may have to be started first
    },
) as dag:
    score = CurriclePod(
        task_id="score",
        name="curricle-score",
        arguments=[
            *("score", "s3://warehouse/instructions/{{ ds }}/*.jsonl.gz", "--output", OUTPUT),
            *("--proxy.backend", "vllm", "--proxy.dtype", "bfloat16", "--log-format", "json"),
        ],
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "4", "memory": "24Gi"}, limits={"memory": "24Gi", "nvidia.com/gpu": "1"}
        ),
        skip_on_exit_code=HELD_BY_ANOTHER,
        execution_timeout=timedelta(hours=12),
    )
    verify = CurriclePod(
        task_id="verify",
        name="curricle-verify",
        arguments=["verify", OUTPUT],
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "1", "memory": "4Gi"}, limits={"memory": "4Gi"}
        ),
        execution_timeout=timedelta(hours=1),
    )
    score >> verify
