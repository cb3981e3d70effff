"""Versions kept elsewhere: in a store of objects, or over HTTP."""

import functools
import http.server
import json
import shutil
import socket
import threading

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from recjpq.artifact import load_artifact
from recjpq.errors import (
    ArtifactChecksumError,
    ArtifactIncompleteError,
    ArtifactManifestError,
    ArtifactNotFoundError,
    ArtifactSizeError,
)
from service.app import create_app
from service.errors import LocationUnavailableError, SettingsError, StartupError, VersionNotFoundError
from service.lifecycle import versions_remote
from service.lifecycle.versions_remote import RemoteVersions

HEADERS = {"X-API-Key": "admin-key-1"}


@pytest.fixture(scope="module")
def artifacts(make_artifact, tmp_path_factory):
    directory = tmp_path_factory.mktemp("remote")
    for version in ("v1", "v2"):
        make_artifact(directory, version)
    return directory


@pytest.fixture
def origin(artifacts, tmp_path):
    """The versions as a directory that the test may change."""
    return shutil.copytree(artifacts, tmp_path / "origin")


class Server(http.server.ThreadingHTTPServer):
    """A server of files, and nothing for directories."""

    daemon_threads = False
    requested: list[str]


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requested.append(self.path)
        super().do_GET()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(origin):
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(origin))) as server:
        server.requested = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def memory(origin):
    """The versions in a filesystem of fsspec that lists."""
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(origin), "/models", recursive=True)
    yield filesystem
    filesystem.rm("/models", recursive=True)


@pytest.fixture
def s3(origin, monkeypatch):
    """The versions in a bucket of a server that speaks S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    environment = {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # they know the last server
    filesystem = fsspec.filesystem("s3")
    filesystem.mkdir("bucket")
    filesystem.put(str(origin), "bucket/models", recursive=True)
    yield "s3://bucket/models"
    filesystem.rm("bucket", recursive=True)
    server.stop()


@pytest.fixture(params=["memory", "index", "http", "s3"])
def location(request, tmp_path):
    """The same versions behind each kind of location."""
    if request.param == "s3":
        return request.getfixturevalue("s3")
    if request.param == "http":
        (request.getfixturevalue("origin") / "versions.json").write_text('{"versions": ["v1", "v2", "v3"]}')
        return request.getfixturevalue("url")
    memory = request.getfixturevalue("memory")
    if request.param == "index":
        memory.pipe("/models/versions.json", b'{"versions": ["v2", "v1", "../v1", ".hidden"]}')
    return "memory://models"


def open_versions(location, tmp_path):
    return RemoteVersions.open(location, tmp_path / "cache")


def files(directory):
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_versions_are_known_and_fetched_once(location, tmp_path):
    versions = open_versions(location, tmp_path)
    assert [version.name for version in versions.known()] == ["v2", "v1"]
    assert versions.newest() == "v2"
    path = versions.fetch("v1")
    assert load_artifact(path).manifest.model.version == "v1"
    assert path.name == "v1"
    assert open_versions(location, tmp_path).fetch("v1") == path
    assert [p.name for p in path.parent.iterdir() if p.is_dir()] == ["v1"]


@pytest.mark.parametrize("name", ["v9", "../v1", "..", ".hidden", "a/b", "", "x" * 129])
def test_a_name_that_is_no_version(location, tmp_path, name):
    with pytest.raises(VersionNotFoundError):
        open_versions(location, tmp_path).fetch(name)


def test_one_artifact_at_a_url(url, tmp_path):
    versions = open_versions(f"{url}/v2/", tmp_path)
    assert [version.name for version in versions.known()] == ["v2"]
    assert load_artifact(versions.fetch("v2")).manifest.model.version == "v2"
    with pytest.raises(VersionNotFoundError):
        versions.fetch("v1")


def test_a_copy_is_used_while_the_location_does_not_answer(server, url, tmp_path):
    versions = open_versions(f"{url}/v2", tmp_path)
    path = versions.fetch("v2")
    server.requested.clear()
    assert versions.fetch("v2") == path
    assert server.requested == []
    nowhere = open_versions("http://127.0.0.1:9/models", tmp_path)
    with pytest.raises(LocationUnavailableError):
        nowhere.known()
    with pytest.raises(LocationUnavailableError):
        nowhere.fetch("v1")


def without_manifest(version):
    (version / "manifest.json").unlink()


def without_a_file(version):
    (version / "golden.npz").unlink()


def half_a_file(version):
    content = (version / "item_codes.npy").read_bytes()
    (version / "item_codes.npy").write_bytes(content[: len(content) // 2])


def one_bit(version):
    content = bytearray((version / "item_codes.npy").read_bytes())
    content[-1] ^= 1
    (version / "item_codes.npy").write_bytes(content)


def half_a_manifest(version):
    content = (version / "manifest.json").read_bytes()
    (version / "manifest.json").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("half_write", "expected"),
    [
        (without_manifest, ArtifactIncompleteError),
        (without_a_file, ArtifactIncompleteError),
        (half_a_file, ArtifactSizeError),
        (one_bit, ArtifactChecksumError),
        (half_a_manifest, ArtifactManifestError),
    ],
)
def test_what_is_not_whole_is_refused_and_leaves_nothing_behind(
    origin, url, artifacts, tmp_path, half_write, expected
):
    (origin / "versions.json").write_text('{"versions": ["v1", "v2"]}')
    half_write(origin / "v2")
    versions = open_versions(url, tmp_path)
    with pytest.raises(expected):
        versions.fetch("v2")
    assert [name for name in files(tmp_path / "cache") if not name.endswith(".lock")] == []
    shutil.rmtree(origin / "v2")
    shutil.copytree(artifacts / "v2", origin / "v2")  # the upload has ended
    load_artifact(versions.fetch("v2"))


def test_unfinished_versions_are_not_known(memory, tmp_path):
    memory.rm("/models/v2/manifest.json")
    assert [version.name for version in open_versions("memory://models", tmp_path).known()] == ["v1"]


def test_what_a_killed_process_left_is_taken_away(memory, tmp_path):
    versions = open_versions("memory://models", tmp_path)
    copy = versions.fetch("v1")
    partial = copy.rename(copy.with_name(".v1.partial"))
    (partial / "manifest.json").unlink()
    (partial / "more").write_text("")
    assert versions.fetch("v1") == copy
    assert "more" not in files(copy)
    assert not partial.exists()


@pytest.mark.parametrize("index", ["", "[]", '{"versions": "v1"}', '{"versions": [1]}', "{}"])
def test_an_index_that_is_none(origin, url, tmp_path, index):
    (origin / "versions.json").write_text(index)
    with pytest.raises(ArtifactManifestError, match=r"versions\.json: expected"):
        open_versions(url, tmp_path).known()


def test_http_without_an_index_says_what_to_do(url, tmp_path):
    with pytest.raises(ArtifactNotFoundError, match=r"put a versions[.]json there"):
        open_versions(url, tmp_path).known()


def test_an_empty_location_has_no_newest_version(tmp_path):
    with pytest.raises(ArtifactNotFoundError, match="no finished artifact"):
        open_versions("memory://empty", tmp_path).newest()


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_location_that_never_answers_is_not_waited_for(scheme, tmp_path, monkeypatch):
    """It takes connections and says nothing; whoever waits without end keeps the process from ending."""
    monkeypatch.setattr(versions_remote, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        location = f"http://127.0.0.1:{mute.getsockname()[1]}"
        if scheme == "s3":
            monkeypatch.setenv("AWS_ENDPOINT_URL", location)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            location = "s3://bucket/models"
        with pytest.raises(LocationUnavailableError):
            open_versions(location, tmp_path).known()


@pytest.mark.parametrize("location", ["nonsense://host/path", "gs2://bucket"])
def test_a_scheme_that_nothing_reads(location, tmp_path):
    with pytest.raises(SettingsError, match="RECJPQ_MODEL_PATH"):
        open_versions(location, tmp_path)


@pytest.fixture
def remote_settings(settings, origin, url, tmp_path):
    (origin / "versions.json").write_text('{"versions": ["v1", "v2"]}')
    changes = {
        "model_path": url, "model_cache": tmp_path / "cache", "admin_key": SecretStr("admin-key-1")
    }  # fmt: skip
    return settings.model_copy(update=changes)


def activate(client, version):
    return client.post(f"/admin/models/{version}/activate", headers=HEADERS)


def test_the_service_serves_versions_from_http(remote_settings, origin, open_client, artifacts):
    client = open_client(create_app(remote_settings))
    assert client.get("/model").json()["version"] == "v2"
    half_a_file(origin / "v1")
    response = activate(client, "v1")
    assert (response.status_code, response.json()["type"]) == (422, "urn:recjpq:problem:version-refused")
    assert "item_codes.npy: found" in response.json()["detail"]
    assert str(remote_settings.model_cache) not in response.text
    assert client.get("/model").json()["version"] == "v2"
    shutil.rmtree(origin / "v1")
    shutil.copytree(artifacts / "v1", origin / "v1")
    assert activate(client, "v1").status_code == 200
    assert client.get("/model").json()["version"] == "v1"


def test_a_damaged_copy_is_fetched_again(remote_settings, open_client):
    client = open_client(create_app(remote_settings))
    [copy] = remote_settings.model_cache.glob("*/v2")
    shutil.copytree(copy, copy.with_name("v1"))
    one_bit(copy.with_name("v1"))
    assert activate(client, "v1").status_code == 422
    assert activate(client, "v1").status_code == 200


def test_without_its_location_the_service_goes_on_and_starts_again(
    remote_settings, server, open_client, runner
):
    client = open_client(create_app(remote_settings))
    assert activate(client, "v2").status_code == 200
    server.shutdown()
    server.server_close()
    response = activate(client, "v1")
    assert (response.status_code, response.json()["type"]) == (503, "urn:recjpq:problem:location-unavailable")
    assert "retry-after" in response.headers
    assert remote_settings.model_path not in response.text
    state = client.get("/admin/models", headers=HEADERS).json()
    assert (state["champion"], state["versions"]) == ("v2", None)
    assert state["last_failure"]["detail"] == "The place of the versions does not answer."
    assert open_client(create_app(remote_settings)).get("/model").json()["version"] == "v2"
    shutil.rmtree(remote_settings.model_cache)
    app = create_app(remote_settings)
    with pytest.raises(StartupError, match="RECJPQ_MODEL_PATH"):
        runner.run(app.router.lifespan_context(app).__aenter__())


def test_a_location_without_versions_ends_the_process_with_one_line(start_service, url):
    service = start_service(wait=False, model_path=url)
    assert service.process.wait(20) == 3
    records = [json.loads(line) for line in service.log.read_text().splitlines()]
    [error] = [record for record in records if "cannot start" in record["message"]]
    assert "versions.json" in error["message"]
