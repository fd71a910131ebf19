"""Check that a SOP Instance UID of the chosen series stands for one image (PS3.5 section 9)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.labels import Role
from pipeline.errors import InstanceUidsRepeated
from pipeline.frames import list_frames
from pipeline.pixels import rescaled_pixels
from pipeline.remarks import Remark, RemarkKind
from pipeline.study import Instance, PatientIdentity, Series, Study


def check_instance_uids(series: Mapping[Role, Series]) -> None:
    """Check the chosen series before they are read. Raises InstanceUidsRepeated, which names them.

    Pixels are read only of images that came in several files with different bytes.
    """
    owners: dict[str, dict[str, Role]] = {}
    for role, each in series.items():
        for instance in each.instances:
            owners.setdefault(instance.sop_instance_uid, {}).setdefault(_series_uid(instance, each), role)
    shared = [uids for uids in owners.values() if len(uids) > 1]
    if shared:
        named = " and ".join(f"{uid} ({role})" for uid, role in shared[0].items())
        raise InstanceUidsRepeated(
            f"Series {named} have {len(shared)} SOP Instance UIDs in common, so no reference to their images would be "
            "clear. Have one of them stored again with UIDs of its own."
        )
    for each in {each.series_instance_uid: each for each in series.values()}.values():
        _check_copies(each)


def shared_uid_remarks(study: Study, series: Mapping[Role, Series]) -> tuple[Remark, ...]:
    """Return a remark for each chosen series that shares SOP Instance UIDs with a series that was not chosen."""
    chosen = {_series_uid(instance, each) for each in series.values() for instance in each.instances}
    others = {
        instance.sop_instance_uid
        for each in study.series
        if each.series_instance_uid not in chosen
        for instance in each.instances
    }
    remarks = []
    for role, each in series.items():
        count = sum(instance.sop_instance_uid in others for instance in each.instances)
        if count:
            text = (
                f"{count} SOP Instance UIDs of {role} stand for images of another series of the study, too; a viewer "
                "may show the result there."
            )
            remarks.append(Remark(RemarkKind.HEADERS, text, (role,)))
    return tuple(remarks)


def _check_copies(series: Series) -> None:
    different = [
        instance.sop_instance_uid
        for instance in series.instances
        if any(not _same_image(series, instance, copy) for copy in instance.copies)
    ]
    if different:
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise InstanceUidsRepeated(
            f"Series {series.series_instance_uid}: image {different[0]}{more} came several times with one SOP Instance "
            "UID and different contents, so it is not clear which is right. Send the series again from where it was "
            "made."
        )


def _same_image(series: Series, one: Instance, other: Instance) -> bool:
    """Return whether two files hold one image: they may differ in encoding, and in elements that are not used."""
    if _without_encoding(one) != _without_encoding(other):
        return False
    first, second = (
        rescaled_pixels(list_frames(replace(series, instances=(each,))), series.series_instance_uid)
        for each in (one, other)
    )
    return np.array_equal(first, second, equal_nan=True)


def _without_encoding(instance: Instance) -> Instance:
    # Whose images they are, `pipeline.identity` compares: a value may be left out of one of them.
    return replace(
        instance,
        path=Path(),
        transfer_syntax_uid="",
        photometric_interpretation="",
        stored=None,
        samples=None,
        copies=(),
        patient=PatientIdentity(),
        demographics_sha256="",
    )


def _series_uid(instance: Instance, series: Series) -> str:
    return instance.series_instance_uid or series.series_instance_uid
