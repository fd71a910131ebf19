"""Copy a package's weights into a network with other channels and labels, by name.

The first convolution has a slice of weights for each input channel, the last one a slice for each output label (or, if
the network takes and gives blocks of voxels, for each voxel of a block); everything between is copied. Names decide
which slice goes where, and the mapping is recorded: with three channels in and three out every wrong order loads
silently.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from models.package import ModelPackage

FIRST_CONVOLUTION = "convInit.conv.weight"
"""(filters, channels, 3, 3, 3) of MONAI's SegResNet."""
LAST_CONVOLUTION = "conv_final.2.conv.weight"
"""(labels, filters, 1, 1, 1)."""
LAST_BIAS = "conv_final.2.conv.bias"
"""(labels)."""

ORIGIN = ("parent_sha256", "channels_from", "labels_from", "dropped")
"""Names in provenance and checkpoints: the package that fine-tuning starts from, and where its weights go."""
_ALIKE = (
    ("ADC", "T2"),
    ("enhancing_tumour", "ET"),
    ("tumour_core", "TC", "adc_abnormality"),
    ("whole_tumour", "WT", "flair_hyperintensity"),
)
"""Names of which each takes the place of one that the parent lacks, the first that is there (Wan et al. 2024: the ADC
channel starts with the weights of T2, each label with those of the BraTS region that matches it). TC, WT and ET are the
regions in packages that learned from data sets of format 2."""


class How(StrEnum):
    """How a slice of weights is filled."""

    COPY = "copy"
    MEAN = "mean"
    ZERO = "zero"
    REINITIALISE = "reinitialise"


class NamesDoNotMatch(ValueError):
    """A channel or label has no place in the new network or no source, or a mapping names one that does not exist."""


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where the weights of one channel or label come from."""

    target: str
    how: How
    names: tuple[str, ...] = ()
    """Names of the parent: one to copy, one or more to average, else none."""

    def __str__(self) -> str:
        names = "+".join(self.names)
        return f"{self.target}={names}:{self.how}" if names else f"{self.target}={self.how}"


@dataclass(frozen=True, slots=True)
class Parent:
    """The package that fine-tuning starts from, and where its weights go."""

    package: ModelPackage
    channels: tuple[WeightSource, ...]
    heads: tuple[WeightSource, ...]
    dropped: tuple[str, ...] = ()

    def origin(self) -> dict[str, str]:
        """Return the values that determine the first weights of the network, by the names in `ORIGIN`."""
        words = (
            self.package.weights_sha256,
            ", ".join(map(str, self.channels)),
            ", ".join(map(str, self.heads)),
            ", ".join(self.dropped),
        )
        return {name: word for name, word in zip(ORIGIN, words, strict=True) if word}


def parse_source(text: str) -> WeightSource:
    """Parse an option of `glionode finetune`.

    It reads `ADC=T2`, `ADC=T2:copy`, `ADC=T2+FLAIR:mean`, `ADC=mean` (of all), `ADC=zero` or `ADC=reinitialise`. Raises
    NamesDoNotMatch for anything else.
    """
    target, equals, rest = text.partition("=")
    names, colon, how = rest.partition(":")
    if not equals or not target or not rest:
        raise NamesDoNotMatch(f"{text!r} is no mapping: write NAME=PARENT:copy, for example ADC=T2:copy.")
    if not colon:
        if names in (How.MEAN, How.ZERO, How.REINITIALISE):
            return WeightSource(target, How(names))
        how = How.COPY
    if how not in set(How):
        raise NamesDoNotMatch(f"{text!r}: {how!r} is none of {', '.join(How)}.")
    parents = tuple(names.split("+"))
    if not all(parents) or (how == How.COPY and len(parents) != 1):
        raise NamesDoNotMatch(f"{text!r}: copy takes one name, mean takes one or more, joined by '+'.")
    return WeightSource(target, How(how), parents if how in (How.COPY, How.MEAN) else ())


def match_names(
    kind: str, parents: Sequence[str], targets: Sequence[str], given: Iterable[WeightSource], dropped: Iterable[str]
) -> tuple[WeightSource, ...]:
    """Return a source for each of `targets`, in their order.

    `kind` is "channel" or "head", the name of the option. A given source wins; else the parent's channel or label of
    the same name is copied, else the one that stands in for it. Raises NamesDoNotMatch, with the options that are
    missing, if a target has no source, or one of the parent's names has no place and is not among `dropped`.
    """
    stated = {source.target: source for source in given}
    if unknown := [name for name in stated if name not in targets]:
        raise NamesDoNotMatch(f"--{kind} {unknown[0]}=...: the data set has {', '.join(targets)}.")
    if absent := [name for source in stated.values() for name in source.names if name not in parents]:
        raise NamesDoNotMatch(f"--{kind} ...={absent[0]}: the package has {', '.join(parents)}.")
    found = {name: stated.get(name) or _by_name(name, parents) for name in targets}
    users: dict[str, WeightSource] = {}
    for source in filter(None, found.values()):
        for name in source.names or (parents if source.how is How.MEAN else ()):
            users.setdefault(name, source)
    if contradiction := [name for name in dropped if name in users]:
        user = users[contradiction[0]]
        raise NamesDoNotMatch(f"--drop {contradiction[0]}, but {user} uses it; give that another source.")
    left = [name for name in parents if name not in users and name not in set(dropped)]
    if left or None in found.values():
        raise NamesDoNotMatch(_missing_options(kind, parents, found, left))
    return tuple(source for source in found.values() if source is not None)


def _by_name(target: str, parents: Sequence[str]) -> WeightSource | None:
    alike = next((names for names in _ALIKE if target in names), ())
    candidates = [name for name in (target, *alike) if name in parents]
    return WeightSource(target, How.COPY, (candidates[0],)) if candidates else None


def _missing_options(
    kind: str, parents: Sequence[str], found: Mapping[str, WeightSource | None], left: Sequence[str]
) -> str:
    missing = [name for name, source in found.items() if source is None]
    what = "channels" if kind == "channel" else "labels"
    parts = [f"The package's {what} are {', '.join(parents)}, the data set's {', '.join(found)}"]
    if missing:
        parts.append(f"no weights are named for {', '.join(missing)}")
    if left:
        parts.append(f"{', '.join(left)} of the package would be lost")
    # The options are pasted from the screen: none of them may put the weights of one label into another.
    options = [f"--{kind} {source or WeightSource(name, How.REINITIALISE)}" for name, source in found.items()]
    options += [f"--drop {name}" for name in left]
    return "; ".join(parts) + f". If that is intended, add: {' '.join(options)}"


def plane_sources(channels: Sequence[WeightSource], parent: ModelPackage) -> tuple[WeightSource, ...]:
    """Return where the weights of the presence planes begin: as those of the channels, or 0 if `parent` has no planes.

    A network that gets planes then answers first as its parent does, whatever the planes say.
    """
    sources = []
    for source in channels:
        if parent.presence and source.how in (How.COPY, How.MEAN):
            names = tuple(plane_name(name) for name in source.names or parent.channels)
            sources.append(WeightSource(plane_name(source.target), source.how, names))
        else:
            sources.append(WeightSource(plane_name(source.target), How.ZERO))
    return tuple(sources)


def plane_name(channel: str) -> str:
    """Return the name of a channel's presence plane among the inputs of a network."""
    return f"presence of {channel}"


def with_blind_planes(first_convolution: Tensor) -> Tensor:
    """Return weights (filters, channels, 3, 3, 3) of a first convolution with as many more inputs, which it ignores."""
    return torch.cat([first_convolution, torch.zeros_like(first_convolution)], dim=1)


def transfer(
    parent: nn.Module,
    network: nn.Module,
    channels: Sequence[WeightSource],
    heads: Sequence[WeightSource],
    parents: tuple[Sequence[str], Sequence[str]],
) -> nn.Module:
    """Fill a fresh `network` with the weights of `parent`, and return it.

    `parents` are the parent's inputs and labels in the order of its weights, `channels` and `heads` the sources in the
    order of the new network's; presence planes are inputs behind the channels. `reinitialise` leaves the weights as
    they are. Raises NamesDoNotMatch if the networks differ elsewhere than in channels and labels.
    """
    old, fresh = parent.state_dict(), network.state_dict()
    ends = {
        FIRST_CONVOLUTION: (channels, parents[0], 1),
        LAST_CONVOLUTION: (heads, parents[1], 0),
        LAST_BIAS: (heads, parents[1], 0),
    }
    unlike = [
        name for name in old.keys() | fresh.keys() if name not in ends and _shape(old, name) != _shape(fresh, name)
    ]
    if unlike:
        raise NamesDoNotMatch(f"The package's network has another shape than the one to train, first at {min(unlike)}.")
    network.load_state_dict(
        {name: _gather(value, fresh[name], *ends[name]) if name in ends else value for name, value in old.items()}
    )
    return network


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None


def _gather(old: Tensor, fresh: Tensor, sources: Sequence[WeightSource], names: Sequence[str], axis: int) -> Tensor:
    """Return `fresh` with the slices of each source along `axis` replaced; a source has one slice, or one block."""
    own, by_name = fresh.chunk(len(sources), axis), dict(zip(names, old.chunk(len(names), axis), strict=True))
    parts = []
    for part, source in zip(own, sources, strict=True):
        if source.how is How.REINITIALISE:
            parts.append(part)
        elif source.how is How.ZERO:
            parts.append(torch.zeros_like(part))
        else:
            parts.append(torch.stack([by_name[name] for name in source.names or names]).mean(dim=0))
    return torch.cat(parts, dim=axis)
