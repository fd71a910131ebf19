"""Write the results of a study into a folder: all files or none, the report last."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dicom_seg.encode import EncodedObject
from dicom_seg.write import write_dicom
from pipeline.atomic_write import make_folders, sync_folder, write_file
from pipeline.errors import OutputRefused
from plugin.archive.report import Report
from plugin.archive.report_reader import REPORT_FILE


def write_results(report: Report, objects: Sequence[EncodedObject], out: Path) -> None:
    """Write `objects` and the report to `out`, and remove the files that an earlier report there names.

    All files are written and synced in a temporary folder inside `out` and renamed at the end, `report.json` last:
    where that file is, the results are complete. They survive a power cut when this returns. Raises OutputRefused where
    the disk is full or read-only; then what was written is removed again.
    """
    staging: Path | None = None
    try:
        make_folders(out)
        staging = Path(tempfile.mkdtemp(prefix=".glionode-", dir=out))
        for each in objects:
            write_dicom(each.content or each.dataset, staging / each.file_name)
        write_file(staging / REPORT_FILE, report.to_json())
        _remove_earlier(out)
        for each in objects:
            (staging / each.file_name).replace(out / each.file_name)
        (staging / REPORT_FILE).replace(out / REPORT_FILE)
        sync_folder(out)
    except (OSError, OutputRefused) as exc:
        cause = exc if isinstance(exc, OSError) else exc.__cause__
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(exc)
        raise OutputRefused(
            f"The results of study {report.study_instance_uid} cannot be written to {out}: {why}. Free some space "
            "there or choose another folder, then run it again; nothing half-written was left."
        ) from exc
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _remove_earlier(out: Path) -> None:
    """Remove an earlier report, then the files that it names, so that no SEG is left that belongs to no report."""
    report = out / REPORT_FILE
    try:
        names = [str(entry["path"]) for entry in json.loads(report.read_text(encoding="utf-8"))["outputs"]]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        names = []
    report.unlink()
    for name in names:
        if Path(name).name == name and name.endswith(".dcm"):
            (out / name).unlink(missing_ok=True)
