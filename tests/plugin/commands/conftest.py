"""Small models, data sets and studies that commands measure."""

from tests.support.ball_dataset import high_adc_network
from tests.support.marked_study import finds_marks, marked_study
from tests.support.tiny_package import make_package

__all__ = ["finds_marks", "high_adc_network", "make_package", "marked_study"]
