"""Execute the stages of the Dockerfile in chroots and run the result; started by run_dockerfile.sh.

It replaces a container engine: it executes the Dockerfile's instructions in the root of a Debian made by debootstrap.
It does not test the base image itself, layers, or the engine's confinement.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

from tests.support.paths import ROOT

SUITE = "bookworm"
HEALTHY_LIMIT_S = 120.0


@dataclass
class Stage:
    """The root of a stage of the Dockerfile, and what its instructions have set so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    build_arguments: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    commands: dict[str, list[str]] = field(default_factory=dict)


def say(text: str) -> None:
    print(text, flush=True)


def substitute(text: str, values: dict[str, str]) -> str:
    """Replace the variables in a text; unknown ones by nothing."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], ""), text)


def size_mib(root: Path, binds: list[str]) -> int:
    """Return the size of a root in MiB, without other file systems and bound folders."""
    others = [f"--exclude={root}{name}" for name in binds]
    return int(subprocess.check_output(["du", "-sxm", *others, str(root)], text=True).split()[0])


def clean(root: Path) -> None:
    """Remove the package lists and keep no installed packages, as in Debian's own image."""
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    )
    for folder in ("var/lib/apt/lists", "var/cache/apt/archives"):
        shutil.rmtree(root / folder)
        (root / folder / "partial").mkdir(parents=True)


def prepare(root: Path, binds: list[str]) -> None:
    """Mount what an engine mounts into a root; the mounts end with the namespace."""
    for kind, place in (("proc", "proc"), ("tmpfs", "tmp"), ("tmpfs", "run")):
        subprocess.run(["mount", "-t", kind, kind, str(root / place)], check=True)
    subprocess.run(["mount", "--rbind", "/dev", str(root / "dev")], check=True)
    for name in binds:
        (root / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", "-o", "ro", name, str(root / name.lstrip("/"))], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "etc/hosts").write_text("127.0.0.1 localhost node orthanc\n")


def start(stage: Stage, command: list[str], within: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[bytes]:
    """Start a command in a stage's root, with only the PIP_* and proxy variables of this machine's environment.

    `within` is a command line of unshare or nsenter, which gives the namespaces.
    """
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **passed, **stage.build_arguments, **stage.environment}
    given = [f"{name}={value}" for name, value in environment.items()]
    inside = ["sh", "-c", 'cd "$0" && exec "$@"', stage.folder, *command]
    return subprocess.Popen(
        [*within, "chroot", f"--userspec={stage.user}", str(stage.root), "env", "-i", *given, *inside], **more
    )


def in_own_namespaces(stage: Stage) -> tuple[str, ...]:
    """Return `within` for `start`: the command becomes process 1 of its own namespaces, as in an engine."""
    return ("unshare", "--pid", "--fork", "--kill-child", "--mount", f"--mount-proc={stage.root}/proc")


def find_first_pid(process: subprocess.Popen[bytes]) -> int:
    """Wait for process 1 of the namespaces of `in_own_namespaces`, and return its id on this machine."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (first := children.read_text()):
        if process.poll() is not None:
            sys.exit(f"{process.args}: exit status {process.returncode}")
        time.sleep(0.01)
    return int(first)


def in_namespaces_of(first: int) -> tuple[str, ...]:
    """Return `within` for `start`: the namespaces of a process 1, in which an engine runs HEALTHCHECK."""
    return ("nsenter", f"--target={first}", "--pid", "--mount", "--net")


def run(stage: Stage, command: list[str]) -> None:
    """Run a command in a stage's root. Exits if it fails."""
    status = start(stage, command, in_own_namespaces(stage)).wait()
    if status:
        sys.exit(f"{command}: exit status {status}")


def await_health(stage: Stage, process: subprocess.Popen[bytes]) -> None:
    """Run HEALTHCHECK until it succeeds."""
    started, first = time.monotonic(), find_first_pid(process)
    while start(stage, stage.commands["HEALTHCHECK"], in_namespaces_of(first), stderr=subprocess.DEVNULL).wait():
        if process.poll() is not None or time.monotonic() - started > HEALTHY_LIMIT_S:
            sys.exit(f"{stage.root.name} did not become healthy within {HEALTHY_LIMIT_S:.0f} s.")
        time.sleep(0.5)
    say(f"{stage.root.name}: HEALTHCHECK passed after {time.monotonic() - started:.1f} s")


def copy(stage: Stage, value: str, stages: dict[str, Stage]) -> None:
    """Execute a COPY instruction."""
    (*options,) = (word for word in shlex.split(value) if word.startswith("--"))
    *sources, target = (word for word in shlex.split(value) if not word.startswith("--"))
    named = [option.removeprefix("--from=") for option in options if option.startswith("--from=")]
    origin = stages[named[0]].root if named else ROOT
    place = stage.root / str(Path(stage.folder) / target).lstrip("/")
    for source in sources:
        found = origin / source.lstrip("/")
        if found.is_dir():
            ignore = shutil.ignore_patterns("__pycache__") if origin == ROOT else None
            shutil.copytree(found, place, symlinks=True, ignore=ignore, dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, place)


def execute(dockerfile: Path, options: argparse.Namespace, work: Path) -> Stage:
    """Execute every instruction, print the size that each adds, and return the last stage."""
    with dockerfile.open("rb") as file:
        lines = DockerfileParser(fileobj=file).structure
    chosen = dict(pair.split("=", 1) for pair in options.build_arg)
    stages: dict[str, Stage] = {}
    stage = Stage(work / "nothing")
    for line in lines:
        word, value = line["instruction"], line["value"]
        if word == "FROM":
            name = value.split()[-1] if " AS " in value else dockerfile.stem
            stage = stages[name] = Stage(work / name)
            subprocess.run(["cp", "-a", str(work / "base"), str(stage.root)], check=True)
            prepare(stage.root, options.bind)
            say(f"{size_mib(stage.root, options.bind):6} MiB  FROM {value}")
            continue
        before = size_mib(stage.root, options.bind) if word in ("RUN", "COPY") else 0
        if word == "ARG":
            name, _, default = value.partition("=")
            stage.build_arguments[name] = chosen.get(name, default)
        elif word == "ENV":
            pairs = (pair.split("=", 1) for pair in shlex.split(value))
            stage.environment |= {name: substitute(text, stage.environment) for name, text in pairs}
        elif word == "WORKDIR":
            stage.folder = value
            (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = value
        elif word == "RUN":
            run(stage, ["sh", "-c", value])
        elif word == "COPY":
            copy(stage, value, stages)
        elif word in ("ENTRYPOINT", "CMD"):
            stage.commands[word] = json.loads(value)
        elif word == "HEALTHCHECK":
            stage.commands[word] = json.loads(value[value.index("[") :])
        if word in ("RUN", "COPY"):
            say(f"{size_mib(stage.root, options.bind) - before:+6} MiB  {word} {' '.join(value.split())[:100]}")
    say(f"{size_mib(stage.root, options.bind):6} MiB  in all")
    return stage


def demonstrate(stage: Stage) -> None:
    """Run `glionode demo`, then the node with its health check, then `xnat-session` as another user, as XNAT does."""
    entry = stage.commands["ENTRYPOINT"]
    stage.environment["HOME"] = "/tmp/home"  # a volume in a container
    run(stage, ["mkdir", "-p", "/tmp/home"])
    run(stage, [*entry, "demo", "/tmp/demo"])
    run(stage, ["ls", "-l", "/tmp/demo"])
    node = start(stage, [*entry, *stage.commands["CMD"]], in_own_namespaces(stage))
    await_health(stage, node)
    os.kill(find_first_pid(node), signal.SIGTERM)
    say(f"SIGTERM: exit status {node.wait(timeout=60)}")
    stage.user = "12345:12345"
    run(stage, ["mkdir", "/tmp/xnat"])
    run(stage, [*entry, "phantom", "/tmp/xnat/in"])
    run(
        stage,
        ["sh", "-c", "mkdir -p /tmp/xnat/session/SCANS/1 && mv /tmp/xnat/in/dicom /tmp/xnat/session/SCANS/1/DICOM"],
    )
    run(stage, ["glionode", "xnat-session", "/tmp/xnat/session", "/tmp/xnat/out", "--session-id", "XNAT_E1"])
    run(stage, ["find", "/tmp/xnat/out", "-type", "f"])


def main() -> None:
    """Make the roots, execute the Dockerfiles and run the images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--bind", action="append", default=[], metavar="DIR", help="mount a folder into the roots, read-only"
    )
    parser.add_argument("--compose", action="store_true", help="also run orthanc-config/compose.yaml")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/glionode-image"), help="folder for the roots, 8 GB")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for old in options.work.iterdir():
        if old.name != "base":
            shutil.rmtree(old)
    if not (options.work / "base").exists():
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(options.work / "making")], check=True)
        clean(options.work / "making")
        (options.work / "making").rename(options.work / "base")
    node = execute(ROOT / "Dockerfile", options, options.work)
    demonstrate(node)
    if options.compose:
        from tests.end_to_end.walk_with_compose import compose

        compose(node, execute(ROOT / "orthanc-config/orthanc.Dockerfile", options, options.work), options.work)


if __name__ == "__main__":
    main()
