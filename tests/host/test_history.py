"""The rows of a run, read by column and as a data frame."""

import sys
import types

import numpy as np
import pytest

from jaxrl.host import history
from jaxrl.types import ConfigError

ROWS = history.History(
    [
        {"env_steps": 0, "wall_seconds": 1.0, "eval/episode_return": 3.0},
        {"env_steps": 100, "wall_seconds": 2.0, "rollout/reward": 0.5},
        {"env_steps": 200, "wall_seconds": 3.0, "rollout/reward": None, "eval/episode_return": 4.0},
    ]
)


def test_columns_are_as_long_as_the_history_with_nan_where_a_row_holds_nothing():
    columns = ROWS.columns()
    assert list(columns) == ["env_steps", "wall_seconds", "eval/episode_return", "rollout/reward"]
    assert columns["env_steps"].dtype == np.int64 and columns["env_steps"].tolist() == [0, 100, 200]
    np.testing.assert_array_equal(columns["eval/episode_return"], [3.0, np.nan, 4.0])
    np.testing.assert_array_equal(columns["rollout/reward"], [np.nan, 0.5, np.nan])


def test_a_series_is_a_curve_without_gaps():
    steps, values = ROWS.series("eval/episode_return")
    assert steps.tolist() == [0, 200] and values.tolist() == [3.0, 4.0]


def test_a_metric_that_no_row_has_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no row of metrics has 'eval/return'; did you mean 'eval/episode_return'"):
        ROWS.series("eval/return")


def test_it_still_is_the_list_of_its_rows():
    assert ROWS[-1]["env_steps"] == 200 and len(ROWS) == 3


def test_a_data_frame_is_made_of_the_columns_over_env_steps(monkeypatch):
    class Frame(dict):
        def set_index(self, name):
            return name, self

    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=Frame))
    index, frame = ROWS.to_pandas()
    assert index == "env_steps" and frame.keys() == ROWS.columns().keys()


def test_without_pandas_it_says_so_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"a data frame needs pandas \(.*\); pip install pandas, or take columns\(\)"):
        ROWS.to_pandas()
