"""A service that speaks S3, in a process of its own on loopback, with nothing but memory behind it."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection

from nixmill.edge.binary_cache.objects_s3 import S3Place

BUCKET = "results"
PATIENCE_S = 60.0
_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextlib.contextmanager
def s3_server() -> Iterator[S3Place]:
    """Run a service with one empty bucket; yield where it is. It ends with its standard input."""
    arguments = [sys.executable, "-W", "ignore", "-c", _SERVE]
    server = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        _make_bucket(port)
        yield S3Place(bucket=BUCKET, endpoint=f"http://127.0.0.1:{port}", access_key="key", secret_key="any")  # noqa: S106
    finally:
        server.kill()
        server.communicate()


def _make_bucket(port: int) -> None:
    ends = time.monotonic() + PATIENCE_S
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("PUT", f"/{BUCKET}")
            assert connection.getresponse().status == 200
        except ConnectionRefusedError:
            assert time.monotonic() < ends, "the S3 service does not answer"
        else:
            return
        finally:
            connection.close()
