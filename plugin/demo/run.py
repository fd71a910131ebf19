"""Run the demonstration: send a synthetic study through a node in a process of its own to a receiving PACS."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import tomli_w
from highdicom.seg import Segmentation, segread
from numpy.typing import NDArray
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from pydicom import dcmread
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification
from SimpleITK import GetArrayFromImage, ReadImage

from dicom_seg.series_numbers import MEASUREMENTS, SEG, first_free_block
from models.labels import PAPER_LABELS, Label, Role
from pipeline.choose import NotEligible, choose
from pipeline.errors import GlionodeError
from pipeline.measure import dice
from pipeline.read import read_volume
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.volume import Volume
from plugin.demo.overlay import draw_overlay
from plugin.demo.phantom import PhantomStudy
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.node.lock import RunningNode, running_node
from plugin.node.status import read_status
from plugin.settings.sections import Settings

_PACS_AE_TITLE = "DEMOPACS"
START_LIMIT_S = 120.0
RESULT_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class LabelResult:
    """A label of the received SEG compared with the ground truth, on the T1CE grid."""

    label: Label
    found_ml: float
    true_ml: float
    dice: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The comparison with the truth, and the resulting files."""

    labels: tuple[LabelResult, ...]
    seg_path: Path
    sr_path: Path
    picture_path: Path


class DemoFailed(GlionodeError):
    """A step of the demonstration failed or did not finish in time."""


class DemoSettings(Settings):
    """Settings from the demonstration's own values alone; in an image, the environment holds those of another node."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values given to the constructor."""
        return (init_settings,)


FILES = frozenset({"phantom", "pacs", "node", "glionode.toml", "node.log", "overlay.png"})
"""Everything that a demonstration leaves in its folder."""


def run_demo(study: PhantomStudy, out: Path, report: Callable[[str], None]) -> DemoResult:
    """Send `study` through a node to a PACS and compare what arrives with the truth. All files stay under `out`.

    `report` is called with a sentence about each step. Raises DemoFailed where a step fails or takes too long.
    """
    with _pacs(out / "pacs") as (port, arrived), _node(settings := _settings(out, port), out) as node:
        report(f"A node listens as {node.ae_title} on {node.host}:{node.port}; a PACS on 127.0.0.1:{port}.")
        sent = _send(study.dicom_folder, node)
        report(f"Sent {sent} images in {len(study.series)} series over C-STORE; waiting for the results ...")
        paths = _await_results(arrived, DemoSettings.model_validate(settings), report)
    numbers = first_free_block(())  # no series of a phantom has one of ours
    seg, report_path = (_find_object(paths, numbers + place) for place in (SEG[Role.T1CE], MEASUREMENTS))
    return _compare(study, seg, report_path, out)


@contextmanager
def _pacs(folder: Path) -> Iterator[tuple[int, "Queue[Path]"]]:
    """Run a minimal PACS, a storage SCP on a free port of the loopback interface for the duration of the block.

    Yields the port, and a queue that receives the path of each object once it is on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrived: Queue[Path] = Queue()

    def store(event: Any) -> int:
        path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        arrived.put(path)
        return 0x0000

    entity = AE(_PACS_AE_TITLE)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, AllTransferSyntaxes)
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], arrived
    finally:
        server.shutdown()


@contextmanager
def _node(settings: dict[str, Any], out: Path) -> Iterator[RunningNode]:
    """Run `glionode serve` with these settings in a process of its own for the duration of the block."""
    file = out / "glionode.toml"
    file.write_text(f"# Made by `glionode demo`.\n{tomli_w.dumps(settings)}", encoding="utf-8")
    log = (out / "node.log").open("w", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLIONODE_")}
    command = [sys.executable, "-c", "from plugin.commands.app import main; main()", "serve", "--config", str(file)]
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while (node := running_node(_data_dir(out))) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"The node did not start. See {out / 'node.log'}.")
            time.sleep(0.1)
        yield node
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _data_dir(out: Path) -> Path:
    return out.absolute() / "node"


def _settings(out: Path, pacs_port: int) -> dict[str, Any]:
    pacs = {
        "name": "demo-pacs",
        "ae_title": _PACS_AE_TITLE,
        "host": "127.0.0.1",
        "port": pacs_port,
        "accepts_demonstration": True,  # this PACS holds no patient's images
    }
    return {
        "listener": {"port": 0},
        "storage": {"data_dir": str(_data_dir(out)), "minimum_free_mb": 100},
        "study": {"stable_after_s": 2},
        "destinations": [pacs],
    }


def _send(folder: Path, node: RunningNode) -> int:
    files = sorted(folder.rglob("*.dcm"))
    heads = [dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True) for path in files]
    sender = ApplicationEntity("DEMOSCANNER")
    for sop_class, syntax in sorted({(str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)) for head in heads}):
        sender.add_requested_context(sop_class, syntax)
    association = sender.associate(node.host, node.port, ae_title=node.ae_title)
    if not association.is_established:
        raise DemoFailed(
            f"The node at {node.host}:{node.port} rejected the association. See node.log beside the results."
        )
    try:
        for path in files:
            status = association.send_c_store(str(path))
            if getattr(status, "Status", None) != 0x0000:
                raise DemoFailed(f"The node refused {path}: {status}")
    finally:
        association.release()
    return len(files)


def _await_results(arrived: "Queue[Path]", settings: Settings, report: Callable[[str], None]) -> tuple[Path, ...]:
    """Return the paths of all objects that the node sends, once its outbox is empty."""
    paths: list[Path] = []
    deadline = time.monotonic() + RESULT_LIMIT_S
    while not (paths and _all_sent(settings)):
        if time.monotonic() > deadline:
            raise DemoFailed("SEG and SR did not arrive in time. See node.log beside the results.")
        with suppress(Empty):
            paths.append(arrived.get(timeout=1.0))
    with suppress(Empty):
        while True:
            paths.append(arrived.get_nowait())
    kinds = Counter(dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID.name for path in paths)
    report(f"The PACS received {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.")
    return tuple(paths)


def _all_sent(settings: Settings) -> bool:
    # The objects of a study enter the outbox together.
    return all(set(destination.objects) == {"sent"} for destination in read_status(settings).destinations)


def _find_object(paths: tuple[Path, ...], number: int) -> Path:
    for path in paths:
        if dcmread(path, specific_tags=["SeriesNumber"], stop_before_pixels=True).SeriesNumber == number:
            return path
    raise DemoFailed(f"No object of series {number} arrived. See node.log beside the results.")


def _compare(study: PhantomStudy, seg_path: Path, sr_path: Path, out: Path) -> DemoResult:
    volumes = _volumes(study)
    t1ce = volumes[Role.T1CE]
    found = _masks(segread(seg_path), t1ce)
    truth_path = next(path for role, path in study.truth_paths if role is Role.T1CE)
    bits = GetArrayFromImage(ReadImage(str(truth_path)))
    millilitres = t1ce.geometry.voxel_volume_mm3 / 1000
    rows = []
    for label, mask in zip(PAPER_LABELS, found, strict=True):
        truth = (bits >> (label.number - 1)) & 1 == 1
        rows.append(LabelResult(label, mask.sum() * millilitres, truth.sum() * millilitres, dice(mask, truth)))
    picture = out / "overlay.png"
    draw_overlay(volumes, found, picture, "Synthetic head, demonstration model")
    return DemoResult(tuple(rows), seg_path, sr_path, picture)


def _volumes(study: PhantomStudy) -> dict[Role, Volume]:
    roles = (Role.T1CE, Role.FLAIR, Role.ADC)
    selected = choose(scan([study.dicom_folder]).studies[0], roles, load_rules())
    if isinstance(selected, NotEligible):
        raise DemoFailed(f"The phantom is not eligible: {selected.reason}.")
    return {role: read_volume(selected.series(role), role) for role in roles}


def _masks(seg: Segmentation, t1ce: Volume) -> NDArray[np.bool_]:
    """Return the masks (labels, slices, rows, columns) of a SEG on the T1CE volume, as read by highdicom."""
    uids = [frame.sop_instance_uid for frame in t1ce.frames]
    pixels = seg.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    return np.moveaxis(np.asarray(pixels, bool), -1, 0)
