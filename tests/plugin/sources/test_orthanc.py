"""Images from an Orthanc: headers first, then the chosen series and no more; and what may go wrong on the way."""

import ssl
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from plugin.archive.spool import Spool
from plugin.archive.store import EmbeddedArchive
from plugin.errors import ArchiveAway, NotInArchive
from plugin.jobs.job import Job, Source, new_job
from plugin.orthanc.client import OrthancClient
from plugin.orthanc.studies import TwoStudies, inputs_of, study_uid_of
from plugin.settings.sections import OrthancSettings, Settings
from plugin.sources.open import open_source
from plugin.sources.orthanc import OrthancSource
from plugin.sources.source import DiskSource
from tests.support.certificates import Authority
from tests.support.fake_orthanc_server import OrthancWeb
from tests.support.node import make_instance, new_study_uid, write_instance, write_model
from tests.support.small_study import TAKEN, write_small_study

SLICES = 13
REPORT = '{"roles": {"T1CE": {"series_instance_uid": "%s"}}, "outputs": []}'


@pytest.fixture
def web() -> Iterator[OrthancWeb]:
    made = OrthancWeb()
    yield made
    made.stop()


def client_of(web: OrthancWeb, patience_s: float = 2.0, **keys: object) -> OrthancClient:
    return OrthancClient(OrthancSettings.model_validate({"url": web.url, "timeout_s": 5, **keys}), patience_s)


@pytest.fixture
def client(web: OrthancWeb) -> Iterator[OrthancClient]:
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
def study(web: OrthancWeb, files: tuple[str, list[bytes]]) -> str:
    """A study of four series in Orthanc, of which three are chosen."""
    uid, contents = files
    for content in contents:
        web.store(content)
    return uid


@pytest.fixture
def image(web: OrthancWeb, tmp_path: Path) -> str:
    """A study of one image in Orthanc."""
    uid = new_study_uid()
    web.store(write_instance(make_instance(uid), tmp_path).read_bytes())
    return uid


@pytest.fixture
def supply(web: OrthancWeb, client: OrthancClient, tmp_path: Path) -> Iterator[OrthancSource]:
    """A worker's."""
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
    assert list((data_dir / "fetched").iterdir()) == [], "nothing is left behind"


def job_of(study: str) -> Job:
    return new_job(study, [], "m", source=Source.ORTHANC)


def test_the_chosen_series_come_whole_and_of_the_others_the_headers(
    web: OrthancWeb, supply: OrthancSource, study: str
) -> None:
    sent = {str(head.SOPInstanceUID): web.files[each] for each, head in web.heads.items()}
    inputs = supply.inputs(job_of(study))
    assert sorted(inputs.sop_instance_uids) == sorted(sent)
    with supply.bench(job_of(study), inputs) as bench:
        fetched = dict(zip(inputs.sop_instance_uids, bench.paths, strict=True))
        whole = {uid for uid, path in fetched.items() if path.read_bytes() == sent[uid]}
        assert whole == {uid for uid in sent if int(uid.split(".")[-2]) in TAKEN}
        for uid, path in fetched.items():
            assert path.stat().st_size == len(sent[uid])
            here, there = dcmread(path), dcmread(BytesIO(sent[uid]))
            del here.PixelData, there.PixelData
            assert here == there
        bench.results.mkdir()
        (bench.results / "report.json").write_text(REPORT % f"{study}.1")
        assert supply.keep(job_of(study), bench.results) == bench.results
    assert not bench.paths[0].exists()
    assert (bench.results / "report.json").exists(), "results lie where the node keeps all of them"


def test_images_of_one_uid_in_two_series_stay_apart(web: OrthancWeb, supply: OrthancSource, tmp_path: Path) -> None:
    study = new_study_uid()
    one, other = (make_instance(study, f"{study}.{series}") for series in (1, 2))
    other.SOPInstanceUID = one.SOPInstanceUID
    for each in (one, other):
        web.store(write_instance(each, tmp_path / str(each.SeriesInstanceUID)).read_bytes())
    with supply.bench(job_of(study), supply.inputs(job_of(study))) as bench:
        assert {str(dcmread(path).SeriesInstanceUID) for path in bench.paths} == {f"{study}.1", f"{study}.2"}


def test_nothing_is_computed_from_zeros(supply: OrthancSource, study: str) -> None:
    with supply.bench(job_of(study), supply.inputs(job_of(study))) as bench:
        bench.results.mkdir()
        (bench.results / "report.json").write_text(REPORT % f"{study}.4")
        with pytest.raises(ArchiveAway, match="chosen after its pixels were left out"):
            supply.keep(job_of(study), bench.results)


def test_results_are_no_images(web: OrthancWeb, client: OrthancClient, image: str, tmp_path: Path) -> None:
    before = inputs_of(client, image)
    segmentation = make_instance(image, sop_class="1.2.840.10008.5.1.4.1.1.66.4")
    web.store(write_instance(segmentation, tmp_path).read_bytes())
    after = inputs_of(client, image)
    assert after.sop_instance_uids == before.sop_instance_uids, "so the job is the same"
    assert (before.other_instances, after.other_instances) == (0, 1)


def test_a_study_of_two_patients_is_told(web: OrthancWeb, client: OrthancClient, image: str, tmp_path: Path) -> None:
    other = make_instance(image)
    other.PatientID = "MARKERxPHI-OTHER"
    web.store(write_instance(other, tmp_path).read_bytes())
    with pytest.raises(TwoStudies, match="2 studies") as raised:
        inputs_of(client, image)
    assert "MARKERxPHI" not in str(raised.value)


def test_what_is_not_there_is_told(web: OrthancWeb, client: OrthancClient, supply: OrthancSource, study: str) -> None:
    assert inputs_of(client, "1.2.3").paths == ()
    with pytest.raises(NotInArchive):
        study_uid_of(client, "-".join(["0" * 8] * 5))
    inputs = supply.inputs(job_of(study))
    web.files.clear()
    with pytest.raises(NotInArchive), supply.bench(job_of(study), inputs):
        pass
    web.answers["POST /tools/lookup"] = (200, [{"Type": "Study", "ID": "../../system"}])
    assert inputs_of(client, study).paths == (), "an identifier that is none is no path"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_waited_for(web: OrthancWeb, client: OrthancClient, image: str, status: int) -> None:
    web.statuses = [status, status]
    assert len(inputs_of(client, image).paths) == 1


def test_a_file_of_another_size_is_not_taken(
    web: OrthancWeb, supply: OrthancSource, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = supply.inputs(job_of(study))
    monkeypatch.setattr("plugin.orthanc.client._FIRST_PAUSE_S", 3.0)
    torn = inputs.images[0]
    web.files[torn.orthanc_id] = web.files[torn.orthanc_id][:-10]
    with pytest.raises(ArchiveAway, match=f"where {torn.size} were announced"), supply.bench(job_of(study), inputs):
        pass


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<html>"), "an answer that is no JSON"),
        ((301, {}), "HTTP 301"),
        ((200, [{"ID": "1"}]), "none, or older than 1.9.4"),
        ((200, {"a": 1}), "none, or older than 1.9.4"),
    ],
)
def test_what_is_no_orthanc_is_told(web: OrthancWeb, image: str, answer: tuple[int, object], said: str) -> None:
    web.answers["POST /tools/bulk-content"] = answer
    client = client_of(web, patience_s=0)
    with pytest.raises(ArchiveAway, match=said):
        inputs_of(client, image)
    client.close()


def test_it_wants_the_password_and_reads_it_anew(web: OrthancWeb, image: str, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    web.ask_password("glionode", "the-password")
    client = client_of(web, patience_s=0, user="glionode", password_file=str(password))
    with pytest.raises(ArchiveAway, match="refuses us") as raised:
        inputs_of(client, image)
    assert "wrong" not in str(raised.value)
    password.write_text("the-password\n")
    assert inputs_of(client, image).paths
    client.close()


def test_it_is_asked_over_tls(program: Callable[[str], str], tmp_path: Path) -> None:
    authority, other = (Authority(program, tmp_path / name) for name in ("ours", "theirs"))
    certificate = authority.sign("orthanc")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    web = OrthancWeb(tls)
    try:
        trusting = client_of(web, patience_s=0, tls_ca=authority.certificate)
        assert inputs_of(trusting, "1.2.3").paths == ()
        trusting.close()
        for keys in ({}, {"tls_ca": other.certificate}):
            wary = client_of(web, patience_s=0, **keys)
            with pytest.raises(ArchiveAway, match="does not answer"):
                inputs_of(wary, "1.2.3")
    finally:
        web.stop()


def test_a_worker_without_orthanc_says_so(data_dir: Path) -> None:
    supply = open_source(Settings(storage={"data_dir": str(data_dir)}))
    with pytest.raises(ArchiveAway, match=r"orthanc\.url"):
        supply.inputs(job_of("1.2.3"))
    supply.close()
