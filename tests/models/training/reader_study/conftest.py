"""The network that finds the lesions of small data sets."""

from tests.support.ball_dataset import high_adc_network

__all__ = ["high_adc_network"]
