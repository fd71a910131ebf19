"""A job computes nothing from images that are not as they were received."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.archive.store import InstanceKey
from plugin.database.instance_rows import InstanceRow
from plugin.worker.intact_images import ImagesDamaged, require_intact
from tests.support.node import (
    MR_IMAGE_STORAGE,
    NodeInThread,
    config_of,
    make_instance,
    new_study_uid,
    run,
    send,
    wait_until,
)

KEYS = tuple(InstanceKey("1.2", "1.2.1", f"1.2.1.{number}") for number in range(3))


def row(key: InstanceKey, content: bytes, sop_class: str = MR_IMAGE_STORAGE) -> InstanceRow:
    return InstanceRow(key, sop_class, len(content), hashlib.sha256(content).hexdigest(), 0.0)


def test_what_was_changed_emptied_or_lost_is_named_and_what_nobody_knows_is_believed(tmp_path: Path) -> None:
    paths = tuple(tmp_path / "1.2.1" / f"{key.sop_instance_uid}.dcm" for key in KEYS)
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(b"image")
    rows = {key: row(key, b"image") for key in KEYS[:2]}
    require_intact("1.2", paths, rows)
    report = InstanceKey("1.2", "1.2.2", "1.2.2.1")
    require_intact("1.2", paths, rows | {report: row(report, b"", "1.2.840.10008.5.1.4.1.1.88.22")})
    paths[0].write_bytes(b"imagE")
    paths[2].write_bytes(b"")
    with pytest.raises(ImagesDamaged) as raised:
        require_intact("1.2", (paths[0], paths[2]), rows)
    said = str(raised.value)
    assert said.startswith("3 images in the archive are damaged, so nothing was computed")
    assert "1.2.1.0: its file is not the one that was received any more" in said
    assert "1.2.1.1: its file is gone" in said
    assert "1.2.1.2: its file is empty" in said
    assert "send study 1.2 again" in said


def test_bit_rot_fails_the_job_until_the_image_is_sent_again(
    make_node: Callable[..., NodeInThread], data_dir: Path
) -> None:
    node, study = make_node().start(), new_study_uid()
    images = [make_instance(study, number=number) for number in range(2)]
    send(node.port, *images)
    wait_until(lambda: node.jobs_are(segmented=1), "it is segmented")
    path = next((data_dir / "data" / "archive" / study).rglob(f"{images[0].SOPInstanceUID}.dcm"))
    received = path.read_bytes()
    path.write_bytes(received[:-1] + bytes([received[-1] ^ 1]))
    assert run(config_of(node, data_dir), "force", study, "--again")[0] == 0
    wait_until(lambda: node.status().jobs.get("failed") == 1, "the damage is found")
    (trouble,) = node.status().troubles
    assert f"{images[0].SOPInstanceUID}: its file is not the one that was received" in trouble.message
    assert node.run_count() == 1
    assert send(node.port, *images) == [0x0000, 0x0000]
    wait_until(lambda: node.run_count() == 2, "the study gets a new job")
    assert path.read_bytes() == received
