"""Count what the cases of a data set have: channels and labels, by combination, and who drew the labels."""

from collections import Counter

from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import Annotator
from models.training.report.html import Table

_HAS, _LACKS = "x", "-"


def contents_tables(dataset: Dataset) -> tuple[Table, ...]:
    """Return the combinations of channels and labels with the number of their cases, and who drew each label."""
    return _combinations(dataset), _annotators(dataset)


def _combinations(dataset: Dataset) -> Table:
    """Return a row for each combination, the most frequent first, and a last one with the sum for each column."""
    names = (*dataset.channels, *dataset.labels)
    found = Counter(tuple(name in (*case.channels, *case.labels) for name in names) for case in dataset.cases)
    # By what they have where numbers are equal, so that the order of cases has no influence.
    ordered = sorted(found.items(), key=lambda each: (-each[1], [not has for has in each[0]]))
    rows = [(str(count), *(_HAS if has else _LACKS for has in combination)) for combination, count in ordered]
    sums = [sum(count for combination, count in ordered if combination[place]) for place in range(len(names))]
    head = ("cases", *names)
    return Table(
        head,
        [*rows, (f"{len(dataset.cases)} in all", *map(str, sums))],
        "Cases by the channels and labels that they have",
    )


def _annotators(dataset: Dataset) -> Table:
    drawn = Counter(pair for case in dataset.cases for pair in case.entry.annotators)
    kinds = [kind for kind in Annotator if any(drawn[label, kind] for label in dataset.labels)]
    rows = [
        (
            label,
            *(str(drawn[label, kind]) for kind in kinds),
            str(sum(label not in case.labels for case in dataset.cases)),
        )
        for label in dataset.labels
    ]
    return Table(("label", *(kind.value for kind in kinds), "absent"), rows, "Who drew each label, in how many cases")
