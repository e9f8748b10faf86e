"""Build the source distribution and the wheel into a folder, the same byte for byte whoever builds them: `make wheel`.

Their date is that of the version in the changelog. The wheel is made from the source distribution, and both are made in
an environment that pip makes for it, with one version of setuptools. Only zlib, by which they are compressed, is the
machine's.
"""

import datetime
import gzip
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILDER = "setuptools==84.2.1"
"""The wheel names the version that made it. pyproject.toml admits others, for who builds it otherwise."""
RELEASE = re.compile(r"^## \[\d[^]]*\] - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def date() -> int:
    """Of the latest release in the changelog, in seconds since 1970."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    match = RELEASE.search(text)
    if match is None:
        sys.exit("CHANGELOG.md has no released version: ## [0.2.0] - 2026-11-28")
    return int(datetime.datetime.fromisoformat(f"{match[1]}T00:00:00+00:00").timestamp())


def normalised(archive: bytes, when: int) -> bytes:
    """A ``.tar.gz`` with one date, no owner, one order of its files, and two kinds of permissions."""
    written = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile(filename="", mode="wb", fileobj=written, mtime=when) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = when, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return written.getvalue()


def build(what: str, source: Path, folder: Path) -> Path:
    """One of both, and where it is."""
    os.umask(0o022)
    command = [sys.executable, "-m", "build", f"--{what}", "--outdir", str(folder), str(source)]
    with tempfile.TemporaryDirectory() as name:
        constraint = Path(name) / "builder.txt"
        constraint.write_text(BUILDER, encoding="utf-8")
        # As a URL, for pip splits what a variable holds at its spaces.
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(date()), "PIP_CONSTRAINT": constraint.as_uri()}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    [made] = folder.glob({"sdist": "*.tar.gz", "wheel": "*.whl"}[what])
    return made


def main() -> None:
    """The source distribution, and of it the wheel."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    source = build("sdist", ROOT, folder)
    source.write_bytes(normalised(source.read_bytes(), date()))
    with tempfile.TemporaryDirectory() as name, tarfile.open(source) as archive:
        archive.extractall(name, filter="data")
        [unpacked] = Path(name).iterdir()
        print(source, build("wheel", unpacked, folder))


if __name__ == "__main__":
    main()
