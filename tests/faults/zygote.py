"""A process that has all of fastmove in memory, and forks a command for the asking: 20 ms instead of half a second.

Run as `python -m tests.faults.zygote FD` with one end of a socket pair.  Requests and answers are JSON; a request to
start a command comes with the descriptors of its standard output and standard error.  The command itself is the real
one, from `fastmove.cli.main` to its exit code; only what every start imports is there already.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import sys
from collections.abc import Iterable

import uvloop  # noqa: F401  so that it is in memory

import fastmove
from fastmove.cli.main import program

MAX_REQUEST = 1 << 16
PR_SET_PDEATHSIG = 1


def preload() -> None:
    """Import what commands import when they are called, but for the parts that only the bench or the PACS needs."""
    for package in ("cli", "net", "services", "storage", "dimse", "ul"):
        module = importlib.import_module(f"fastmove.{package}")
        for found in pkgutil.walk_packages(module.__path__, f"fastmove.{package}."):
            importlib.import_module(found.name)


def serve(requests: socket.socket) -> list[str] | None:
    """Answer requests to their end: None; in a child, what it is called with."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST, 2)
        if not data:
            return None
        request = json.loads(data)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            requests.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
            continue
        pid = os.fork()
        if not pid:
            requests.close()
            become(request, descriptors)
            return list(request["arguments"])
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(json.dumps({"pid": pid}).encode())


def become(request: dict[str, object], descriptors: Iterable[int]) -> None:
    """A child: a session, descriptors, limits and a plan of its own."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody is left behind when the tests are killed
    for descriptor, number in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(str(request["cwd"]))
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    for name, limit in dict(request["limits"]).items():  # type: ignore[call-overload]
        resource.setrlimit(getattr(resource, name), (limit, limit))
    shim = ctypes.CDLL(None)
    for function in ("fault_plan", "fault_log"):
        if request[function]:
            failed = getattr(shim, function)(os.fsencode(str(request[function])))
            if failed:
                raise OSError(failed, os.strerror(failed), request[function])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        ours.send(b"{}")
        arguments = serve(ours)
    if arguments is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["fastmove", *arguments]
        assert fastmove.__file__
        program()
