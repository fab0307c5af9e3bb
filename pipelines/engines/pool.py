"""A pool of Beam workers for engines that ask for one (``environment_type=EXTERNAL``): `curricle workers`.

Beam's own pool starts whatever ``python`` is first on PATH, binds every interface, and never reads what its workers
print, so that one that prints enough hangs. This one starts workers from its own environment, binds where it is told,
passes their output on, and says how they end.
"""

import logging
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from curricle.schemas.common.errors import UsageError

log = logging.getLogger("curricle")

_WORKER = (
    "import sys\n"
    "from apache_beam.runners.worker.sdk_worker import SdkHarness\n"
    "SdkHarness(sys.argv[1], worker_id=sys.argv[2]).run()\n"
)


class Pool(services.BeamFnExternalWorkerPoolServicer):
    """Starts and stops worker processes as an engine asks for them."""

    def __init__(self) -> None:
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def StartWorker(self, request: api.StartWorkerRequest, context: object) -> api.StartWorkerResponse:
        # -P: a user's own schemas/ in the working directory must not be found before ours
        worker = subprocess.Popen(
            [sys.executable, "-P", "-c", _WORKER, request.control_endpoint.url, request.worker_id], stdout=sys.stderr
        )
        self._workers[request.worker_id] = worker
        log.info("worker %s started (process %d)", request.worker_id, worker.pid)
        threading.Thread(target=self._watch, args=(request.worker_id, worker), daemon=True).start()
        return api.StartWorkerResponse()

    def StopWorker(self, request: api.StopWorkerRequest, context: object) -> api.StopWorkerResponse:
        if worker := self._workers.pop(request.worker_id, None):
            worker.terminate()
        return api.StopWorkerResponse()

    def _watch(self, name: str, worker: "subprocess.Popen[bytes]") -> None:
        code = worker.wait()
        if self._workers.pop(name, None):  # nobody stopped it
            log.log(logging.ERROR if code else logging.INFO, "worker %s ended with code %d", name, code)

    def close(self) -> None:
        while self._workers:
            self._workers.popitem()[1].kill()


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; the workers end with the pool."""
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    pool = Pool()
    services.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise UsageError(
            f"cannot listen: {error}", where=f"{host}:{port}", remedy="name an address of this machine and a free port"
        ) from error
    server.start()
    log.info("workers at %s:%d; an engine finds them as environment_config=%s:%d", host, port, host, port)
    if host not in ("127.0.0.1", "localhost", "::1"):
        log.warning("whoever reaches this port can run code here: keep it inside a private network")
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()
    pool.close()
    server.stop(None)
