"""Request Storage Commitment between a node and Orthanc, both ways, and send by STOW-RS to Orthanc. Prints JSON.

    python -m tests.end_to_end.walk_with_commitment WORK_FOLDER ORTHANC DICOMWEB_PLUGIN

The node is complete but for the stand-in segmenter.
"""

import json
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
from tests.support.node import MR_IMAGE_STORAGE, make_instance, new_study_uid, stand_in_node, write_instance
from tests.support.programs import (
    clear_settings,
    free_port,
    orthanc,
    orthanc_get,
    orthanc_post,
    private_network,
    wait_for,
)
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

LIMIT_S = 40


def main(work: Path, orthanc_program: str, dicomweb_plugin: Path) -> None:
    """Run the walk and print what was observed."""
    private_network()
    work.mkdir(parents=True, exist_ok=True)
    node_port, dicom_port, http_port = free_port(), free_port(), free_port()
    web = {"name": "web", "url": f"http://127.0.0.1:{http_port}/dicom-web"}
    pacs = {"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": dicom_port}
    listener = {"port": node_port, "calling_ae_titles": ["ORTHANC"]}
    study, destinations = {"stable_after_s": 1}, [{**pacs, "storage_commitment": True}, web]
    node = stand_in_node(work, listener=listener, study=study, destinations=destinations)
    modality = {"glionode": ["GLIONODE", "127.0.0.1", node_port]}
    with orthanc(
        orthanc_program, work / "orthanc", dicom_port, http_port, (dicomweb_plugin,), DicomModalities=modality
    ):
        node.start()
        try:
            observed = {
                "echo": [echo(each, "GLIONODE").message for each in node.settings.destinations],
                "requested_by_orthanc": _let_orthanc_request(work / "sent", http_port),
                "requested_by_the_node": _await_commitment(node.settings),
                "stow": _send_by_stow(work / "stow", StowDestinationSettings.model_validate(web), http_port),
            }
        finally:
            node.end()
    sys.stdout.write(json.dumps(observed))


def _let_orthanc_request(folder: Path, http_port: int) -> list[Any]:
    """Let Orthanc send a study with StorageCommitment, then request it for an instance that it never sent."""
    study = new_study_uid()
    instances = [make_instance(study) for _ in range(2)]
    ids = [orthanc_post(http_port, "/instances", write_instance(each, folder).read_bytes())["ID"] for each in instances]
    store = {"Resources": ids, "Synchronous": True, "StorageCommitment": True}
    sent = orthanc_post(http_port, "/modalities/glionode/store", json.dumps(store).encode())
    references = [[MR_IMAGE_STORAGE, str(instances[0].SOPInstanceUID)], [MR_IMAGE_STORAGE, "1.2.3"]]
    references += [[OUTPUT_CLASSES[0], str(instances[1].SOPInstanceUID)]]
    body = json.dumps({"DicomInstances": references}).encode()
    requested = orthanc_post(http_port, "/modalities/glionode/storage-commitment", body)
    reports = [
        _await_report(http_port, sent["StorageCommitmentTransactionUID"]),
        _await_report(http_port, requested["ID"]),
    ]
    return [
        [report["Status"], len(report["Success"]), sorted(each["FailureReason"] for each in report["Failures"])]
        for report in reports
    ]


def _await_report(http_port: int, transaction: str) -> Any:
    """Wait for Orthanc to receive the report of a transaction, and return it."""

    def poll() -> Any:
        report = json.loads(orthanc_get(http_port, f"/storage-commitment/{transaction}"))
        return None if report["Status"] == "Pending" else report

    return wait_for(f"a report on {transaction}", poll, LIMIT_S)


def _await_commitment(settings: Settings) -> list[Any]:
    """Wait until Orthanc has committed to the node's results and has them by STOW-RS; return the outbox's counts."""

    def poll() -> list[Any] | None:
        with psycopg.connect(database_url(settings)) as connection:
            rows = connection.execute(
                "SELECT destination, state, count(*) FROM glionode_outbox GROUP BY 1, 2 ORDER BY 1, 2"
            ).fetchall()
        found = [list(row) for row in rows]
        return found if found == [["orthanc", "committed", 2], ["web", "sent", 2]] else None

    return wait_for("commitment to the results", poll, LIMIT_S)


def _send_by_stow(folder: Path, web: StowDestinationSettings, http_port: int) -> list[str]:
    """Return the outcomes of a new object, of the same again, and of a file that is not DICOM; and Orthanc's count."""
    instance = make_instance(new_study_uid(), sop_class=OUTPUT_CLASSES[0])
    new, invalid = write_instance(instance, folder), folder / "invalid.dcm"
    invalid.write_bytes(b"no DICOM at all")
    files = ((str(instance.SOPInstanceUID), new), ("1.2.9", invalid))
    entries = [OutboxEntry(uid, str(path), 0, datetime.now(UTC)) for uid, path in files]
    objects = [Outgoing(entry, OUTPUT_CLASSES[0], "1.2.840.10008.1.2.1") for entry in entries]
    sender = StowSender(web, LIMIT_S)
    outcomes = [type(outcome).__name__ for batch in (objects, objects[:1]) for _, outcome in sender.send(batch)]
    query = f"/dicom-web/instances?SOPInstanceUID={instance.SOPInstanceUID}"
    return [*outcomes, str(len(json.loads(orthanc_get(http_port, query))))]


if __name__ == "__main__":
    clear_settings()
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
