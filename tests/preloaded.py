"""A `python` that starts at once: it runs modules in forks of a process that has imported what takes them long."""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir

import psutil
from filelock import FileLock

# Nothing that looks at the environment when it is imported, as pygit2 does for the home, and nothing of this project,
# of which each checkout has its own; but that imports torchvision as the stages do, and is forgotten again.
PRELOADED = [
    "configobj", "dulwich.porcelain", "dvc.cli.parser", "dvc.commands.experiments", "dvc.render", "dvc.repo.index",
    "dvc.repo.experiments.executor.local", "dvc.repo.experiments.queue.celery", "dvc.repo.experiments.queue.workspace",
    "dvc.repo.reproduce", "dvc.repo.status", "dvc.stage.cache", "dvc_data.index", "dvclive", "flatten_dict",
    "fsspec.implementations.local", "hydra._internal.config_loader_impl", "hydra.core.override_parser.overrides_parser",
    "networkx", "omegaconf", "PIL.Image", "PIL.ImageOps", "platformdirs", "psutil", "pydantic", "pyparsing",
    "requests", "rich.table", "ruamel.yaml", "safetensors.numpy", "safetensors.torch", "scipy.optimize",
    "scipy.special", "tabulate", "threadpoolctl", "torch", "yaml", "zc.lockfile",
]  # fmt: skip
TORCHVISION = "stages.model.families"
ROOT = Path(__file__).parent.parent
CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
if sys.argv[1:2] != ["-m"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    status = int(server.recv(100))
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@cache
def folder_of_python() -> str:
    """Return a folder with such a `python`, to come first in a PATH; all workers of a run of the tests share it."""
    tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = Path(gettempdir(), f"python-{os.environ.get('PYTEST_XDIST_TESTRUNUID', tests)}")
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            client = folder / "python"
            client.write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")))
            client.chmod(0o755)
            command = [sys.executable, "-m", "tests.preloaded", str(folder), str(tests)]
            server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
    return str(folder)


def wait_for_request(folder: Path, tests: int) -> str:
    """Fork for each request that comes, until the tests end; return, in the fork, the name of the module to be run."""
    for name in [*PRELOADED, TORCHVISION]:
        import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in {"stages", "tests"}]:
        del sys.modules[name]
    gc.freeze()  # or the first collection in a fork copies what it looks at
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen(100)
        print("ready", flush=True)
        while psutil.pid_exists(tests):
            if not select.select([server], [], [], 0.5)[0]:
                continue
            connection, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return become(connection, folder / "python")
            connection.close()
    shutil.rmtree(folder)
    folder.with_suffix(".lock").unlink()
    sys.exit()


def become(connection: socket.socket, python: Path) -> str:
    """Take over what a client was started with, in a child whose exit status it is told; return the module's name."""
    size, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as file:
        arguments, folder, environment = json.loads(file.read(int.from_bytes(size, "big")))
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(status).encode())
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    if encoding := environment.get("PYTHONIOENCODING"):
        sys.stdin, sys.stdout = os.fdopen(0, encoding=encoding), os.fdopen(1, "w", encoding=encoding)
        sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", buffering=1)
    sys.argv = arguments
    if arguments[0].startswith("tools."):
        sys.executable = str(python)  # by which they run DVC
    return str(arguments[0])


def run(name: str) -> None:
    """Run a module as a program that ends without freeing what it shares with the process it was forked from.

    That takes a second: each of the objects is written to, and the page it lies in copied.
    """
    status: object = 0
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run(wait_for_request(Path(sys.argv[1]), int(sys.argv[2])))
