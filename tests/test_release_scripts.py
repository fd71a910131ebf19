"""scripts/pin-images and scripts/sbom, as far as they can run without a network."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.paths import ROOT

FILES = ("Dockerfile", "orthanc-config/orthanc.Dockerfile", "orthanc-config/compose.yaml")
DIGEST = "sha256:" + "ab" * 32


def checkout(folder: Path) -> Path:
    for name in (*FILES, "scripts/pin-images", "scripts/sbom", "requirements/node.txt", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def pin(folder: Path, docker: str) -> subprocess.CompletedProcess[str]:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "docker").write_text(f"#!/bin/sh\n{docker}\n")
    (folder / "bin" / "docker").chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    command = [str(folder / "scripts/pin-images")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def images(folder: Path) -> list[str]:
    """Return the base images of all files, as their lines name them."""
    lines = "\n".join((folder / name).read_text(encoding="utf-8") for name in FILES).splitlines()
    stripped = [line.partition(" # ")[0].strip() for line in lines if not line.lstrip().startswith("#")]
    return [
        line.split("BASE=")[-1].split()[-1]
        for line in stripped
        if "debian:" in line or "postgres:" in line
        if line.startswith(("ARG BASE=", "FROM", "image:"))
    ]


def test_all_base_images_are_pinned_and_pinned_anew(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    named = [each.partition("@")[0] for each in images(folder)]
    assert sorted(set(named)) == ["debian:bookworm-slim", "postgres:17-bookworm"]
    for digest in (DIGEST, DIGEST.replace("ab", "cd")):
        done = pin(folder, f"echo {digest}")
        assert done.returncode == 0, done.stderr
        assert images(folder) == [f"{each}@{digest}" for each in named]


def test_without_a_registry_nothing_is_changed(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    for docker in ("exit 1", "echo nothing"):
        done = pin(folder, docker)
        assert (done.returncode, "could not be asked for debian:bookworm-slim" in done.stderr) == (2, True)
    assert [(folder / name).read_bytes() for name in FILES] == [(ROOT / name).read_bytes() for name in FILES]


def test_a_bill_of_materials_that_cannot_be_made_is_no_empty_one(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [str(folder / "scripts/sbom")], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, (folder / "sbom.cdx.json").exists()) == (2, False), done.stdout + done.stderr
    assert "cannot be installed" in done.stderr
