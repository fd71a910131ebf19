"""Images from an Orthanc: all headers, then only the chosen series; and the errors on the way."""

import ssl
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from plugin.archive.spool import Spool
from plugin.archive.store import EmbeddedArchive
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.jobs.job import Job, JobSource, new_job
from plugin.orthanc.client import OrthancClient
from plugin.orthanc.studies import TwoStudies, find_inputs, find_study_uid
from plugin.settings.sections import OrthancSettings, Settings
from plugin.sources.open import open_source
from plugin.sources.orthanc import OrthancSource
from plugin.sources.study_source import DiskSource
from tests.support.certificates import Authority
from tests.support.fake_orthanc_server import FakeOrthancServer
from tests.support.node import make_instance, new_study_uid, write_instance, write_model
from tests.support.small_study import USED_SERIES, write_small_study

SLICES = 13
REPORT = '{"roles": {"T1CE": {"series_instance_uid": "%s"}}, "outputs": []}'


@pytest.fixture
def web() -> Iterator[FakeOrthancServer]:
    made = FakeOrthancServer()
    yield made
    made.stop()


def client_of(web: FakeOrthancServer, patience_s: float = 2.0, **keys: object) -> OrthancClient:
    return OrthancClient(OrthancSettings.model_validate({"url": web.url, "timeout_s": 5, **keys}), patience_s)


@pytest.fixture
def client(web: FakeOrthancServer) -> Iterator[OrthancClient]:
    made = client_of(web)
    yield made
    made.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[bytes]]:
    """A study's UID and files."""
    uid = new_study_uid()
    paths = write_small_study(uid, tmp_path_factory.mktemp("study"), SLICES)
    return uid, [path.read_bytes() for path in paths]


@pytest.fixture
def study(web: FakeOrthancServer, files: tuple[str, list[bytes]]) -> str:
    """A study of four series in Orthanc, of which three are chosen."""
    uid, contents = files
    for content in contents:
        web.store(content)
    return uid


@pytest.fixture
def image(web: FakeOrthancServer, tmp_path: Path) -> str:
    """A study of one image in Orthanc."""
    uid = new_study_uid()
    web.store(write_instance(make_instance(uid), tmp_path).read_bytes())
    return uid


@pytest.fixture
def source(web: FakeOrthancServer, client: OrthancClient, tmp_path: Path) -> Iterator[OrthancSource]:
    """The source of a worker."""
    data_dir = tmp_path / "worker"
    write_model(tmp_path / "models" / "stand-in")
    settings = Settings(
        storage={"data_dir": str(data_dir)},
        model={"name": "stand-in", "installed_dir": str(tmp_path / "models")},
        orthanc={"url": web.url},
    )
    results = DiskSource(EmbeddedArchive(data_dir / "archive", minimum_free_bytes=0))
    made = OrthancSource(settings, client, Spool(data_dir), results)
    yield made
    made.close()
    assert list((data_dir / "fetched").iterdir()) == [], "the spool is empty"


def job_of(study: str) -> Job:
    return new_job(study, [], "m", source=JobSource.ORTHANC)


def test_chosen_series_are_fetched_whole_and_of_the_others_only_the_headers(
    web: FakeOrthancServer, source: OrthancSource, study: str
) -> None:
    sent = {str(head.SOPInstanceUID): web.files[each] for each, head in web.heads.items()}
    inputs = source.inputs(job_of(study))
    assert sorted(inputs.sop_instance_uids) == sorted(sent)
    with source.workspace(job_of(study), inputs) as workspace:
        fetched = dict(zip(inputs.sop_instance_uids, workspace.paths, strict=True))
        complete = {uid for uid, path in fetched.items() if path.read_bytes() == sent[uid]}
        assert complete == {uid for uid in sent if int(uid.split(".")[-2]) in USED_SERIES}
        for uid, path in fetched.items():
            assert path.stat().st_size == len(sent[uid])
            here, there = dcmread(path), dcmread(BytesIO(sent[uid]))
            del here.PixelData, there.PixelData
            assert here == there
        workspace.results.mkdir()
        (workspace.results / "report.json").write_text(REPORT % f"{study}.1")
        assert source.store_results(job_of(study), workspace.results) == workspace.results
    assert not workspace.paths[0].exists()
    assert (workspace.results / "report.json").exists(), "results are stored with all others"


def test_images_of_one_uid_in_two_series_stay_apart(
    web: FakeOrthancServer, source: OrthancSource, tmp_path: Path
) -> None:
    study = new_study_uid()
    one, other = (make_instance(study, f"{study}.{series}") for series in (1, 2))
    other.SOPInstanceUID = one.SOPInstanceUID
    for each in (one, other):
        web.store(write_instance(each, tmp_path / str(each.SeriesInstanceUID)).read_bytes())
    with source.workspace(job_of(study), source.inputs(job_of(study))) as workspace:
        assert {str(dcmread(path).SeriesInstanceUID) for path in workspace.paths} == {f"{study}.1", f"{study}.2"}


def test_results_from_a_series_without_its_pixels_are_not_stored(source: OrthancSource, study: str) -> None:
    with source.workspace(job_of(study), source.inputs(job_of(study))) as workspace:
        workspace.results.mkdir()
        (workspace.results / "report.json").write_text(REPORT % f"{study}.4")
        with pytest.raises(ArchiveUnavailable, match="its pixels had not been fetched"):
            source.store_results(job_of(study), workspace.results)


def test_results_do_not_count_as_images(
    web: FakeOrthancServer, client: OrthancClient, image: str, tmp_path: Path
) -> None:
    before = find_inputs(client, image)
    segmentation = make_instance(image, sop_class="1.2.840.10008.5.1.4.1.1.66.4")
    web.store(write_instance(segmentation, tmp_path).read_bytes())
    after = find_inputs(client, image)
    assert after.sop_instance_uids == before.sop_instance_uids, "so the job's key stays the same"
    assert (before.other_instances, after.other_instances) == (0, 1)


def test_a_study_of_two_patients_is_an_error(
    web: FakeOrthancServer, client: OrthancClient, image: str, tmp_path: Path
) -> None:
    other = make_instance(image)
    other.PatientID = "MARKERxPHI-OTHER"
    web.store(write_instance(other, tmp_path).read_bytes())
    with pytest.raises(TwoStudies, match="2 studies") as raised:
        find_inputs(client, image)
    assert "MARKERxPHI" not in str(raised.value)


def test_missing_studies_and_images_are_reported(
    web: FakeOrthancServer, client: OrthancClient, source: OrthancSource, study: str
) -> None:
    assert find_inputs(client, "1.2.3").paths == ()
    with pytest.raises(NotInArchive):
        find_study_uid(client, "-".join(["0" * 8] * 5))
    inputs = source.inputs(job_of(study))
    web.files.clear()
    with pytest.raises(NotInArchive), source.workspace(job_of(study), inputs):
        pass
    web.answers["POST /tools/lookup"] = (200, [{"Type": "Study", "ID": "../../system"}])
    assert find_inputs(client, study).paths == (), "a malformed identifier is not used as a path"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_temporary_errors_are_retried(web: FakeOrthancServer, client: OrthancClient, image: str, status: int) -> None:
    web.statuses = [status, status]
    assert len(find_inputs(client, image).paths) == 1


def test_a_file_of_another_size_is_rejected(
    web: FakeOrthancServer, source: OrthancSource, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = source.inputs(job_of(study))
    monkeypatch.setattr("plugin.http.client._FIRST_PAUSE_S", 3.0)
    cut = inputs.images[0]
    web.files[cut.orthanc_id] = web.files[cut.orthanc_id][:-10]
    with (
        pytest.raises(ArchiveUnavailable, match=f"bytes and announced {cut.size}"),
        source.workspace(job_of(study), inputs),
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>"), "the response is no JSON"),
        ((301, {}), "HTTP 301"),
        ((200, [{"ID": "1"}]), "no Orthanc, or one before 1.9.4"),
        ((200, {"a": 1}), "no Orthanc, or one before 1.9.4"),
    ],
)
def test_a_server_that_is_not_orthanc_is_reported(
    web: FakeOrthancServer, image: str, answer: tuple[int, object], message: str
) -> None:
    web.answers["POST /tools/bulk-content"] = answer
    client = client_of(web, patience_s=0)
    with pytest.raises(ArchiveUnavailable, match=message):
        find_inputs(client, image)
    client.close()


def test_the_password_file_is_read_again_after_a_refusal(web: FakeOrthancServer, image: str, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    web.require_password("glionode", "the-password")
    client = client_of(web, patience_s=0, user="glionode", password_file=str(password))
    with pytest.raises(ArchiveUnavailable, match="denies access") as raised:
        find_inputs(client, image)
    assert "wrong" not in str(raised.value)
    password.write_text("the-password\n")
    assert find_inputs(client, image).paths
    client.close()


def test_tls_verifies_the_server(program: Callable[[str], str], tmp_path: Path) -> None:
    authority, other = (Authority(program, tmp_path / name) for name in ("ours", "theirs"))
    certificate = authority.sign("orthanc")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    web = FakeOrthancServer(tls)
    try:
        trusting = client_of(web, patience_s=0, tls_ca=authority.certificate)
        assert find_inputs(trusting, "1.2.3").paths == ()
        trusting.close()
        for keys in ({}, {"tls_ca": other.certificate}):
            distrusting = client_of(web, patience_s=0, **keys)
            with pytest.raises(ArchiveUnavailable, match="its TLS certificate is not accepted"):
                find_inputs(distrusting, "1.2.3")
    finally:
        web.stop()


def test_a_worker_without_orthanc_settings_reports_it(data_dir: Path) -> None:
    source = open_source(Settings(storage={"data_dir": str(data_dir)}))
    with pytest.raises(ArchiveUnavailable, match=r"orthanc\.url"):
        source.inputs(job_of("1.2.3"))
    source.close()
