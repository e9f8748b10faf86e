"""Pages of a folder looked at in a headless Chromium, which needs nothing but its own program and the standard library.

A page of the test's, in which each page of the site stands in a frame of some width, is opened; its script sends back
what it found.
"""

import functools
import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def installed() -> str | None:
    """The program of a browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Site(http.server.SimpleHTTPRequestHandler):
    """The folder, the test's page, and where its script sends what it found."""

    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/look":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"<!doctype html><body><script>{self.server.script}</script>".encode())

    def do_POST(self) -> None:
        self.server.found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.answered.set()


def look(folder: Path, script: str, profile: Path, limit: float = 300) -> Any:
    """What a script returns that runs beside the pages of a folder: the body of an async function."""
    browser = installed()
    assert browser is not None
    handler = functools.partial(Site, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        wrapped = f"""(async () => {{ {script} }})().catch(error => ({{ error: String(error.stack) }}))
            .then(found => fetch("/found", {{ method: "POST", body: JSON.stringify(found) }}))"""
        vars(server).update(script=wrapped, answered=threading.Event(), found=None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--window-size=1500,1000", f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/look",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert vars(server)["answered"].wait(limit), "the browser sent nothing"
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()
        return vars(server)["found"]
