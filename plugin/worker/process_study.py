"""Process one study through all steps, from its headers to SEG, SR and report."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_seg.check import check
from dicom_seg.encode import EncodedObject, encode
from dicom_seg.series_numbers import first_free_block
from dicom_seg.uids import images_sha256
from models.labels import ENHANCING_TUMOUR, Label, Role
from models.malloc import freed_memory_kept
from models.software_version import software_version
from pipeline.absence import absence_remarks
from pipeline.align import align
from pipeline.choose import Selected
from pipeline.coverage import leave_out_unseen, measure_coverage, require_coverage
from pipeline.diameters import lesion_diameters
from pipeline.empty_result import empty_remarks
from pipeline.errors import GlionodeError, OutputRefused, SeriesUnsuitable
from pipeline.geometry_bounds import check_head_geometry
from pipeline.identity import check_one_patient, identity_remarks
from pipeline.intermediate_adc import measure_intermediate_adc
from pipeline.measure import check_adc, measure
from pipeline.normalise import normalise
from pipeline.panels import panels
from pipeline.presence import study_input
from pipeline.read import read_volume
from pipeline.refine import refine
from pipeline.remarks import Remark
from pipeline.repeated_uids import check_instance_uids, shared_uid_remarks
from pipeline.reported_labels import reported_labels
from pipeline.restore import restore
from pipeline.result import LesionDiameters, MasksOnSeries, SegmentationResult, SourceSeries
from pipeline.role_coverage import coverage_remarks
from pipeline.segment import segment
from pipeline.study import Series, Study
from pipeline.volume import IDENTITY, Volume
from plugin.archive.report import OutputReport, Report, RoleReport, Status
from plugin.archive.result_folder import write_results
from plugin.errors import describe_failure
from plugin.jobs.prior_results import PriorResults
from plugin.worker.candidate_series import CandidateSeries, why_not_eligible
from plugin.worker.context import WorkerContext
from plugin.worker.garbage import no_collections
from plugin.worker.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def process_study(
    study: Study, context: WorkerContext, out: Path, stopwatch: Stopwatch, prior_results: PriorResults
) -> Report:
    """Segment `study` and write SEG, SR and `report.json` to the folder `out`: all of them, or only a report.

    Where the series chosen for a role does not show the head, the next one for that role takes its place, and a remark
    says so. The status is `not_eligible` if a role is missing, `unchanged` if an earlier result was computed from the
    same images (then nothing is computed), and `failed` for a failure with a known cause. Other exceptions are defects
    and are raised.
    """
    return _process(study, CandidateSeries(study), context, out, stopwatch, prior_results)


def _complete(report: Report, prior_results: PriorResults) -> Report:
    """Add what identifies the analysis."""
    return replace(
        report,
        analysis_started_at=prior_results.started,
        software_version=software_version(),
        job=prior_results.job,
    )


def _process(
    study: Study,
    candidates: CandidateSeries,
    context: WorkerContext,
    out: Path,
    stopwatch: Stopwatch,
    prior_results: PriorResults,
) -> Report:
    """Process a study with the series of `candidates`, and with fewer of them if one turns out not to show the head."""
    roles: tuple[RoleReport, ...] = ()
    chosen: dict[Role, Series] = {}
    try:
        with stopwatch("choose"):
            selected = candidates.choose(context)
        if reason := why_not_eligible(selected, context):
            report = _report(study, context, stopwatch, Status.NOT_ELIGIBLE, reason)
            return _write(_complete(report, prior_results), (), out)
        assert isinstance(selected, Selected)
        if selected.absent:
            without = " and ".join(selected.absent)
            logger.info("study %s: segmented without %s: %s", study.study_instance_uid, without, selected.why_absent)
        roles = tuple(_role(each.role, each.series, each.why) for each in selected.choices)
        chosen = {each.role: each.series for each in selected.choices}
        with stopwatch("read"):
            check_one_patient(chosen)
            check_instance_uids(chosen)
            volumes = {each.role: read_volume(each.series, each.role) for each in selected.choices}
        sources = _sources(selected, volumes)
        if (current := prior_results.current_results.get(images_sha256(sources))) is not None:
            report = replace(_unchanged(study, context, stopwatch, current), roles=roles)
            return _write(_complete(report, prior_results), (), out)
        result = _segment_volumes(study, sources, volumes, context, stopwatch)
        if Role.ADC in chosen:
            check_adc(result.measurements, chosen[Role.ADC].series_instance_uid)
        of_study = (
            *candidates.passed_over,
            *identity_remarks(study, chosen),
            *shared_uid_remarks(study, chosen),
        )
        first_number = first_free_block((each.series_number for each in study.series), prior_results.earlier_results)
        result = replace(result, remarks=(*of_study, *result.remarks), series_numbers_from=first_number)
        with stopwatch("encode"), no_collections():
            objects = encode(result, prior_results.started, context.outputs, prior_results.predecessors)
            if problems := check(objects, result):
                raise OutputRefused(f"The result failed our own check and was not stored: {' '.join(problems)}")
        return _write(_complete(_segmented(result, objects, stopwatch), prior_results), objects, out)
    except GlionodeError as exc:
        if isinstance(exc, SeriesUnsuitable):
            series = chosen[exc.role]
            others = candidates.without(series)
            again = others.choose(context)
            if isinstance(again, Selected):
                replaced = exc.role not in again.absent
                what = "Another series is taken." if replaced else f"The study is segmented without {exc.role}."
                logger.info("study %s: %s %s", study.study_instance_uid, exc, what)
                others = others.passing_over(series, exc.role, replaced)
                return _process(study, others, context, out, stopwatch, prior_results)
        reason = " ".join((str(exc), *(each.text for each in candidates.passed_over)))
        logger.warning("study %s failed: %s", study.study_instance_uid, reason)
        report = replace(_report(study, context, stopwatch, Status.FAILED, reason), roles=roles)
        return write_failure(_complete(report, prior_results), out)


def defect_report(study: Study, context: WorkerContext, stopwatch: Stopwatch, exc: Exception) -> Report:
    """Return the report of a study that failed with an unexpected exception, of which no message is quoted."""
    reason = f"{describe_failure(exc)} Other studies are not concerned."
    return _report(study, context, stopwatch, Status.FAILED, reason)


def _segment_volumes(
    study: Study,
    sources: tuple[SourceSeries, ...],
    volumes: Mapping[Role, Volume],
    context: WorkerContext,
    stopwatch: Stopwatch,
) -> SegmentationResult:
    model = context.model
    for source in sources:
        check_head_geometry(source.series.series_instance_uid, source.role, source.geometry)
    package = model.package
    reported = reported_labels(package, volumes)
    absent = tuple(role for role in package.channels if role not in volumes)
    with stopwatch("align"), freed_memory_kept():
        aligned = align(
            volumes, package.channels, package.spacing_mm, package.network.stride, context.device, context.align
        )
        to_series = {each.role: each.matrix for each in aligned.alignments}
        coverage = measure_coverage(volumes, to_series)
        series_uids = {each.role: each.series.series_instance_uid for each in sources}
        require_coverage(coverage, series_uids, context.min_coverage)
    with stopwatch("normalise"), freed_memory_kept():  # and returned: the peak is in the network
        normalised = normalise(aligned.channels, aligned.roles)
        channels = study_input(normalised, aligned.roles, package.channels, package.presence)
        del normalised
    with stopwatch("segment"):
        shape, window, mirror = package.network, package.window, package.mirror
        segmented = segment(channels, model.on, context.device, shape, context.segment, window, mirror)
        del channels
    with stopwatch("refine"):
        refined = refine(segmented.probabilities, aligned.channels, aligned.roles, package.refinements)
        order = list(reported.channels)
        in_order = refined if order == list(range(len(refined))) else refined[order]  # a copy takes long
        probabilities, marked_unseen = leave_out_unseen(in_order, aligned.grid, reported, coverage)
    with stopwatch("restore"):
        inverse = {each.role: each.inverse for each in aligned.alignments}
        # ADC is measured at the map's own voxels, whether a SEG is wanted there or not.
        masks_on = {
            role: restore(
                probabilities, aligned.grid, volumes[role].geometry, reported.thresholds, inverse.get(role, IDENTITY)
            )
            for role in {aligned.reference, Role.ADC, *context.outputs.seg_on} & volumes.keys()
        }
        masks, geometry = masks_on[aligned.reference], volumes[aligned.reference].geometry
    with stopwatch("measure"):
        on_adc = (masks_on[Role.ADC], volumes[Role.ADC]) if Role.ADC in volumes else None
        measurements = measure(masks, geometry, on_adc, coverage.seen_share, reported.labels)
        diameters: tuple[LesionDiameters, ...] = ()
        if ENHANCING_TUMOUR in reported.labels:
            diameters = lesion_diameters(masks[reported.labels.index(ENHANCING_TUMOUR)], geometry)
        experiment: tuple[Remark, ...] = ()
        if context.intermediate_adc_below is not None:
            thresholds = torch.tensor(reported.thresholds, device=probabilities.device)
            marked = (probabilities >= thresholds[:, None, None, None]).any(0)
            measurements, experiment = measure_intermediate_adc(
                measurements, on_adc, aligned, marked, context.intermediate_adc_below
            )
    with stopwatch("picture"):
        pictures = panels(volumes, masks, aligned.alignments) if context.outputs.capture else None
    return SegmentationResult(
        study_instance_uid=study.study_instance_uid,
        sources=sources,
        alignments=aligned.alignments,
        masks=masks,
        measurements=measurements,
        model=model.identity,
        device=segmented.device + model.precision_on(segmented.probabilities.device),
        native=tuple(
            _defined_on(role, reported.labels, masks_on[role])
            for role in context.outputs.seg_on
            if role in volumes and role is not aligned.reference
        ),
        diameters=diameters,
        panels=pictures,
        remarks=(
            *(remark for source in sources for remark in source.remarks),
            *absence_remarks(absent, reported.not_reported, reported.inferred),
            *aligned.remarks,
            *coverage_remarks(coverage.roles, marked_unseen),
            *empty_remarks(measurements, package),
            *experiment,
        ),
        coverage=coverage.roles,
        labels=reported.labels,
        reference=aligned.reference,
        absent=absent,
        not_reported=reported.not_reported,
        inferred=reported.inferred,
    )


def _defined_on(role: Role, reported: tuple[Label, ...], masks: NDArray[np.bool_]) -> MasksOnSeries:
    """Select the labels that are defined on `role` from masks (labels, slices, rows, columns) on its series."""
    labels = tuple(label for label in reported if label.defined_on is role)
    return MasksOnSeries(role, labels, masks[[reported.index(label) for label in labels]])


def _sources(selected: Selected, volumes: Mapping[Role, Volume]) -> tuple[SourceSeries, ...]:
    return tuple(
        SourceSeries(
            role=choice.role,
            series=choice.series,
            geometry=volumes[choice.role].geometry,
            frames=volumes[choice.role].frames,
            why=choice.why,
            notes=volumes[choice.role].notes,
            remarks=(*choice.remarks, *volumes[choice.role].remarks),
        )
        for choice in selected.choices
    )


def _segmented(result: SegmentationResult, objects: tuple[EncodedObject, ...], stopwatch: Stopwatch) -> Report:
    return Report(
        study_instance_uid=result.study_instance_uid,
        status=Status.SEGMENTED,
        reason=None,
        model=result.model,
        device=result.device,
        roles=tuple(_role(each.role, each.series, (*each.why, *each.notes)) for each in result.sources),
        alignment=result.alignments,
        labels=result.measurements,
        timings=stopwatch.times,
        outputs=tuple(_output(each) for each in objects),
        images_sha256=images_sha256(result.sources),
        remarks=result.remarks,
        coverage=result.coverage,
        reference=result.reference,
        absent=result.absent,
        not_reported=result.not_reported,
        inferred=result.inferred,
    )


def _output(each: EncodedObject) -> OutputReport:
    uids = (str(each.dataset.SOPInstanceUID), str(each.dataset.SeriesInstanceUID))
    sha256 = hashlib.sha256(each.content).hexdigest()
    return OutputReport(each.file_name, each.sop_class_uid, *uids, each.series_description, sha256)


def _role(role: Role, series: Series, why: tuple[str, ...]) -> RoleReport:
    return RoleReport(role, series.series_instance_uid, series.description, why)


def _unchanged(study: Study, context: WorkerContext, stopwatch: Stopwatch, current: str) -> Report:
    reason = f"The images that came late change nothing of what is computed from; the result of job {current} stands."
    return replace(_report(study, context, stopwatch, Status.UNCHANGED, reason), same_as=current)


def _report(study: Study, context: WorkerContext, stopwatch: Stopwatch, status: Status, reason: str) -> Report:
    return Report(
        study_instance_uid=study.study_instance_uid,
        status=status,
        reason=reason,
        model=context.model.identity,
        device=context.device.type,
        timings=stopwatch.times,
    )


def _write(report: Report, objects: tuple[EncodedObject, ...], out: Path) -> Report:
    write_results(report, objects, out)
    return report


def write_failure(report: Report, out: Path) -> Report:
    """Write the report of a failed study if possible, and return it in any case."""
    try:
        return _write(report, (), out)
    except OutputRefused as exc:  # the disk may be full; the caller still has the report
        logger.warning("the report of study %s was not written: %s", report.study_instance_uid, exc)
        return report
