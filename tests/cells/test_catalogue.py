"""The catalogue: fetched once, checked always, and plain words where there is no network. Nothing here reaches one."""

from __future__ import annotations

import gzip
import hashlib
import json

import pooch
import pytest
import requests

from c2s.cells import catalogue
from c2s.cells.catalogue import CATALOGUE, Listed, fetch, find_table
from c2s.errors import ArtefactError, ConfigError

CONTENT = b"A,B\nC,D\n"


class Server:
    """Stands in for pooch's download over HTTP."""

    def __init__(self):
        self.asked: list[str] = []
        self.content: bytes | Exception = CONTENT

    def __call__(self, url, output_file, pooch, check_only=False):
        self.asked.append(url)
        if isinstance(self.content, Exception):
            raise self.content
        with open(output_file, "wb") as file:  # noqa: PTH123 (pooch passes a path or a file)
            file.write(self.content)


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", lambda self, *args, **more: server(*args, **more))
    entry = Listed("who/what", "c0ffee", "data/pairs.csv", hashlib.sha256(CONTENT).hexdigest(), "gene table", "pairs")
    monkeypatch.setitem(CATALOGUE, "pairs", entry)
    monkeypatch.setitem(CATALOGUE, "sets", Listed("who/what", "c0ffee", "sets.gmt", "0", "gene sets", "sets"))
    return server


def test_a_file_is_fetched_once(server, tmp_path):
    file = fetch("pairs")
    assert file == tmp_path / "c2s" / "pairs.csv"
    assert file.read_bytes() == CONTENT
    assert server.asked == ["https://raw.githubusercontent.com/who/what/c0ffee/data/pairs.csv"]
    assert fetch("pairs") == file
    assert len(server.asked) == 1


def test_another_checksum_is_refused_and_not_kept(server, tmp_path):
    server.content = b"A,B\nC,E\n"
    with pytest.raises(ArtefactError, match=r"cannot fetch pairs from https.*hash.*does not match"):
        fetch("pairs")
    assert not (tmp_path / "c2s" / "pairs.csv").exists()


def test_offline_says_where_the_file_goes(server, tmp_path):
    server.content = requests.ConnectionError("no route to host")
    place = tmp_path / "c2s" / "pairs.csv"
    with pytest.raises(ArtefactError, match="no route to host. Get the file elsewhere and put it at") as raised:
        fetch("pairs")
    assert str(place) in str(raised.value)
    assert CATALOGUE["pairs"].sha256 in str(raised.value)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(CONTENT)
    assert fetch("pairs") == place


def test_a_file_goes_before_a_name(server, tmp_path, monkeypatch):
    assert find_table("pairs").name == "pairs.csv"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs").write_bytes(b"E,F\n")
    assert find_table("pairs").read_bytes() == b"E,F\n"
    assert find_table(tmp_path / "pairs") == tmp_path / "pairs"


def test_unknown_names(server):
    with pytest.raises(ConfigError, match="the catalogue has no 'pears'; it has gencode44_id_to_symbol"):
        fetch("pears")
    with pytest.raises(ConfigError, match=r"no file table.csv, and no table of that name.*pairs$"):
        find_table("table.csv")
    with pytest.raises(ConfigError, match="no file sets"):  # gene sets are no table of names
        find_table("sets")
    assert not server.asked


def test_entries_are_whole():
    for name, entry in CATALOGUE.items():
        assert len(entry.commit) == 40, name
        assert len(entry.sha256) == 64, name
        assert entry.url.endswith(f"/{entry.commit}/{entry.path}")
    names = [entry.file_name for entry in CATALOGUE.values()]
    assert len(set(names)) == len(names)


@pytest.mark.real
def test_checksums_are_those_of_the_files_at_their_commit(data_dir):
    """A local copy whose git blob id is the recorded one is the very file at that address."""
    for name, entry in catalogue.CATALOGUE.items():
        folder = data_dir / ("gene_sets" if entry.holds == "gene sets" else "gene_tables")
        content = gzip.decompress((folder / f"{entry.file_name}.gz").read_bytes())
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        record = {"repository": entry.repository, "path": entry.path, "commit": entry.commit, "blob": blob}
        sources = json.loads((folder / "SOURCE.json").read_text())
        assert any(record.items() <= source.items() for source in sources), name
        assert hashlib.sha256(content).hexdigest() == entry.sha256, name
