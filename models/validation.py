"""Validate files that people write or edit, with pydantic."""

from pydantic import BaseModel, ConfigDict, ValidationError


class StrictModel(BaseModel):
    """Base of models that refuse unknown keys and convert no types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def describe_first_error(exc: ValidationError) -> str:
    """Return the first error with its key, as in "unknown key input.mirorr"; no full stop."""
    error = exc.errors(include_url=False)[0]
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {key}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
