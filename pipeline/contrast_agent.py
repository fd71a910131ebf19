"""Tell whether the header of an image names a contrast agent."""

from pipeline.study import Instance

_NONE = frozenset(
    {"", "no", "none", "n", "0", "nil", "-", "without", "no contrast", "ohne", "sans", "sin", "sem", "senza"}
)


def names_agent(image: Instance) -> bool:
    """Return whether (0018,0010) or its code sequence names an agent; "none" and "no" do not count."""
    return (image.contrast_agent or "").strip().lower() not in _NONE
