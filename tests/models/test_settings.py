"""What a model folder says about itself survives JSON, and nothing unknown slips in."""

from __future__ import annotations

import pytest

from c2s.errors import ConfigError
from c2s.models.settings import FORMAT, ModelSettings, PerturbationSettings
from tests.models.untrained import untrained


@pytest.mark.parametrize("target", ["delta", "sentence"])
def test_settings_survive_json(models, target, tmp_path):
    settings = models["human", target].settings
    settings.write(tmp_path / "s.json")
    again = ModelSettings.from_file(tmp_path / "s.json")
    assert again == settings
    assert again.model_dump(mode="json") == settings.model_dump(mode="json")


def test_defaults_are_an_untrained_model():
    settings = ModelSettings()
    assert (settings.format, settings.tasks, settings.labels, settings.perturbation) == (FORMAT, {}, (), None)
    assert "tasks: none" in repr(_with(settings))


def _with(settings):
    model = untrained()
    model.settings = settings
    return model


def test_unknown_fields_are_refused():
    with pytest.raises(ConfigError, match="temperature: Extra inputs"):
        ModelSettings(temperature=1.0)
    with pytest.raises(ConfigError, match="control: Field required"):
        PerturbationSettings(perturbation_key="drug")
