"""Fixtures for tests of the worker."""

from tests.support.tiny_package import make_package

__all__ = ["make_package"]
