"""The demonstration: a node as a process of its own, a sender and a PACS beside it, a synthetic study through all."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

import numpy as np
from highdicom.seg import Segmentation, segread
from numpy.typing import NDArray
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from pydicom import dcmread
from SimpleITK import GetArrayFromImage, ReadImage

from dicom_seg.seg import SERIES_NUMBERS
from dicom_seg.sr import SERIES
from models.labels import LABELS, Label, Role
from pipeline.choose import NotEligible, choose
from pipeline.errors import GlionodeError
from pipeline.measure import dice
from pipeline.read import read_volume
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.volume import Volume
from plugin.demo.overlay import draw_overlay
from plugin.demo.phantom import PhantomStudy
from plugin.demo.receiving_pacs import AE_TITLE as PACS_AE_TITLE
from plugin.demo.receiving_pacs import receiving_pacs
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.node.lock import RunningNode, running_node
from plugin.node.status import read_status
from plugin.settings.sections import Settings

START_LIMIT_S = 120.0
RESULT_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class LabelResult:
    """A label as it came back, beside the truth, on the T1CE grid."""

    label: Label
    found_ml: float
    true_ml: float
    dice: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of the demonstration."""

    labels: tuple[LabelResult, ...]
    seg_path: Path
    sr_path: Path
    picture_path: Path


class DemoFailed(GlionodeError):
    """A part of the demonstration did not happen."""


class DemoSettings(Settings):
    """Settings of the demonstration's file alone, as its node has them; an image's environment says others."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what is given."""
        return (init_settings,)


def run_demo(study: PhantomStudy, out: Path, tell: Callable[[str], None]) -> DemoResult:
    """Send `study` through a node to a PACS and compare what arrives with the truth. Everything is left under `out`.

    `tell` takes a sentence about each step.

    Raises DemoFailed where something did not happen in time.
    """
    with receiving_pacs(out / "pacs") as (port, arrived), _node(out, port) as node:
        tell(f"A node listens as {node.ae_title} on {node.host}:{node.port}; a PACS on 127.0.0.1:{port}.")
        sent = _send(study.dicom_folder, node)
        tell(f"Sent {sent} images in {len(study.series)} series over C-STORE; waiting for the results ...")
        paths = _await_results(
            arrived, DemoSettings.model_validate(tomllib.loads(_settings(_data_dir(out), port))), tell
        )
    return _compare(study, _of_series(paths, SERIES_NUMBERS[Role.T1CE]), _of_series(paths, SERIES.number), out)


@contextmanager
def _node(out: Path, pacs_port: int) -> Iterator[RunningNode]:
    """`glionode serve` in a process of its own, with a data folder of its own, ended at the end of the block."""
    data_dir = _data_dir(out)
    settings = out / "glionode.toml"
    settings.write_text(_settings(data_dir, pacs_port), encoding="utf-8")
    log = (out / "node.log").open("w", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLIONODE_")}
    command = [sys.executable, "-c", "from plugin.commands.app import main; main()", "serve", "--config", str(settings)]
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while (node := running_node(data_dir)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"The node did not start; {out / 'node.log'} says why.")
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


def _settings(data_dir: Path, pacs_port: int) -> str:
    quoted = json.dumps(str(data_dir))  # a JSON string is a TOML string
    return f"""# Made by `glionode demo`.
[listener]
port = 0
[storage]
data_dir = {quoted}
minimum_free_mb = 100
[study]
stable_after_s = 2
[[destinations]]
name = "demo-pacs"
ae_title = "{PACS_AE_TITLE}"
host = "127.0.0.1"
port = {pacs_port}
accepts_demonstration = true  # no patient's images are in this PACS
"""


def _send(folder: Path, node: RunningNode) -> int:
    files = sorted(folder.rglob("*.dcm"))
    heads = [dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True) for path in files]
    sender = ApplicationEntity("DEMOSCANNER")
    for sop_class, syntax in sorted({(str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)) for head in heads}):
        sender.add_requested_context(sop_class, syntax)
    association = sender.associate(node.host, node.port, ae_title=node.ae_title)
    if not association.is_established:
        raise DemoFailed(f"The node at {node.host}:{node.port} does not take an association.")
    try:
        for path in files:
            status = association.send_c_store(str(path))
            if getattr(status, "Status", None) != 0x0000:
                raise DemoFailed(f"The node did not take {path}: {status}")
    finally:
        association.release()
    return len(files)


def _await_results(arrived: "Queue[Path]", settings: Settings, tell: Callable[[str], None]) -> tuple[Path, ...]:
    """All that the node sends, once its outbox says that all is sent."""
    paths: list[Path] = []
    deadline = time.monotonic() + RESULT_LIMIT_S
    while not (paths and _all_sent(settings)):
        if time.monotonic() > deadline:
            raise DemoFailed("SEG and SR did not arrive in time; node.log beside the results says why.")
        with suppress(Empty):
            paths.append(arrived.get(timeout=1.0))
    with suppress(Empty):
        while True:
            paths.append(arrived.get_nowait())
    kinds = Counter(dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID.name for path in paths)
    tell(f"The PACS received {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.")
    return tuple(paths)


def _all_sent(settings: Settings) -> bool:
    # The objects of a study enter the outbox together.
    return all(set(destination.objects) == {"sent"} for destination in read_status(settings).destinations)


def _of_series(paths: tuple[Path, ...], number: int) -> Path:
    for path in paths:
        if dcmread(path, specific_tags=["SeriesNumber"], stop_before_pixels=True).SeriesNumber == number:
            return path
    raise DemoFailed(f"Nothing of series {number} arrived; node.log beside the results says why.")


def _compare(study: PhantomStudy, seg_path: Path, sr_path: Path, out: Path) -> DemoResult:
    volumes = _volumes(study)
    t1ce = volumes[Role.T1CE]
    found = _masks(segread(seg_path), t1ce)
    truth_path = next(path for role, path in study.truth_paths if role is Role.T1CE)
    bits = GetArrayFromImage(ReadImage(str(truth_path)))
    millilitres = t1ce.geometry.voxel_volume_mm3 / 1000
    rows = []
    for label, mask in zip(LABELS, found, strict=True):
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
    """(labels, slices, rows, columns) of a SEG on the slices of the T1CE volume, as highdicom reads it."""
    uids = [frame.sop_instance_uid for frame in t1ce.frames]
    pixels = seg.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    return np.moveaxis(np.asarray(pixels, bool), -1, 0)
