"""Which channels a package can do without: those that training and measurement showed it to be absent."""

import statistics
from collections.abc import Iterable, Sequence

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.dataset import Case
from models.training.synthetic.augment import CHANNELS
from models.training.train.settings import SettingsContradict, TrainSettings
from models.training.train.thresholds import SubsetDice


def channels_absent_in_training(
    channels: Sequence[Role], cases: Iterable[Case], settings: TrainSettings
) -> tuple[Role, ...]:
    """Return the channels that some samples lack: dropped, missing in a case, or in heads that are mixed in."""
    if settings.drop_channels and len(channels) > 1:
        return tuple(channels)
    missing = {role for case in cases for role in channels if role not in case.channels}
    if settings.synthetic_share:
        missing |= set(channels) - set(CHANNELS)
    return tuple(role for role in channels if role in missing)


def optional_channels(
    package: ModelPackage,
    absent: Sequence[Role],
    measured: Sequence[SubsetDice],
    wanted: Sequence[Role] | None,
) -> tuple[Role, ...]:
    """Return the optional channels of a package: `wanted`, else the `absent` ones with a measurement without them.

    A study needs at least one channel. If all could be missing, the one whose absence costs most stays required: that
    with the lowest mean Dice of all labels without it. Raises SettingsContradict if a wanted channel was never absent
    in training, or none would be required.
    """
    if wanted is not None:
        check_wanted(package.channels, absent, wanted)
        return tuple(role for role in package.channels if role in wanted)
    found = {
        role: cost
        for role in package.channels
        if role in absent and (cost := _mean_dice_without(role, package.channels, measured)) is not None
    }
    if len(found) == len(package.channels):
        found.pop(min(found, key=lambda role: (found[role], package.channels.index(role))))
    return tuple(found)


def _mean_dice_without(role: Role, channels: Sequence[Role], measured: Sequence[SubsetDice]) -> float | None:
    """Return the mean Dice without a channel and as few others as possible, of all labels; None if never measured."""
    lacking = [each for each in measured if role not in each.channels and any(each.dice)]
    largest = max((len(each.channels) for each in lacking), default=0)
    means = [
        statistics.fmean(values) for each in lacking if len(each.channels) == largest for values in each.dice if values
    ]
    return statistics.fmean(means) if means else None


def check_wanted(channels: Sequence[Role], absent: Sequence[Role], wanted: Sequence[Role]) -> None:
    """Raise SettingsContradict if these channels cannot be optional."""
    never = [role for role in wanted if role not in absent]
    if never:
        raise SettingsContradict(
            f"--optional {never[0]}: training never showed the network a case without it; add --drop-channels 0.35"
        )
    if set(wanted) >= set(channels):
        raise SettingsContradict("--optional names every channel: a study needs at least one that is not optional")
