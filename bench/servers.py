"""MLflow's real server in a process of its own, and servers before it that make trouble."""

import contextlib
import http.client
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

Handler = http.server.BaseHTTPRequestHandler

_START_SECONDS = 60.0


def free_port() -> int:
    """A port of this machine on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mlflow_server(
    folder: Path, port: int, *, database: str | None = None, artifacts: str | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """MLflow's own server, in a process group of its own.

    Args:
        folder: holds the store, where nothing else is said.
        port: on 127.0.0.1.
        database: where the runs are kept.
        artifacts: where the server keeps files.

    Raises:
        TimeoutError: it does not answer within a minute.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database or f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", artifacts or str(folder / "served")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    server = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/health")
        yield server
    finally:
        server.terminate()
        server.wait()


def wait_until_ready(url: str) -> None:
    """Waits until an address answers.

    Raises:
        TimeoutError: it does not within a minute.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=1).close()
            return
        time.sleep(0.1)
    raise TimeoutError(url)


@contextlib.contextmanager
def bad_server(answer: Callable[[Handler], object]) -> Iterator[str]:
    """A server that does `answer(handler)` to each request; yields its address."""

    class Answering(Handler):
        def do_GET(self) -> None:  # noqa: N802  # the name that http.server looks for
            answer(self)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def proxy(port: int, interfere: Callable[[Handler], object]) -> Iterator[str]:
    """A server before another, which gets what `interfere(handler)` has not answered."""

    def answer(handler: Handler) -> None:
        if interfere(handler):
            return
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        there = http.client.HTTPConnection("127.0.0.1", port)
        there.request(handler.command, handler.path, body, dict(handler.headers))
        response = there.getresponse()
        content = response.read()
        there.close()
        handler.send_response(response.status)
        handler.send_header("Content-Type", response.headers.get("Content-Type", "text/plain"))
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with contextlib.suppress(OSError):  # who asked has given up
            handler.wfile.write(content)

    with bad_server(answer) as address:
        yield address
