"""Load what a worker process needs for every study: model, rules, device and step settings."""

import os
from dataclasses import dataclass, field

import torch

from dicom_seg.encode import Outputs
from models.labels import Role
from pipeline.align_settings import AlignSettings
from pipeline.errors import SettingsWrong
from pipeline.rules import Rules
from pipeline.segment import SegmentSettings, pick_device
from plugin.settings.sections import OutputsSettings, Settings
from plugin.sources.served_model import WantedRoles, wanted_roles
from plugin.sources.site_rules import SiteRules
from plugin.worker.warm_model import WarmModel, warm_model


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The model, the rules, the device and the settings of the steps."""

    model: WarmModel
    rules: Rules
    device: torch.device
    derive_adc: bool = True
    """Whether an ADC map may be computed from diffusion images if the study has none."""
    min_coverage: float = 0.7
    """The least share of the head that every series must show."""
    align: AlignSettings = field(default_factory=AlignSettings)
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    outputs: Outputs = field(default_factory=Outputs)
    intermediate_adc_below: float | None = None
    """See `pipeline.intermediate_adc`; None leaves this experiment out."""

    require: tuple[Role, ...] = ()
    """Channels that a study must have though the model can do without them."""

    @property
    def wanted(self) -> WantedRoles:
        """The roles that series are chosen for."""
        return wanted_roles(self.model.package, self.require)


def open_worker_context(settings: Settings, model: str = "", device: str = "") -> WorkerContext:
    """Load the model and the rules that the settings name; `model` and `device` override the settings unless empty.

    Raises:
        ModelUnusable: the model does not load.
        SettingsWrong: settings contradict each other.
        ValueError: the device is not available.
    """
    # For pages of 2 MB, which torch asks Linux for if it finds this at its first allocation. To clear new pages of 4 KB
    # took a fifth of the network's time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    warm = warm_model(model or settings.model.name, settings.installed_models_dir, settings.compute.precision)
    wanted_roles(warm.package, settings.model.require)  # an error is one of the settings, and not of the first study
    return WorkerContext(
        model=warm,
        require=settings.model.require,
        rules=SiteRules(settings.rules_path).current(),
        device=pick_device(device or settings.compute.device),
        derive_adc=settings.choose.derive_adc,
        min_coverage=settings.choose.min_coverage,
        align=settings.alignment.for_pipeline(),
        outputs=_outputs(settings.outputs),
        intermediate_adc_below=settings.outputs.intermediate_adc_below if settings.outputs.intermediate_adc else None,
    )


def _outputs(settings: OutputsSettings) -> Outputs:
    """Return the output options. Raises SettingsWrong if they contradict each other."""
    try:
        return Outputs(
            seg_on=tuple(Role(name) for name in settings.seg_on),
            measurements=settings.measurements,
            diameters=settings.diameters,
            capture=settings.capture,
        )
    except ValueError as exc:
        raise SettingsWrong(f"outputs: {exc}; `glionode check-config` says what to do.") from exc
