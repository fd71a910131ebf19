"""One study from headers to SEG, SR and report. The only place that knows the whole way."""

import logging
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_seg.check import check
from dicom_seg.encode import EncodedObject, encode
from dicom_seg.uids import images_sha256
from models.labels import ENHANCING_TUMOUR, LABELS, Role
from pipeline.align import align
from pipeline.choose import NotEligible, Selected, choose
from pipeline.diameters import lesion_diameters
from pipeline.errors import GlionodeError, OutputRefused
from pipeline.measure import measure
from pipeline.normalise import normalise
from pipeline.panels import panels
from pipeline.read import read_volume
from pipeline.refine import refine
from pipeline.restore import restore
from pipeline.result import MasksOnSeries, SegmentationResult, SourceSeries
from pipeline.segment import segment
from pipeline.study import Series, Study
from pipeline.volume import IDENTITY, Volume
from plugin.archive.report import OutputReport, Report, RoleReport, Status
from plugin.archive.result_folder import write_out
from plugin.jobs.prior_results import PriorResults
from plugin.worker.context import WorkerContext
from plugin.worker.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def process_study(study: Study, workshop: WorkerContext, out: Path, watch: Stopwatch, past: PriorResults) -> Report:
    """Segment `study` and leave SEG, SR and `report.json` in the folder `out`: all of them, or none and a reason.

    A study without the roles is `not_eligible`; one of which an earlier result was computed from the same images is
    `unchanged`, before anything is computed; a failure with a known cause is `failed` with its sentence. Anything else
    is a defect of ours and is raised.
    """
    roles: tuple[RoleReport, ...] = ()
    try:
        with watch("choose"):
            selected = choose(study, workshop.wanted, workshop.rules, workshop.derive_adc)
        if isinstance(selected, NotEligible):
            return _leave(_ended(study, workshop, watch, Status.NOT_ELIGIBLE, selected.reason), (), out)
        roles = tuple(_role(each.role, each.series, each.why) for each in selected.choices)
        with watch("read"):
            volumes = {role: read_volume(selected.series(role), role) for role in workshop.wanted}
        sources = _sources(selected, volumes)
        if (standing := past.standing.get(images_sha256(sources))) is not None:
            return _leave(replace(_unchanged(study, workshop, watch, standing), roles=roles), (), out)
        result = _segment_volumes(study, sources, volumes, workshop, watch)
        with watch("encode"):
            objects = encode(result, past.started, workshop.outputs, past.predecessors)
            if problems := check(objects, result):
                raise OutputRefused(f"The result failed our own last look and was not kept: {' '.join(problems)}")
        return _leave(_segmented(result, objects, watch), objects, out)
    except GlionodeError as exc:
        logger.warning("study %s failed: %s", study.study_instance_uid, exc)
        return leave_failure(replace(_ended(study, workshop, watch, Status.FAILED, str(exc)), roles=roles), out)


def defect_report(study: Study, workshop: WorkerContext, watch: Stopwatch, exc: Exception) -> Report:
    """The report of a study on which we failed for no reason that we know: kind and place, never a header's text."""
    place = traceback.extract_tb(exc.__traceback__)[-1]
    reason = (
        f"A defect of glionode or of a library: {type(exc).__name__} in {Path(place.filename).name}, line "
        f"{place.lineno}. Please report it with this line; other studies are not concerned."
    )
    return _ended(study, workshop, watch, Status.FAILED, reason)


def _segment_volumes(
    study: Study,
    sources: tuple[SourceSeries, ...],
    volumes: Mapping[Role, Volume],
    workshop: WorkerContext,
    watch: Stopwatch,
) -> SegmentationResult:
    model = workshop.model
    with watch("align"):
        package = model.package
        aligned = align(
            volumes, package.channels, package.spacing_mm, package.network.stride, workshop.device, workshop.align
        )
    with watch("normalise"):
        channels = normalise(aligned.channels, aligned.roles)
    with watch("segment"):
        shape, window, mirror = package.network, package.window, package.mirror
        segmented = segment(channels, model.on, workshop.device, shape, workshop.segment, window, mirror)
        by_openvino = model.cpu_engine == "openvino" and segmented.device.startswith("cpu")
    with watch("refine"):
        refined = refine(segmented.probabilities, aligned.channels, aligned.roles, package.refinements)
        probabilities = refined[list(model.label_order)]
    with watch("restore"):
        inverse = {each.role: each.inverse for each in aligned.alignments}
        # ADC is measured at the map's own voxels, whether a SEG is wanted there or not.
        on = {
            role: restore(
                probabilities, aligned.grid, volumes[role].geometry, model.thresholds, inverse.get(role, IDENTITY)
            )
            for role in {Role.T1CE, Role.ADC, *workshop.outputs.seg_on}
        }
        masks, geometry = on[Role.T1CE], volumes[Role.T1CE].geometry
    with watch("measure"):
        measurements = measure(masks, geometry, on[Role.ADC], volumes[Role.ADC])
        diameters = lesion_diameters(masks[LABELS.index(ENHANCING_TUMOUR)], geometry)
    with watch("picture"):
        pictures = panels(volumes, masks, aligned.alignments) if workshop.outputs.capture else None
    return SegmentationResult(
        study_instance_uid=study.study_instance_uid,
        sources=sources,
        alignments=aligned.alignments,
        masks=masks,
        measurements=measurements,
        model=model.identity,
        device=segmented.device + (", OpenVINO" if by_openvino else ""),
        native=tuple(_defined_on(role, on[role]) for role in workshop.outputs.seg_on if role is not Role.T1CE),
        diameters=diameters,
        panels=pictures,
    )


def _defined_on(role: Role, masks: NDArray[np.bool_]) -> MasksOnSeries:
    """Of the masks (labels, slices, rows, columns) on a series the labels that are defined there."""
    labels = tuple(label for label in LABELS if label.defined_on is role)
    return MasksOnSeries(role, labels, masks[[LABELS.index(label) for label in labels]])


def _sources(selected: Selected, volumes: Mapping[Role, Volume]) -> tuple[SourceSeries, ...]:
    return tuple(
        SourceSeries(
            role=choice.role,
            series=choice.series,
            geometry=volumes[choice.role].geometry,
            frames=volumes[choice.role].frames,
            why=choice.why,
            notes=volumes[choice.role].notes,
        )
        for choice in selected.choices
    )


def _segmented(result: SegmentationResult, objects: tuple[EncodedObject, ...], watch: Stopwatch) -> Report:
    return Report(
        study_instance_uid=result.study_instance_uid,
        status=Status.SEGMENTED,
        reason=None,
        model=result.model,
        device=result.device,
        roles=tuple(_role(each.role, each.series, (*each.why, *each.notes)) for each in result.sources),
        alignment=result.alignments,
        labels=result.measurements,
        timings=watch.times,
        outputs=tuple(_output(each) for each in objects),
        images_sha256=images_sha256(result.sources),
    )


def _output(each: EncodedObject) -> OutputReport:
    uids = (str(each.dataset.SOPInstanceUID), str(each.dataset.SeriesInstanceUID))
    return OutputReport(each.file_name, each.sop_class_uid, *uids, each.series_description)


def _role(role: Role, series: Series, why: tuple[str, ...]) -> RoleReport:
    return RoleReport(role, series.series_instance_uid, series.description, why)


def _unchanged(study: Study, workshop: WorkerContext, watch: Stopwatch, standing: str) -> Report:
    reason = f"The images that came late change nothing of what is computed from; the result of job {standing} stands."
    return replace(_ended(study, workshop, watch, Status.UNCHANGED, reason), same_as=standing)


def _ended(study: Study, workshop: WorkerContext, watch: Stopwatch, status: Status, reason: str) -> Report:
    return Report(
        study_instance_uid=study.study_instance_uid,
        status=status,
        reason=reason,
        model=workshop.model.identity,
        device=workshop.device.type,
        timings=watch.times,
    )


def _leave(report: Report, objects: tuple[EncodedObject, ...], out: Path) -> Report:
    write_out(report, objects, out)
    return report


def leave_failure(report: Report, out: Path) -> Report:
    """Write the report of a failed study if that is possible; it is given back in any case."""
    try:
        return _leave(report, (), out)
    except OutputRefused as exc:  # such as a full disk: the report goes to the caller alone
        logger.warning("the report of study %s was not written: %s", report.study_instance_uid, exc)
        return report
