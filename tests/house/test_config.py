"""Settings: what is merged, what wins, and that everything wrong is named by its key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, hash_key, is_loopback, load
from schemas.config import Settings
from schemas.limits import ScopedLimit
from schemas.policy import Policy
from schemas.providers import Breaker, Limits, ProviderSettings, RemoteModel, Retries, Timeouts
from schemas.routing import Fact, Price, Route, ScopedPolicy, Target

EXAMPLE = Path(__file__).parents[2] / "examples" / "sluice.toml"
REMOTE = "[[providers]]\nname = 'p'\nkind = 'openai'\nmodels = [{ name = 'm' }]\n"
KEY = {"name": "ci", "tenant": "house", "sha256": "0" * 64}


def written(folder: Path, text: str) -> Path:
    path = folder / "sluice.toml"
    path.write_text(text)
    return path


def test_defaults_serve_the_embedded_model_on_loopback() -> None:
    settings = load(None, {})
    assert settings == Settings()
    assert is_loopback(settings.server.host)
    assert [model.path for model in settings.models] == ["smollm2-135m-instruct"]


def test_the_example_file_says_the_defaults() -> None:
    assert load(EXAMPLE, {}) == Settings()


def test_the_example_file_names_every_key() -> None:
    lines = [line.lstrip("# ") for line in EXAMPLE.read_text().splitlines()]
    text = "\n".join(line for line in lines if "=" in line or line.startswith("["))
    shown = tomllib.loads("\n".join(line for line in text.splitlines() if not line.startswith("Every key")))
    assert {section: set(values) for section, values in shown.items() if isinstance(values, dict)} == {
        "server": set(Settings().server.__struct_fields__),
        "auth": set(Settings().auth.__struct_fields__),
        "engine": set(Settings().engine.__struct_fields__),
        "grammar": set(Settings().grammar.__struct_fields__),
        "policy": set(Policy.__struct_fields__),
        "database": set(Settings().database.__struct_fields__),
        "responses": set(Settings().responses.__struct_fields__),
        "files": set(Settings().files.__struct_fields__),
        "batches": set(Settings().batches.__struct_fields__),
        "retention": set(Settings().retention.__struct_fields__),
        "pii": set(Settings().pii.__struct_fields__),
        "telemetry": set(Settings().telemetry.__struct_fields__),
    }
    assert set(shown["models"][0]) == set(Settings().models[0].__struct_fields__)
    assert set(shown["auth"]["keys"][0]) == set(KEY)
    assert set(shown["limits"][0]) == set(ScopedLimit.__struct_fields__)
    for section, struct in (("policies", ScopedPolicy), ("routes", Route), ("facts", Fact), ("prices", Price)):
        assert set(shown[section][0]) == set(struct.__struct_fields__)
    assert set(shown["routes"][0]["targets"][0]) == set(Target.__struct_fields__)
    assert set(shown["providers"][0]) == set(ProviderSettings.__struct_fields__)
    for name, struct in (("timeouts", Timeouts), ("retries", Retries), ("breaker", Breaker), ("limits", Limits)):
        assert shown["providers"][0][name] == msgspec.to_builtins(struct())
    assert set(shown["providers"][0]["models"][0]) == set(RemoteModel.__struct_fields__)


def test_later_sources_win(tmp_path: Path) -> None:
    path = written(tmp_path, '[server]\nport = 1\nmax_queue = 2\nlog_level = "error"\n[grammar]\nfuel = 7\n')
    environ = {"SLUICE_SERVER__PORT": "3", "SLUICE_SERVER__MAX_QUEUE": "4", "SLUICE_CONFIG": "/nowhere"}
    settings = load(path, environ, {"server": {"port": 5}})
    assert (settings.server.port, settings.server.max_queue, settings.server.log_level) == (5, 4, "error")
    assert settings.grammar.fuel == 7


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nport = 9\n")
    assert load(None, {"SLUICE_CONFIG": str(path)}).server.port == 9


def test_lists_come_as_json_and_strings_as_they_are() -> None:
    environ = {
        "SLUICE_MODELS": '[{"name": "a", "path": "a.gguf"}]',
        "SLUICE_AUTH__KEYS": msgspec.json.encode([KEY]).decode(),
        "SLUICE_SERVER__HOST": "10.0.0.1",
        "SLUICE_TELEMETRY__SERVICE_NAME": "42",
    }
    settings = load(None, environ)
    assert settings.models[0].path == "a.gguf"
    assert settings.auth.keys[0].tenant == "house"
    assert settings.server.host == "10.0.0.1"
    assert settings.telemetry.service_name == "42"


def test_variables_that_orchestrators_inject_are_left_alone() -> None:
    assert load(None, {"SLUICE_PORT": "tcp://10.0.0.1:80", "SLUICE_SERVICE_HOST": "10.0.0.1"}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "`server.prot`: there is no such key; did you mean `port`?"),
        ("[sever]\nport = 1", "`sever`: there is no such key; did you mean `server`?"),
        (
            '[[models]]\nname = "a"\npath = "b"\n[[models]]\nname = "c"\npaht = "d"',
            "`models[1].paht`: there is no such",
        ),
        ("[server]\nport = 70000", "`server.port`: Expected `int` <= 65535"),
        ('[server]\nport = "80"', "`server.port`: Expected `int`, got `str`"),
        ("server = 1", "`server`: Expected `object`, got `int`"),
        ("models = []", "`models`: Expected `array` of length >= 1"),
        ("[[models]]\nname = 'a'", "`models[0]`: Object missing required field `path`"),
        ("[grammar]\ncompile_deadline_s = 0", "`grammar.compile_deadline_s`: Expected `float` > 0"),
        ("[engine]\nblock_size = 512", "`engine.block_size`: Expected `int` <= 256"),
        ("[server", "not valid TOML"),
        ('models = [{name="a", path="b"}, {name="a", path="c"}]', "model name `a` is given twice"),
        (f"{REMOTE}key = 'secret'", "`providers[0].key`: there is no such key"),
        (REMOTE, "is managed and has neither `key_env` nor `key_file`"),
        (f"{REMOTE}key_env = 'K'\nkey_file = 'k'", "its key comes from one of them"),
        (f"{REMOTE}key_env = 'K'\nbase_url = 'http://api.example.org'", "plain http is for self-hosted"),
        (f"{REMOTE}key_env = 'K'\nbase_url = 'https://u:p@example.org'", "more than a host, a port and a path"),
        (f"{REMOTE}key_env = 'K'\nbase_url = 'file:///etc/passwd'", "no http:// or https:// address"),
        (f"{REMOTE}key_env = 'K'\ncapabilities = {{ tols = true }}", "unknown field `tols`"),
        (f"{REMOTE}key_env = 'K'\nprofile = 'vlm'", "`providers[0].profile`: Invalid enum value 'vlm'"),
        (f"{REMOTE}key_env = 'K'\n{REMOTE}key_env = 'K'", "provider name `p` is given twice"),
        (REMOTE.replace("openai", "openai-compatible") + "key_env = 'K'", "needs a `base_url`"),
        (REMOTE.replace("openai", "anthropic") + "key_env = 'K'", "needs a `max_output`"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load(path, {})
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SLUICE_SERVER__PROT", "1", "`server.prot` is not a setting; did you mean `server.port`?"),
        ("SLUICE_SERVER__PORT", "many", "`server.port`: Expected `int`, got `str`"),
        ("SLUICE_SERVER__LOG_LEVEL", "loud", "`server.log_level`: Invalid enum value 'loud'"),
        ("SLUICE_MODELS", '[{"name": "a", "path": "b", "bath": 1}]', "`models[0].bath`: there is no such key"),
        ("SLUICE_AUTH__KEYS", "secret", "`auth.keys`: Expected `array`, got `str`"),
    ],
)
def test_a_mistake_in_a_variable_is_named_with_the_variable(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, {variable: value})
    assert str(error.value).startswith(f"{variable}: ")
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load(tmp_path / "absent.toml", {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "sluice.example.org"])
def test_a_server_without_keys_is_refused_where_others_could_reach_it(host: str) -> None:
    with pytest.raises(ConfigError, match=r"auth\.keys"):
        load(None, {}, {"server": {"host": host}})
    assert load(None, {}, {"server": {"host": host}, "auth": {"keys": [KEY]}}).server.host == host
    assert load(None, {}, {"server": {"host": host}, "auth": {"required": True}}).server.host == host


def test_a_password_is_no_setting() -> None:
    with pytest.raises(ConfigError, match=r"`database`: .*PGPASSWORD"):
        load(None, {"SLUICE_DATABASE__URL": "postgresql://me:secret@host/db"})
    url = "postgresql://me@host/db"
    assert load(None, {"SLUICE_DATABASE__URL": url}).database.url == url


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_a_server_without_keys_is_welcome_on_loopback(host: str) -> None:
    assert load(None, {}, {"server": {"host": host}}).server.host == host


PATHS = st.sampled_from([("server", key) for key in Settings().server.__struct_fields__] + [("engine", "threads")])
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(PATHS, VALUES)
def test_any_value_is_taken_or_refused_with_its_key(place: tuple[str, str], value: object) -> None:
    section, key = place
    try:
        settings = load(None, {}, {section: {key: value}})
    except ConfigError as error:
        assert f"`{section}.{key}`" in str(error)
    else:
        assert getattr(getattr(settings, section), key) == value


def test_keys_are_kept_as_sha256() -> None:
    digest = "18164f3170e8b94fc50973e8ab24852fc4309c4903c574037fcda4b53ec6f68b"
    assert hash_key("sk-0123456789abcdef0123456789abcdef") == digest


@pytest.mark.parametrize("key", ["", "short", "with a space in the middle of it", "schlüssel-mit-umlaut-darin"])
def test_keys_that_are_weak_or_no_header_can_carry_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="API key"):
        hash_key(key)
