"""What every study of a process is done with: model, rules, device. Opened once, then kept."""

import logging
from dataclasses import dataclass, field

import torch

from dicom_seg.encode import Outputs
from models.labels import Role
from pipeline.align import AlignSettings
from pipeline.errors import SettingsWrong
from pipeline.rules import Rules
from pipeline.segment import SegmentSettings, pick_device
from plugin.settings.sections import OutputsSettings, Settings
from plugin.sources.served_model import required_roles
from plugin.sources.site_rules import SiteRules
from plugin.worker.warm_model import WarmModel, warm_model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
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
        return required_roles(self.model.package)


def open_worker_context(settings: Settings, model: str = "", device: str = "") -> WorkerContext:
    """All that the steps need, from the settings; `model` and `device` go before them where they are not empty.

    Raises ModelUnusable, SettingsWrong, and ValueError for a device that is not there.
    """
    return WorkerContext(
        model=warm_model(model or settings.model.name, settings.installed_models_dir, settings.compute.cpu_engine),
        rules=SiteRules(settings.rules_path).current(),
        device=pick_device(device or settings.compute.device),
        derive_adc=settings.choose.derive_adc,
        outputs=_outputs(settings.outputs),
    )


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
