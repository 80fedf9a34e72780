"""Build the wheel twice, in two folders, from what is committed: the same SHA-256 twice, and it says what is in it.

`SOURCE_DATE_EPOCH` is the time of the commit, as whoever builds a release has it; the folders are left out of what the
compiler writes down.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def built(folder: Path, epoch: str) -> Path:
    """The wheel of HEAD, built in this folder."""
    source, out = folder / "source", folder / "wheel"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    mapped = f"-ffile-prefix-map={source}=. -fdebug-prefix-map={source}=."
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "CFLAGS": mapped, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (wheel,) = out.glob("*.whl")
    return wheel


def materials(wheel: Path) -> str:
    """The bill of materials (PEP 770) in a few words; KeyError if it is not there, or says nothing."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if ".dist-info/sboms/" in name and name.endswith(".cdx.json"))
        sbom = json.loads(archive.read(name))
    return ", ".join(
        f"{part['name']} {part['version']}" for part in [sbom["metadata"]["component"], *sbom["components"]]
    )


def main() -> int:
    """Exit code 1 if the two differ."""
    epoch = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        digests = {}
        for name in ("one", "another-with-a-longer-name"):
            wheel = built(Path(folder, name), epoch)
            digests[name] = hashlib.sha256(wheel.read_bytes()).hexdigest()
            print(f"{digests[name]}  {wheel.name}: {materials(wheel)}")
    same = len(set(digests.values())) == 1
    print("the same" if same else "they differ")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
