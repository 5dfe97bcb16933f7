import numpy as np
import pandas as pd
import pytest

from duodiff_pipeline.analysis.exit_statistics import depths_by_bin, exit_curve, exit_panels, exit_summary

L = 13


def exit_table(depths_ne: list[list[int]], timesteps: list[float], threshold: float = 0.07) -> pd.DataFrame:
    rows = [
        (threshold, image, evaluation, timesteps[evaluation], depth)
        for image, depths in enumerate(depths_ne)
        for evaluation, depth in enumerate(depths)
    ]
    return pd.DataFrame(rows, columns=["threshold", "image", "evaluation", "timestep", "exit_depth"])


TABLE = exit_table([[2, 2, 13, 13], [2, 2, 2, 13], [2, 13, 3, 13]], [999, 666, 333, 0])


def test_panels_do_not_depend_on_the_order_of_rows() -> None:
    both = pd.concat([exit_table([[13, 13]], [999, 0], threshold=0.05), TABLE]).sample(frac=1, random_state=0)
    first, second = exit_panels(both)
    assert (first.threshold, second.threshold) == (0.05, 0.07)
    assert first.depths.tolist() == [[13, 13]]
    assert second.depths.tolist() == [[2, 2, 13, 13], [2, 2, 2, 13], [2, 13, 3, 13]]
    assert second.timesteps.tolist() == [999, 666, 333, 0]


def test_curve_is_mean_and_clipped_band() -> None:
    curve = exit_curve(TABLE, L)
    assert curve["timestep"].tolist() == [999, 666, 333, 0]
    at_666 = np.array([2, 2, 13])
    row = curve.iloc[1]
    assert row["mean_depth"] == pytest.approx(at_666.mean())
    assert row["low_depth"] == 2  # mean - std is below the least depth that occurs
    assert row["high_depth"] == pytest.approx(at_666.mean() + at_666.std())
    assert row["share_early"] == pytest.approx(2 / 3)
    assert curve.iloc[3][["mean_depth", "low_depth", "high_depth", "share_early"]].tolist() == [13, 13, 13, 0]


def test_curve_merges_evaluations_at_one_timestep() -> None:
    heun = exit_table([[2, 2, 4, 13]], [999, 500, 500, 0])
    assert exit_curve(heun, L)["timestep"].tolist() == [999, 500, 0]
    assert exit_curve(heun, L)["mean_depth"].tolist() == [2, 3, 13]


def test_summary_written_out() -> None:
    row = exit_summary(TABLE, L).iloc[0]
    assert row["mean_depth"] == pytest.approx((2 + 2 + 13 + 13 + 2 + 2 + 2 + 13 + 2 + 13 + 3 + 13) / 12)
    assert row["share_full"] == pytest.approx(5 / 12)
    assert row["plateau_depth"] == 2
    assert row["share_plateau"] == pytest.approx(6 / 12)
    assert row["early_evaluations_mean"] == pytest.approx(np.mean([2, 3, 2]))
    assert row["early_evaluations_std"] == pytest.approx(np.std([2, 3, 2]))
    assert row["changes_mean"] == pytest.approx((1 + 1 + 3) / 3)
    assert row["share_one_change"] == pytest.approx(2 / 3)


def test_summary_of_a_network_that_never_exits_early() -> None:
    row = exit_summary(exit_table([[13, 13]], [999, 0]), L).iloc[0]
    assert pd.isna(row["plateau_depth"])
    assert (row["share_full"], row["share_plateau"], row["changes_mean"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (TABLE.drop(columns="timestep"), "lacks the columns"),
        (TABLE.iloc[:0], "empty"),
        (TABLE.assign(threshold=np.nan), "empty cells"),
        (TABLE.iloc[1:], "each once"),
        (pd.concat([TABLE, TABLE]), "each once"),
        (TABLE.assign(timestep=TABLE["timestep"] + TABLE["image"]), "same for all images"),
        (TABLE.assign(timestep=-TABLE["timestep"]), "never rise"),
        (TABLE.assign(exit_depth=TABLE["exit_depth"] - 3), "whole numbers"),
        (TABLE.assign(exit_depth=TABLE["exit_depth"] + 0.5), "whole numbers"),
    ],
)
def test_malformed_tables_are_refused(broken: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exit_panels(broken)


def test_exits_deeper_than_the_network_are_refused() -> None:
    for statistic in (exit_curve, exit_summary):
        with pytest.raises(ValueError, match="has 12 blocks"):
            statistic(TABLE, 12)


def test_depths_by_bin_are_means_between_evaluations() -> None:
    """Means 2, 17/3, 6, 13 at timesteps 999, 666, 333, 0; of the three last, that at 666 is the least."""
    found = depths_by_bin(TABLE, 0.07, 10, 1000)
    expected = np.interp(np.arange(50, 1000, 100), [0, 333, 666, 999], [13, 6, 17 / 3, 2])
    assert found == pytest.approx(list(expected))
    assert depths_by_bin(TABLE, 0.07, 1, 1000) == pytest.approx([np.interp(500, [333, 666], [6, 17 / 3])])


def test_depths_by_bin_that_rise_towards_noise_become_their_means() -> None:
    rising = exit_table([[8, 2, 6, 4]], [90, 60, 30, 0])
    found = depths_by_bin(rising, 0.07, 3, 90)
    middles = np.interp([15, 45, 75], [0, 30, 60, 90], [4, 6, 2, 8])
    assert found == pytest.approx([middles[0], middles[1:].mean(), middles[1:].mean()])
    assert found == sorted(found, reverse=True)


def test_depths_by_bin_of_a_threshold_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no threshold 0\.5"):
        depths_by_bin(TABLE, 0.5, 10, 1000)
