"""The archive over HTTP: who has access, which paths exist, and what happens to incomplete transfers."""

import hashlib
import http.client
import io
import socket
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pipeline.errors import SettingsWrong
from plugin.archive.file_meta import encode_file_meta
from plugin.archive.spool import Spool
from plugin.archive.store import EmbeddedArchive, InstanceKey
from plugin.delivery.result_source import HttpResults
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.http.archive_client import ArchiveClient
from plugin.http.archive_routes import archive_routes
from plugin.http.server import http_server, make_app
from plugin.http.transfer import WrongTransfer, format_digest, pack, parse_result_path, sha256_of, unpack
from plugin.jobs.job import new_job
from plugin.jobs.outbox import OutboxEntry
from plugin.settings.secrets import read_http_token
from plugin.settings.sections import HttpSettings
from plugin.sources.study_source import HttpSource
from tests.support.certificates import Authority
from tests.support.node import new_study_uid, wait_until
from tests.support.scripted_server import ScriptedServer

TOKEN = "a-token-of-the-tests-alone"
MR = "1.2.840.10008.5.1.4.1.1.4"


class Server:
    """An archive that is served over HTTP, and a client of it."""

    def __init__(self, archive: EmbeddedArchive, settings: HttpSettings, url: str) -> None:
        self.archive = archive
        self.url = url
        self.settings = settings.model_copy(update={"archive_url": url})
        self.client = ArchiveClient(self.settings, patience_s=1.0)

    def store(self, key: InstanceKey, content: bytes) -> None:
        incoming = self.archive.create_file()
        incoming.write(encode_file_meta(MR, key.sop_instance_uid, "1.2.840.10008.1.2.1") + content)
        self.archive.store(key, incoming)

    def status(self, path: str, token: str | None = TOKEN, method: str = "GET", body: bytes | None = None) -> int:
        """Return the status of a request whose path no client library has normalised."""
        host = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        connection.request(method, path, body, headers)
        status = connection.getresponse().status
        connection.close()
        return status


@contextmanager
def serving(folder: Path, **more: object) -> Iterator[Server]:
    archive = EmbeddedArchive(folder / "data" / "archive", 0)
    archive.open()
    (folder / "data" / "results").mkdir()
    token_file = folder / "token"
    token_file.write_text(TOKEN)
    settings = HttpSettings.model_validate({"enabled": True, "port": 0, "token_file": str(token_file), **more})
    app = make_app({}, CollectorRegistry(), archive_routes(archive, read_http_token(settings)))
    with http_server(settings, app) as url:
        yield Server(archive, settings, url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made
        made.client.close()


@pytest.fixture
def source(server: Server, tmp_path: Path) -> Iterator[HttpSource]:
    """The source of images and results of a worker on another host."""
    spool = Spool(tmp_path / "worker")
    made = HttpSource(server.client, spool)
    yield made
    made.close()
    assert list((tmp_path / "worker" / "fetched").iterdir()) == [], "nothing is left behind"


def result_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "seg-t1ce.dcm").write_bytes(bytes(range(256)) * 1000)
    (folder / "report.json").write_text("{}")
    return folder


def test_a_worker_gets_images_as_they_were_received(server: Server, source: HttpSource) -> None:
    study = new_study_uid()
    keys = [InstanceKey(study, f"{study}.{n % 2 + 1}", f"{study}.1.{n}") for n in range(4)]
    for key in keys:
        server.store(key, key.sop_instance_uid.encode() * 100000)
    again = server.archive.create_file()
    again.write(server.archive.path(keys[0]).read_bytes())
    server.archive.replace(keys[0], again)
    inputs = source.inputs(new_job(study, [], "m"))
    assert inputs.replacements == 1
    assert sorted(inputs.sop_instance_uids) == sorted(key.sop_instance_uid for key in keys)
    with source.workspace(new_job(study, inputs.sop_instance_uids, "m"), inputs) as workspace:
        here = {path.name: path.read_bytes() for path in workspace.paths}
        assert here == {path.name: path.read_bytes() for path in server.archive.files(study)}
    assert not any(path.exists() for path in workspace.paths), "they are removed after the job"


def test_requests_without_the_token_are_rejected(server: Server) -> None:
    study = new_study_uid()
    server.store(InstanceKey(study, f"{study}.1", f"{study}.2"), b"x")
    path = f"/api/studies/{study}/series/{study}.1/instances/{study}.2"
    for wanted, method in ((f"/api/studies/{study}/instances", "GET"), (path, "GET"), ("/api/results/1-2", "PUT")):
        for token in (None, "", TOKEN[:-1], TOKEN + "x", "\u00e9" * 20):
            assert server.status(wanted, token, method) == 401
    assert server.status(path) == 200
    assert server.status("/health", None) == server.status("/metrics", None) == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/api/studies", "/api/results/1.2/x/report.json"])
def test_other_paths_do_not_exist(server: Server, path: str) -> None:
    assert server.status(path) in (404, 405)


@pytest.mark.parametrize("part", ["..", "%2e%2e", "..%2f..", "1.2.3%00", "a", "1..2", "1" * 65, "%2fetc%2fpasswd"])
def test_only_uids_become_paths(server: Server, tmp_path: Path, part: str) -> None:
    (tmp_path / "data" / "secret.dcm").write_bytes(b"secret")
    study = new_study_uid()
    server.store(InstanceKey(study, f"{study}.1", f"{study}.2"), b"x")
    assert server.status(f"/api/studies/{part}/instances") in (400, 404)
    assert server.status(f"/api/studies/{study}/series/{part}/instances/{study}.2") in (400, 404)
    assert server.status(f"/api/studies/{study}/series/{part}/instances/secret") in (400, 404)
    assert server.status(f"/api/studies/{study}/series/{study}.1/instances/{part}") in (400, 404)
    assert server.status(f"/api/results/{study}/{part}/report.json") in (400, 404)
    assert server.status(f"/api/results/{part}/{'0' * 16}/report.json") in (400, 404)
    assert server.status(f"/api/results/{part}-{'0' * 16}", method="PUT", body=b"") in (400, 404, 405)


@pytest.mark.parametrize("path", ["/data/results/1.2/x/a.dcm", "1.2/0123456789abcdef/../a.dcm", "a.dcm", ""])
def test_only_paths_of_results_are_parsed(path: str) -> None:
    with pytest.raises(WrongTransfer):
        parse_result_path(path)


def test_a_result_is_stored_once_and_can_be_read_back(server: Server, source: HttpSource, tmp_path: Path) -> None:
    job = new_job(new_study_uid(), ["1.2.3"], "m")
    folder = result_folder(tmp_path / "made")
    kept = source.store_results(job, folder)
    assert kept.parent == tmp_path / "data" / "results" / job.study_instance_uid
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert source.store_results(job, folder) == kept
    (folder / "report.json").write_text('{"other": 1}')
    other = source.store_results(job, folder)
    assert sorted(kept.parent.iterdir()) == sorted([kept, other]), "what was there is not replaced"
    assert (kept / "report.json").read_text() == "{}"
    server.client.fetch(
        "/api/results/" + "/".join(parse_result_path(str(kept / "seg-t1ce.dcm"))), tmp_path / "again.dcm"
    )
    assert (tmp_path / "again.dcm").read_bytes() == (folder / "seg-t1ce.dcm").read_bytes()
    assert list((tmp_path / "data" / "incoming").iterdir()) == []


def test_a_changed_or_incomplete_result_is_not_stored(server: Server, tmp_path: Path) -> None:
    job = new_job(new_study_uid(), ["1.2.3"], "m")
    packed = tmp_path / "packed"
    with packed.open("wb") as file:
        pack(result_folder(tmp_path / "made"), file)
    whole, digest = packed.read_bytes(), format_digest(sha256_of(packed))
    host, port = server.url.removeprefix("http://").split(":")
    for body, announced in ((whole[:-1] + b"x", len(whole)), (whole[:5000], 5000), (whole[:5000], len(whole))):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            head = (
                f"PUT /api/results/{job.key} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Repr-Digest: {digest}\r\nContent-Length: {announced}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
            if announced == len(body):
                assert b" 400 " in connection.recv(100)
    wait_until(lambda: not list((tmp_path / "data" / "incoming").iterdir()), "nothing incomplete is left", 10)
    assert list((tmp_path / "data" / "results").iterdir()) == []


def tar_of(*members: tarfile.TarInfo) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    packed.seek(0)
    return packed


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "members",
    [
        (),
        (member("../escaped.dcm"),),
        (member("/tmp/escaped.dcm"),),
        (member("a/b.dcm"),),
        (member("a.dcm", tarfile.SYMTYPE, "/etc/passwd"),),
        (member("a.dcm", tarfile.LNKTYPE, "b.dcm"),),
        (member("a.dcm", tarfile.DIRTYPE),),
        (member("a.sh"),),
        (member("a.dcm"), member("a.dcm")),
    ],
)
def test_a_tar_with_other_members_is_rejected(members: tuple[tarfile.TarInfo, ...], tmp_path: Path) -> None:
    with pytest.raises(WrongTransfer):
        unpack(tar_of(*members), tmp_path / "into")
    assert list(tmp_path.rglob("*escaped*")) == []


def answer(body: bytes, sent: bytes | None = None, status: str = "200 OK", digest: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
    if digest:
        head += f"Repr-Digest: {format_digest(hashlib.sha256(body).digest())}\r\n"
    return head.encode() + b"\r\n" + (body if sent is None else sent)


WHOLE = bytes(range(256)) * 2000
INCOMPLETE = [
    answer(WHOLE, WHOLE[:-1]),
    answer(WHOLE, b""),
    answer(WHOLE, b"x" + WHOLE[1:]),
    answer(WHOLE, digest=False),
]
INCOMPLETE += [b"", b"HTTP/1.1 200", answer(b"", status="503 Service Unavailable"), answer(b"", status="507 Full")]


def client_of(url: str, tmp_path: Path) -> ArchiveClient:
    (tmp_path / "token").write_text(TOKEN)
    settings = HttpSettings(archive_url=url, token_file=str(tmp_path / "token"))
    return ArchiveClient(settings, patience_s=0.5)


@pytest.mark.parametrize("incomplete", INCOMPLETE)
def test_an_incomplete_download_is_retried(
    incomplete: bytes, serve: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    once = serve(incomplete, answer(WHOLE))
    client = client_of(once.url, tmp_path)
    client.fetch("/x", tmp_path / "got")
    client.close()
    assert (tmp_path / "got").read_bytes() == WHOLE
    assert len(once.requests) == 2


def test_a_download_that_stays_incomplete_leaves_no_file(serve: Callable[..., ScriptedServer], tmp_path: Path) -> None:
    always = serve(INCOMPLETE[0])
    with pytest.raises(ArchiveUnavailable, match="the connection ended before the response"):
        client_of(always.url, tmp_path).fetch("/x", tmp_path / "got")
    assert not (tmp_path / "got").exists()
    assert len(always.requests) > 1


def test_a_wrong_token_and_a_missing_file_are_reported_without_retries(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NotInArchive):
        server.client.fetch("/api/studies/1.2/series/1.2/instances/1.2", tmp_path / "got")
    (tmp_path / "token").write_text("another-token-than-theirs")
    with pytest.raises(ArchiveUnavailable, match="refuses the token"):
        ArchiveClient(server.settings, patience_s=30).get_json("/api/studies/1.2/instances")


@pytest.mark.parametrize("body", [b"<html>404</html>", b'{"detail":"Not Found"}', b"[]"])
def test_a_404_of_another_service_says_nothing_of_what_the_archive_has(
    body: bytes, serve: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    proxy = serve(answer(body, status="404 Not Found"))
    client = client_of(proxy.url, tmp_path)
    with pytest.raises(ArchiveUnavailable, match="404 from another service"):
        client.fetch("/x", tmp_path / "got")
    with pytest.raises(ArchiveUnavailable, match="404 from another service"):
        client.get_json("/x")
    path = f"/data/results/1.2.3/{'0' * 16}/seg.dcm"
    results = HttpResults(client, Spool(tmp_path / "deliverer"))
    assert results.fetch([OutboxEntry("1.2.3.4", path, 0, datetime.now(UTC))]) == (), "it stays due"
    results.close()


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"folder": "/data/results/1.2.3/0000000000000000-0000000000000000"}'])
def test_an_upload_counts_where_the_response_names_its_folder(
    body: bytes, serve: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    other = serve(answer(body, status="201 Created"))
    source = HttpSource(client_of(other.url, tmp_path), Spool(tmp_path / "worker"))
    with pytest.raises(ArchiveUnavailable, match="do not count as stored"):
        source.store_results(new_job(new_study_uid(), ["1.2.3"], "m"), result_folder(tmp_path / "made"))
    source.close()


def test_over_tls(program: Callable[[str], str], tmp_path: Path) -> None:
    authority = Authority(program, tmp_path / "authority")
    own = authority.sign("server")
    with serving(tmp_path, tls_certificate=own.certificate, tls_key=own.key) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trusting = server.settings.model_copy(update={"archive_tls_ca": authority.certificate})
        client = ArchiveClient(trusting, patience_s=0.5)
        assert client.get_json("/api/studies/1.2/instances") == {"images": [], "other_instances": 0, "replacements": 0}
        client.close()
        with pytest.raises(ArchiveUnavailable, match="its TLS certificate is not accepted"):
            server.client.get_json("/api/studies/1.2/instances")


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "two\nlines of text here", "\u00e9" * 16])
def test_a_malformed_token_is_an_error(token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token)
    with pytest.raises(SettingsWrong, match=r"http\.token"):
        read_http_token(HttpSettings(token_file=str(tmp_path / "token")))


def test_the_spool_of_a_dead_process_is_removed_and_that_of_a_live_one_is_not(tmp_path: Path) -> None:
    living, dead = Spool(tmp_path), Spool(tmp_path)
    kept, orphan = living.make_folder(), dead.make_folder()
    dead._lock.close()  # as the kernel does for a process that is killed
    Spool(tmp_path).close()
    assert kept.is_dir()
    assert not orphan.exists()
    living.close()
    assert list((tmp_path / "fetched").iterdir()) == []


def test_health_reports_what_is_wrong(tmp_path: Path) -> None:
    wrong: dict[str, str | None] = {"listener": None, "disk": "3 MiB are free, the minimum is 5 MiB."}
    questions = {name: (lambda why=why: why) for name, why in wrong.items()}
    app = make_app(questions, CollectorRegistry())
    with http_server(HttpSettings(port=0), app) as url:
        with pytest.raises(urllib.error.HTTPError) as failed:
            urllib.request.urlopen(f"{url}/health", timeout=10)
        with failed.value as said:
            assert said.code == 503
            assert b'"disk":"3 MiB are free' in said.read()
        questions["disk"] = lambda: None
        with urllib.request.urlopen(f"{url}/health", timeout=10) as said:
            assert said.status == 200
        with pytest.raises(urllib.error.HTTPError) as nothing:
            urllib.request.urlopen(f"{url}/api/studies/1.2/instances", timeout=10)
        with nothing.value as said:
            assert said.code == 404


def test_a_deliverer_gets_existing_files_and_keeps_paths_of_missing_ones(
    server: Server, source: HttpSource, tmp_path: Path
) -> None:
    job = new_job(new_study_uid(), ["1.2.3"], "m")
    kept = source.store_results(job, result_folder(tmp_path / "made"))
    spool = Spool(tmp_path / "deliverer")
    results = HttpResults(server.client, spool)
    gone = kept / "gone.dcm"
    entries = [OutboxEntry(name, str(kept / name), 0, datetime.now(UTC)) for name in ("seg-t1ce.dcm", "gone.dcm")]
    first, second = results.fetch(entries)
    assert Path(first.path).read_bytes() == (kept / "seg-t1ce.dcm").read_bytes()
    assert Path(first.path).is_relative_to(tmp_path / "deliverer")
    assert second.path == str(gone), "for good, which its row will say"
    assert results.fetch([]) == ()
    assert not Path(first.path).exists(), "it is removed with the next look"
    results.close()
    assert list((tmp_path / "deliverer" / "fetched").iterdir()) == []


def test_a_deliverer_waits_for_an_archive_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        unused_url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    results = HttpResults(client_of(unused_url, tmp_path), Spool(tmp_path / "deliverer"))
    path = f"/data/results/1.2.3/{'0' * 16}/seg.dcm"
    assert results.fetch([OutboxEntry("1.2.3.4", path, 0, datetime.now(UTC))]) == (), "it stays due"
    results.close()
