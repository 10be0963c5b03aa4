"""YAML files: every mistake is listed at once, with the nearest right key."""

import pytest

from cytolora.config.grid import GridSpec
from cytolora.config.yaml import load_grid, read_spec, shipped_grids
from cytolora.errors import ConfigError

GRID = """
name: mine
datasets: [herlev]
models: [nano]
shots: [1, all]
methods:
  linear:
    budget: {amount: 100, unit: epochs}
"""


def test_every_shipped_grid_loads():
    assert {"smoke", "exp1", "exp2", "exp3"} <= set(shipped_grids())
    assert [load_grid(name).name for name in shipped_grids()] == list(shipped_grids())


def test_a_file_of_ones_own_is_a_grid(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GRID)
    assert load_grid(str(path)).shots == (1, "all")


def test_all_mistakes_are_listed_at_once_with_the_nearest_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GRID.replace("models", "model") + "learning_rate: [0.1]\nbatch_size: many\n")
    with pytest.raises(ConfigError) as error:
        load_grid(str(path))
    text = str(error.value)
    assert "unknown key 'model' (did you mean 'models'?)" in text
    assert "unknown key 'learning_rate' (did you mean 'learning_rates'?)" in text
    assert "models is missing" in text
    assert "batch_size" in text
    assert "'many'" in text


def test_a_range_error_inside_says_where(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GRID.replace("amount: 100", "amount: 0"))
    with pytest.raises(ConfigError, match=r"methods\.linear\.budget: A budget needs amount >= 1"):
        read_spec(path, GridSpec)


def test_an_unknown_grid_says_which_are_known():
    with pytest.raises(ConfigError, match="Did you mean 'smoke'"):
        load_grid("smok")


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- 1", "is not valid")])
def test_a_file_that_is_no_grid_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_grid(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said():
    with pytest.raises(ConfigError, match=r"Cannot read nowhere\.yaml: No such file"):
        load_grid("nowhere.yaml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seeds: [1, 1]", r"seeds name 1 twice; name each value once"),
        ("learning_rates: [0.001, 1.0e-3]", r"learning_rates name 0\.001 twice"),
        ("learning_rates: [.nan]", r"learning_rates is a finite number, got nan"),
        ("weight_decay: .inf", r"weight_decay is a finite number, got inf"),
        ("seeds: [-3]", r"from 0 to 2\^63 - 1, got -3"),
        ("fractions: [0.5, 0.5]", r"fractions name 0\.5 twice"),
    ],
)
def test_a_value_that_no_run_can_have_or_that_is_named_twice_is_refused(tmp_path, line, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{GRID}{line}\n")
    with pytest.raises(ConfigError, match=message):
        load_grid(str(path))


@pytest.mark.parametrize(("axis", "value"), [("datasets", "herlev"), ("models", "nano"), ("shots", "1")])
def test_an_axis_that_names_a_value_twice_is_refused_in_a_file(tmp_path, axis, value):
    path = tmp_path / "mine.yaml"
    path.write_text(GRID.replace(f"{axis}: [{value}", f"{axis}: [{value}, {value}"))
    with pytest.raises(ConfigError, match=f"{axis} name .*{value}.* twice"):
        load_grid(str(path))


def test_a_method_with_an_empty_list_of_rates_is_refused(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(GRID + "    learning_rates: []\n")
    with pytest.raises(ConfigError, match=r"methods\.linear\.learning_rates is empty; .* or leave it out"):
        load_grid(str(path))


def test_a_rate_that_a_method_names_twice_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GRID + "    learning_rates: [0.1, 0.1]\n")
    with pytest.raises(ConfigError, match=r"methods\.linear\.learning_rates name 0\.1 twice"):
        load_grid(str(path))
