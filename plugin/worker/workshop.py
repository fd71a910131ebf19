"""What every study of a process is done with: model, rules, device. Opened once, then kept."""

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from dicom_seg.encode import Outputs
from models.labels import Role
from pipeline.align import AlignSettings
from pipeline.errors import SettingsWrong
from pipeline.rules import Rules
from pipeline.segment import SegmentSettings, pick_device
from plugin.jobs.past import Past
from plugin.settings import OutputsSettings, Settings
from plugin.worker.served_model import wanted_roles
from plugin.worker.site_rules import SiteRules
from plugin.worker.stopwatch import Stopwatch
from plugin.worker.warm_model import WarmModel, warm_model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workshop:
    """The model, the rules, the device and the steps' settings."""

    model: WarmModel
    rules: Rules
    device: torch.device
    derive_adc: bool = True
    """Whether an ADC map may be computed from diffusion images where none was sent."""
    align: AlignSettings = field(default_factory=AlignSettings)
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def wanted(self) -> tuple[Role, ...]:
        """The roles that a study must have."""
        return wanted_roles(self.model.package)


def open_workshop(settings: Settings, model: str = "", device: str = "") -> Workshop:
    """All that the steps need, from the settings; `model` and `device` go before them where they are not empty.

    Raises ModelUnusable, SettingsWrong, and ValueError for a device that is not there.
    """
    return Workshop(
        model=warm_model(model or settings.model.name, settings.installed_models_dir, settings.compute.cpu_engine),
        rules=SiteRules(settings.rules_path).current(),
        device=pick_device(device or settings.compute.device),
        derive_adc=settings.choose.derive_adc,
        outputs=_outputs(settings.outputs),
    )


def keep_for_good() -> None:
    """Load what a study's steps need, and spare Python from looking there for garbage; once, in a process of our own.

    A quarter of an encoding's time is such looks, at a few hundred thousand objects that stay for the process's life.
    """
    import plugin.worker.worker  # noqa: F401 - loads the DICOM libraries

    gc.freeze()


def _outputs(settings: OutputsSettings) -> Outputs:
    """Raises SettingsWrong where they contradict each other."""
    try:
        return Outputs(
            seg_on=tuple(Role(name) for name in settings.seg_on),
            measurements=settings.measurements,
            diameters=settings.diameters,
            capture=settings.capture,
        )
    except ValueError as exc:
        raise SettingsWrong(f"outputs: {exc}; `glionode check-config` says what to do.") from exc


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What the worker process writes down of a study."""

    status: str
    reason: str | None
    output_paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class StudySegmenter:
    """Opens a workshop in the worker process and segments what it is given. Picklable."""

    settings: Settings

    def __call__(self) -> Callable[[Sequence[Path], Path, Past, Callable[[str], None]], StudyOutcome]:
        """Load the model; the returned function takes a study's files, the folder for its results, what came before and
        who listens to its steps.
        """
        workshop = open_workshop(self.settings)
        keep_for_good()
        rules = SiteRules(self.settings.rules_path)

        def segment(files: Sequence[Path], out: Path, past: Past, on_step: Callable[[str], None]) -> StudyOutcome:
            return segment_files(files, out, replace(workshop, rules=rules.current()), past, Stopwatch(on_step))

        return segment


def segment_files(files: Sequence[Path], out: Path, workshop: Workshop, past: Past, watch: Stopwatch) -> StudyOutcome:
    """Segment the study of these files; what of them cannot be read is logged."""
    from pipeline.scan import scan
    from plugin.worker.worker import process_study

    found = scan(files)
    damaged = [each for each in found.ignored if each.damaged]
    if damaged:
        _LOG.warning(
            "%d of %d images cannot be read; %s is %s",
            len(damaged),
            len(files),
            damaged[0].path.stem,
            damaged[0].reason,
        )
    if not found.studies:
        why = f"; the first is {found.ignored[0].reason}" if found.ignored else ""
        return StudyOutcome("failed", f"None of {len(files)} files of the study can be read as DICOM{why}.", ())
    report = process_study(found.studies[0], workshop, out, watch, past)
    return StudyOutcome(report.status.value, report.reason, tuple(out / each.path for each in report.outputs))
