"""Configurations are frozen, checked, and read from JSON or TOML; every error names the field."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from c2s.config import Config, read_settings
from c2s.errors import ArtefactError, C2SError, ConfigError


class Inner(Config):
    rate: float = 0.5


class Outer(Config):
    steps: int = Field(10, gt=0)
    target: Literal["delta", "sentence"] = "delta"
    keys: tuple[str, ...] = ()
    inner: Inner = Inner()


def test_unknown_and_wrong_fields_are_all_named():
    with pytest.raises(ConfigError) as error:
        Outer(stepz=3, steps=0, target="none", inner={"rate": "fast"})
    message = str(error.value)
    assert message.startswith("Outer cannot be built:\n")
    for name in (
        "stepz: Extra inputs",
        "steps: Input should be greater",
        "target: Input should be",
        "inner: ",
        "rate: Input should be",
    ):
        assert f"  {name}" in message
    assert isinstance(error.value, C2SError)


def test_instances_are_frozen():
    config = Outer()
    with pytest.raises(ValidationError, match="frozen"):
        config.steps = 5
    assert hash(Outer()) == hash(config)


def test_with_changes_a_copy_and_checks_it():
    config = Outer(keys=["a", "b"])
    changed = config.with_(steps=3, inner=Inner(rate=0.1))
    assert (changed.steps, changed.inner.rate, changed.keys) == (3, 0.1, ("a", "b"))
    assert config.steps == 10
    with pytest.raises(ConfigError, match="steps: Input should be greater than 0"):
        config.with_(steps=-1)
    with pytest.raises(ConfigError, match="epochs: Extra inputs"):
        config.with_(epochs=1)


def test_written_and_read_is_the_same(tmp_path):
    config = Outer(steps=7, keys=("a",), inner=Inner(rate=2.0))
    config.write(tmp_path / "c.json")
    assert Outer.from_file(tmp_path / "c.json") == config
    assert json.loads((tmp_path / "c.json").read_text())["inner"] == {"rate": 2.0}


def test_toml(tmp_path):
    (tmp_path / "c.toml").write_text('steps = 7\nkeys = ["a"]\n[inner]\nrate = 2.0\n')
    assert Outer.from_file(tmp_path / "c.toml") == Outer(steps=7, keys=("a",), inner=Inner(rate=2.0))


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("c.toml", "steps = = 7", ConfigError, "cannot read the settings in .*c.toml"),
        ("c.toml", None, ConfigError, "cannot read the settings in .*c.toml"),
        ("c.json", None, ArtefactError, "no file .*c.json"),
        ("c.json", '{"steps": ', ArtefactError, "not valid JSON"),
        ("c.json", "[1, 2]", ConfigError, "holds a list; a configuration is a mapping of names to values"),
        ("c.json", '{"stepz": 1}', ConfigError, "stepz: Extra inputs"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, kind, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(kind, match=message):
        Outer.from_file(tmp_path / name)


def test_settings_of_a_file_are_a_plain_mapping(tmp_path):
    (tmp_path / "c.json").write_text('{"steps": 1, "other": [1]}')
    assert read_settings(tmp_path / "c.json") == {"steps": 1, "other": [1]}


def test_toml_that_is_not_text(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the settings"):
        Outer.from_file(tmp_path / "c.toml")
