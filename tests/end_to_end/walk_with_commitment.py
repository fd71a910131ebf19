"""Storage Commitment between a node and Orthanc, both ways, and STOW-RS to Orthanc's DICOMweb. Prints JSON.

Run as a program: walk_with_commitment.py WORK_FOLDER ORTHANC DICOMWEB_PLUGIN. The node is whole, but segments by
stand-in: what is seen here is the sending.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from plugin.database.pool import database_url
from plugin.delivery.deliverer import echo
from plugin.delivery.sender import Outgoing
from plugin.delivery.stow_sender import StowSender
from plugin.jobs.outbox import OutboxEntry
from plugin.settings.destinations import StowDestinationSettings
from plugin.settings.sections import Settings
from tests.support.node import MR_IMAGE_STORAGE, NodeInThread, make_instance, new_study_uid, write_instance, write_model
from tests.support.programs import free_port, orthanc, orthanc_get, orthanc_post, private_network, wait_for
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

LIMIT_S = 40


def main(work: Path, orthanc_program: str, plugin: str) -> None:
    """Walk once and print what was seen."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    node_port, dicom_port, http_port = free_port(), free_port(), free_port()
    write_model(work / "models" / "stand-in")
    controls = work / "controls"
    controls.mkdir()
    web = {"name": "web", "url": f"http://127.0.0.1:{http_port}/dicom-web"}
    pacs = {"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": dicom_port}
    settings = Settings.model_validate(
        {
            "listener": {"port": node_port, "calling_ae_titles": ["ORTHANC"]},
            "storage": {"data_dir": str(work / "data"), "minimum_free_mb": 0},
            "study": {"stable_after_s": 1},
            "model": {"name": "stand-in", "installed_dir": str(work / "models")},
            "destinations": [{**pacs, "storage_commitment": True}, web],
        }
    )
    modality = {"glionode": ["GLIONODE", "127.0.0.1", node_port]}
    node = NodeInThread(settings, controls)
    with orthanc(orthanc_program, work / "orthanc", dicom_port, http_port, (plugin,), DicomModalities=modality):
        node.start()
        try:
            seen = {
                "echo": [echo(each, "GLIONODE").message for each in settings.destinations],
                "asked_by_orthanc": _orthanc_asks(work / "sent", http_port),
                "asked_of_orthanc": _outbox(settings),
                "stow": _stow(work / "stow", StowDestinationSettings.model_validate(web), http_port),
            }
        finally:
            node.end()
    sys.stdout.write(json.dumps(seen))


def _orthanc_asks(folder: Path, http_port: int) -> list[Any]:
    """Orthanc sends a study with StorageCommitment, then asks about an instance that it never sent."""
    study = new_study_uid()
    instances = [make_instance(study) for _ in range(2)]
    ids = [orthanc_post(http_port, "/instances", write_instance(each, folder).read_bytes())["ID"] for each in instances]
    store = {"Resources": ids, "Synchronous": True, "StorageCommitment": True}
    sent = orthanc_post(http_port, "/modalities/glionode/store", json.dumps(store).encode())
    about = [[MR_IMAGE_STORAGE, str(instances[0].SOPInstanceUID)], [MR_IMAGE_STORAGE, "1.2.3"]]
    about += [[OUTPUT_CLASSES[0], str(instances[1].SOPInstanceUID)]]
    body = json.dumps({"DicomInstances": about}).encode()
    asked = orthanc_post(http_port, "/modalities/glionode/storage-commitment", body)
    reports = [_report(http_port, sent["StorageCommitmentTransactionUID"]), _report(http_port, asked["ID"])]
    return [
        [report["Status"], len(report["Success"]), sorted(each["FailureReason"] for each in report["Failures"])]
        for report in reports
    ]


def _report(http_port: int, transaction: str) -> Any:
    def look() -> Any:
        report = json.loads(orthanc_get(http_port, f"/storage-commitment/{transaction}"))
        return None if report["Status"] == "Pending" else report

    return wait_for(f"a report on {transaction}", look, LIMIT_S)


def _outbox(settings: Settings) -> list[Any]:
    """Where the node's results are, once the PACS has committed to them and the web server has them."""

    def look() -> list[Any] | None:
        with psycopg.connect(database_url(settings)) as connection:
            rows = connection.execute(
                "SELECT destination, state, count(*) FROM glionode_outbox GROUP BY 1, 2 ORDER BY 1, 2"
            ).fetchall()
        found = [list(row) for row in rows]
        return found if found == [["orthanc", "committed", 2], ["web", "sent", 2]] else None

    return wait_for("commitment to the results", look, LIMIT_S)


def _stow(folder: Path, web: StowDestinationSettings, http_port: int) -> list[str]:
    """What becomes of a new object, the same once more, and one that is no DICOM."""
    instance = make_instance(new_study_uid(), sop_class=OUTPUT_CLASSES[0])
    new, spoilt = write_instance(instance, folder), folder / "spoilt.dcm"
    spoilt.write_bytes(b"no DICOM at all")
    files = ((str(instance.SOPInstanceUID), new), ("1.2.9", spoilt))
    entries = [OutboxEntry(uid, str(path), 0, datetime.now(UTC)) for uid, path in files]
    objects = [Outgoing(entry, OUTPUT_CLASSES[0], "1.2.840.10008.1.2.1") for entry in entries]
    sender = StowSender(web, LIMIT_S)
    found = [type(outcome).__name__ for batch in (objects, objects[:1]) for _, outcome in sender.send(batch)]
    query = f"/dicom-web/instances?SOPInstanceUID={instance.SOPInstanceUID}"
    return [*found, str(len(json.loads(orthanc_get(http_port, query))))]


if __name__ == "__main__":
    os.environ.pop("GLIONODE_CONFIG", None)
    main(Path(sys.argv[1]), *sys.argv[2:])
