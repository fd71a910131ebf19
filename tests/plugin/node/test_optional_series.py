"""A node waits for a series that its model can do without until somebody says that none comes; it may come late."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.support.node import NodeInThread, config_of, new_study_uid, run, send, wait_until
from tests.support.small_study import write_small_study


def test_a_study_waits_for_adc_until_it_is_forced_and_a_late_one_makes_another_result(
    make_node: Callable[..., NodeInThread], data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = make_node()
    model = data_dir / "models" / "stand-in" / "model.toml"
    model.write_text(model.read_text().replace("[network]", 'optional = ["ADC"]\npresence = true\n[network]'))
    node.start("by_start")
    config, study = config_of(node, data_dir), new_study_uid()
    images = [dcmread(path) for path in write_small_study(study, tmp_path)]
    send(node.port, *(each for each in images if each.SeriesNumber in (1, 2)))
    said = f"study {study} has no ADC yet; it is waited for"
    wait_until(lambda: any(each.startswith(said) for each in caplog.messages), "the study waits")
    assert node.jobs_are()
    assert run(config, "force", study)[0] == 0
    wait_until(lambda: node.jobs_are(segmented=1), "it is segmented without ADC")
    send(node.port, *(each for each in images if each.SeriesNumber == 3))
    wait_until(lambda: node.jobs_are(segmented=2), "and once more with it")
