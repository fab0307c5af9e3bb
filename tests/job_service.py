"""A Beam job service on loopback that runs a job on several worker pools, for tests of the portable engine.

    python tests/job_service.py HOST:PORT HOST:PORT …

prints ``job service: PORT`` and ``pools: PORT`` (one address for all the pools). Beam's own job service always runs one
worker, whatever it is asked for.
"""

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.local_job_service import BeamJob, LocalJobServicer


class Router(services.BeamFnExternalWorkerPoolServicer):
    """Passes each request for a worker on to the next pool."""

    def __init__(self, addresses):
        self.pools = [services.BeamFnExternalWorkerPoolStub(grpc.insecure_channel(address)) for address in addresses]
        self.turns = itertools.cycle(self.pools)
        self.pool_of = {}

    def StartWorker(self, request, context):
        pool = self.pool_of[request.worker_id] = next(self.turns)
        return pool.StartWorker(request)

    def StopWorker(self, request, context):
        return self.pool_of.pop(request.worker_id).StopWorker(request)


def job_on(workers: int) -> type[BeamJob]:
    class Job(BeamJob):
        def _invoke_runner(self):
            self.set_state(beam_job_api_pb2.JobState.RUNNING)
            runner = FnApiRunner(provision_info=self._provision_info)
            runner._num_workers = workers
            return runner.run_via_runner_api(self._pipeline_proto, self.pipeline_options())

    return Job


def main(addresses: list[str]) -> None:
    router = grpc.server(ThreadPoolExecutor(max_workers=4))
    services.add_BeamFnExternalWorkerPoolServicer_to_server(Router(addresses), router)
    pools = router.add_insecure_port("127.0.0.1:0")
    router.start()
    service = LocalJobServicer(beam_job_type=job_on(len(addresses)))
    print(f"job service: {service.start_grpc_server()}", flush=True)
    print(f"pools: {pools}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
