"""Cut the power of processes whose files are in one folder, and put there what a disk would have kept.

`power_cut.c`, preloaded into the processes, keeps what they sync. It is the least that POSIX promises: what was not
synced is lost, the names of new files and folders too. Only below `named` a sync of a file keeps its name as well.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


class CannotCutPower(Exception):
    """This machine lacks what a simulated power cut needs."""


class PowerCut:
    """The power of the processes that this one starts from now on. One at a time in a process."""

    def __init__(self, root: Path, named: Path, work: Path) -> None:
        """Watch the folder `root`, of which all counts as on disk; `work` is an empty folder. Raises CannotCutPower."""
        library = work / "power_cut.so"
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise CannotCutPower("there is no C compiler for tests/support/power_cut.c here")
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE)],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            raise CannotCutPower(f"tests/support/power_cut.c cannot be built here: {built.stderr.strip()[-200:]}")
        self._root = root
        self._kept = work / "kept"
        self._off = work / "off"
        self._library = ctypes.CDLL(str(library))
        os.environ |= {
            "POWER_CUT_ROOT": str(root),
            "POWER_CUT_NAMED": str(named),
            "POWER_CUT_KEPT": str(self._kept),
            "LD_PRELOAD": str(library),
        }
        self._keep_all()

    def cut(self) -> None:
        """Cut the power: from now on nothing more is synced. The processes are still to be killed."""
        self._kept.rename(self._off)

    def restore(self) -> None:
        """Replace the folder by what was on the disk. All its processes must have ended."""
        names = {path.name: path.read_text().splitlines() for path in (self._off / "names").iterdir()}
        own_times = {path.name: path.stat().st_mtime_ns for path in (self._off / "names").iterdir()}
        key = self._key(self._root)
        shutil.rmtree(self._root)
        self._root.mkdir(mode=0o700)
        made: dict[str, Path] = {}
        waiting = [(self._root, key)]
        times: list[tuple[Path, int]] = []
        while waiting:
            folder, of_folder = waiting.pop()
            for line in names.get(of_folder, ()):
                each, kind, mode, user, group, time_ns, name = line.split(" ", 6)
                path = folder / name
                if kind == "d":
                    path.mkdir()
                    waiting.append((path, each))
                elif each in made:
                    os.link(made[each], path)  # a second name of one file
                else:
                    content = self._off / "file" / each
                    content.rename(path) if content.exists() else path.touch()
                    made[each] = path
                os.chown(path, int(user), int(group))
                path.chmod(int(mode, 8))
                times.append((path, own_times.get(each, int(time_ns))))
        for path, time_ns in times:  # at last: a new name in a folder changes its time
            os.utime(path, ns=(time_ns, time_ns))
        shutil.rmtree(self._off)
        self._keep_all()

    def _keep_all(self) -> None:
        for folder in (self._kept, self._kept / "file", self._kept / "names"):
            folder.mkdir()
        for path in (self._root, *self._root.rglob("*")):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if self._library.fsync(descriptor):
                    raise CannotCutPower(f"{path} cannot be kept")
            finally:
                os.close(descriptor)

    def _key(self, path: Path) -> str:
        key = ctypes.create_string_buffer(80)
        if self._library.power_cut_key(os.fsencode(path), key) < 0:
            raise CannotCutPower(f"statx does not say when {path} was made")
        return key.value.decode()
