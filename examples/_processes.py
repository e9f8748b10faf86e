"""What 06_two_processes.py needs of the operating system."""

import socket
import subprocess
import sys
import time


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def together(commands: list[list[str]], limit: float) -> list[str]:
    """What each command prints. When one fails, or time is up, all are killed: the others would wait for it forever."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    processes, end = [subprocess.Popen(command, **pipe) for command in commands], time.monotonic() + limit
    try:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes) or time.monotonic() > end:
                break
            time.sleep(0.05)
        codes = [process.poll() for process in processes]
    finally:
        for process in processes:
            process.kill()
    printed = [process.communicate() for process in processes]
    if any(codes):
        sys.exit("\n".join(f"process {i}: {errors}" for i, (_, errors) in enumerate(printed) if codes[i]))
    return [output for output, _ in printed] if None not in codes else sys.exit(f"not done after {limit:g} seconds")
