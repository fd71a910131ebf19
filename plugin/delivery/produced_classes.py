"""The SOP classes of the objects that the node makes, by the settings."""

from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage, SegmentationStorage

from plugin.settings.sections import OutputsSettings


def produced_classes(outputs: OutputsSettings) -> tuple[str, ...]:
    """Return the SOP class UIDs of the wanted objects, as `dicom_seg.encode` makes them."""
    wanted = (
        (SegmentationStorage, bool(outputs.seg_on)),
        (Comprehensive3DSRStorage, outputs.measurements or outputs.diameters),
        (SecondaryCaptureImageStorage, outputs.capture),
    )
    return tuple(str(sop_class) for sop_class, is_wanted in wanted if is_wanted)
