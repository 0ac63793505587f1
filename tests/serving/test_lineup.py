from __future__ import annotations

from pathlib import Path

import pytest

from data.config import read_config, section
from data.errors import UsageError
from serving.lineup import make_lineup
from serving.settings import ExternalEndpoint, ServeSection


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    return tmp_path


def test_each_folder_is_an_engine_and_two_models(model: Path) -> None:
    lineup = make_lineup(ServeSection(), {"base": model, "tuned": model}, grounded=True, logs=model)
    assert lineup.models.ids == ("base", "base-rag", "tuned", "tuned-rag")
    assert [process.engine.name for process in lineup.processes] == ["base", "tuned"]
    assert len({process.engine.base_url for process in lineup.processes}) == 2


def test_without_index_or_merged_model_less_is_served(model: Path) -> None:
    assert make_lineup(ServeSection(), {"base": model}, grounded=False, logs=model).models.ids == ("base",)


def test_external_engine_is_not_started(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    there = ExternalEndpoint(url="http://gpu:8001", model="merged", api_key_variable="SOME_KEY")
    config = ServeSection(external={"tuned": there}, model_ids={"tuned": "our-model"})
    lineup = make_lineup(config, {"base": model, "tuned": model}, grounded=False, logs=model)
    assert lineup.models.ids == ("base", "our-model")
    assert [process.engine.name for process in lineup.processes] == ["base"]
    engine = lineup.models.find("our-model").engine
    assert engine.base_url == "http://gpu:8001/v1"
    assert engine.headers == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(engine)


def test_several_servers_of_one_external_engine() -> None:
    config = ServeSection.model_validate(
        {"external": {"base": {"url": ["http://a:1", "http://b:1/v1/"], "model": "m"}}}
    )
    lineup = make_lineup(config, {}, grounded=False, logs=Path())
    assert lineup.models.find("base").engine.urls == ("http://a:1/v1", "http://b:1/v1")
    with pytest.raises(ValueError, match="at least 1 item"):
        ExternalEndpoint(url=(), model="m")


def test_what_an_engine_answers_by(model: Path) -> None:
    """Two lineups of the same folder are the same engines, on other ports, until the folder changes."""

    def identities() -> list[object]:
        lineup = make_lineup(ServeSection(), {"base": model, "tuned": model}, grounded=False, logs=model)
        return [process.identity for process in lineup.processes]

    before = identities()
    assert identities() == before
    (model / "config.json").write_text('{"model_type": "llama"}')
    assert not set(identities()) & set(before)


def test_key_variable_that_is_not_set() -> None:
    there = ExternalEndpoint(url="http://gpu:8001", model="m", api_key_variable="NO_SUCH_VARIABLE")
    with pytest.raises(UsageError, match="NO_SUCH_VARIABLE is not set"):
        make_lineup(ServeSection(external={"base": there}), {}, grounded=False, logs=Path())


def test_two_models_with_one_id(model: Path) -> None:
    config = ServeSection(model_ids={"tuned": "base"})
    with pytest.raises(UsageError, match="same id"):
        make_lineup(config, {"base": model, "tuned": model}, grounded=False, logs=model)


@pytest.mark.parametrize("written", ["off", "'off'", "stderr"])
def test_a_log_that_is_off_needs_no_quotes(written: str) -> None:
    config = section(read_config(None, [f"serve.log={written}"]), "serve", ServeSection)
    assert config.log == written.strip("'")
    with pytest.raises(UsageError, match=r"serve\.log"):
        section(read_config(None, ["serve.log=true"]), "serve", ServeSection)
