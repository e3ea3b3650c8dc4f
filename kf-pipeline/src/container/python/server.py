"""Runs Python steps in forked copies of itself, so that a step costs a fork and not an interpreter's start.

The engine gives one argument: the path of a Unix socket to connect to. Over it come requests, each a length (4 bytes,
big-endian) and a JSON object, with the write end of a pipe as a file descriptor; back go JSON lines:
{"ready": true} once, {"id": n, "pid": p} when a step has begun, {"id": n, "status": s} when it has ended, s being the
exit code or minus the signal, with {"used": {"cpu_ms": c, "peak_memory": bytes}} beside it. {"id": n, "signal": s} asks for a signal to a step's process group. The server ends when
the socket closes, and its steps end with it.
"""

import atexit
import ctypes
import gc
import json
import os
import signal
import socket
import struct
import sys
import threading
import traceback

os.environ["_KFP_RUNTIME"] = "true"

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1


def libc():
    return ctypes.CDLL(None, use_errno=True)


def check(done, what):
    if done != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def bind(mounts):
    """Lets this process, and it alone, see each source at its target."""
    c = libc()
    check(c.unshare(CLONE_NEWNS), "a mount namespace of its own, for the step's volumes")
    check(c.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "make mounts private")
    for source, target in mounts:
        os.makedirs(target, exist_ok=True)
        check(c.mount(source.encode(), target.encode(), None, MS_BIND, None), f"mount {source} at {target}")


def step(request, output, server):
    """What the forked child does; gives the exit code."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            return 1
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
    os.close(output)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(request["env"])
    if request["mounts"]:
        bind(request["mounts"])
    os.chdir(request["cwd"])
    # As `python3 -m` has it; and what is imported from the step's own folders is imported once.
    sys.path[0] = request["cwd"]
    sys.dont_write_bytecode = True
    from kfp.dsl import executor_main

    # Where a step starts processes by `spawn`, they import the main module anew.
    sys.modules["__main__"] = executor_main
    sys.argv = [executor_main.__file__, "--component_module_path", request["module"], *request["args"]]
    executor_main.executor_main()
    return 0


def child(request, output, server):
    """Ends the process as an interpreter would that had run nothing but the step."""
    code = 1
    try:
        code = step(request, output, server)
    except SystemExit as end:
        if end.code is None:
            code = 0
        elif isinstance(end.code, int):
            code = end.code & 0xFF
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = code or 1
    os._exit(code)


class Server:
    def __init__(self, path):
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(path)
        self.running = {}
        self.wake, wake = os.pipe()
        for end in (self.wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def tell(self, message):
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        """The next request and its file descriptor; none at the end."""
        head, fds, _, _ = socket.recv_fds(self.connection, 4, 1)
        while head and len(head) < 4:
            more = self.connection.recv(4 - len(head))
            head = head + more if more else b""
        if not head:
            return None
        left = struct.unpack(">I", head)[0]
        parts = []
        while left:
            part = self.connection.recv(min(left, 1 << 20))
            if not part:
                return None
            parts.append(part)
            left -= len(part)
        return json.loads(b"".join(parts)), (fds[0] if fds else None)

    def serve(self):
        import select

        self.tell({"ready": True})
        while True:
            readable, _, _ = select.select([self.connection, self.wake], [], [])
            if self.wake in readable:
                os.read(self.wake, 4096)
                self.reap()
            if self.connection in readable:
                request = self.receive()
                if request is None:
                    return
                self.handle(*request)

    def handle(self, request, output):
        if "signal" in request:
            pid = self.running.get(request["id"])
            if pid:
                kill(pid, request["signal"])
            return
        if output is None:
            # The system had no descriptor left for it.
            self.tell({"id": request["id"], "status": 1})
            return
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.write(output, f"the step's process could not be started: {error}\n".encode())
            os.close(output)
            self.tell({"id": request["id"], "status": 1})
            return
        if pid == 0:
            self.connection.close()
            child(request, output, server)
        try:
            os.setpgid(pid, pid)
        except OSError:
            pass
        os.close(output)
        self.running[request["id"]] = pid
        self.tell({"id": request["id"], "pid": pid})

    def reap(self):
        for number, pid in list(self.running.items()):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            # What it left behind in its group; its number is nobody else's as long as it is not reaped.
            kill(pid, signal.SIGKILL)
            _, status, used = os.wait4(pid, 0)
            del self.running[number]
            self.tell({"id": number, "status": os.waitstatus_to_exitcode(status), "used": used_by(used)})


def used_by(usage):
    """What getrusage(2) tells of a process: its memory is in KiB on Linux, and in bytes on macOS."""
    unit = 1 if sys.platform == "darwin" else 1024
    return {"cpu_ms": int((usage.ru_utime + usage.ru_stime) * 1000), "peak_memory": usage.ru_maxrss * unit}


def kill(pid, number):
    try:
        os.killpg(pid, number)
    except OSError:
        # It has ended, or has become another user's.
        pass


def warm(folder):
    """Runs a step that does nothing, so that what is imported and compiled at first use is there for all steps."""
    import logging

    from kfp.dsl import executor_main

    module = os.path.join(folder, "kf_nothing.py")
    with open(module, "w") as file:
        file.write("import kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\n\n")
        file.write("def f(text: str, number: int) -> str:\n    return text\n")
    asked = {
        "inputs": {"parameterValues": {"text": "", "number": 1}},
        "outputs": {"outputFile": os.path.join(folder, "output.json")},
    }
    before = sys.argv, list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.argv = ["", "--component_module_path", module, "--function_to_execute", "f"]
    sys.argv += ["--executor_input", json.dumps(asked)]
    try:
        executor_main.executor_main()
    except Exception:
        # A step will say so itself.
        traceback.print_exc()
    sys.argv, sys.path[:], sys.dont_write_bytecode = before
    sys.modules.pop("kf_nothing", None)
    for handler in logging.root.handlers[:]:
        logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)


def main():
    warm(os.path.dirname(sys.argv[1]))
    server = Server(sys.argv[1])
    gc.collect()
    gc.freeze()
    try:
        server.serve()
    finally:
        for pid in server.running.values():
            kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
