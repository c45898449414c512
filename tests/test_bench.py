import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import timing
from bench.timing import Contender, Goal

ROOT = Path(__file__).parent.parent
HAS_PEERS = all(
    importlib.util.find_spec(peer) for peer in ("albumentations", "segmentation_models_pytorch")
)


def test_contenders_take_turns_and_every_second_round_runs_backwards():
    turns = []

    def contender(name):
        return Contender(name, lambda: turns.append(name) or float(len(turns)))

    times = timing.interleave([contender("a"), contender("b")], 3)
    assert turns == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert times == {"a": [3.0, 6.0, 7.0], "b": [4.0, 5.0, 8.0]}


def test_a_ratio_is_of_medians_and_its_quartiles_are_of_single_rounds():
    times = {"ours": [1.0, 2.0, 4.0], "peer": [4.0, 6.0, 4.0]}  # 4, 3 and 1 times ours
    ratio = timing.ratio(times, "ours", "peer")
    assert (ratio.of_medians, ratio.lower, ratio.upper) == (2.0, 2.0, 3.5)
    assert str(ratio) == "2.00x (2.00 to 3.50)"


def test_the_fastest_is_of_those_that_are_asked_for():
    times = {"ours": [1.0], "slow": [9.0, 1.0, 9.0], "quick": [3.0, 3.0, 8.0]}
    assert timing.fastest(times, ["slow", "quick"]) == "quick"


@pytest.mark.parametrize(
    ("number", "at_most", "holds"),
    [(1.6, False, True), (1.59, False, False), (1.6, True, True), (1.61, True, False)],
)
def test_a_goal_is_reached_at_its_limit(number, at_most, holds):
    assert Goal("a peer", number, 1.6, at_most).holds is holds


@pytest.mark.parametrize(
    ("numbers", "judged", "status"),
    [([2.0, 3.0], True, 0), ([2.0, 1.0], True, 1), ([2.0, 1.0], False, 0)],
)
def test_the_exit_status_says_whether_all_goals_hold(numbers, judged, status, capsys):
    goals = [Goal(f"peer {k}", number, 2.0) for k, number in enumerate(numbers)]
    assert timing.conclude(goals, judged=judged) == status
    last = capsys.readouterr().out
    assert last.count("\n") == 1
    assert f"{numbers[0]:.2f}x peer 0 (at least 2: holds)" in last
    assert ("MISSED" in last) is (numbers[1] < 2)


def test_a_table_is_aligned_markdown():
    assert timing.table(["who", "ms"], [["ours", "1"], ["a peer", "12.5"]]).splitlines() == [
        "| who    |   ms |",
        "| ------ | ---: |",
        "| ours   |    1 |",
        "| a peer | 12.5 |",
    ]


def test_times_are_printed_with_three_digits_and_no_exponent():
    assert timing.milliseconds([0.001234, 0.002, 4.0]) == "2 (1.62 to 2001)"


@pytest.mark.skipif(not HAS_PEERS, reason="`make bench-setup` installs the peers")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "arguments",
    [
        ["loading"],
        ["preparing"],
        ["train_step"],
        ["train_step", "--backbone", "xception65"],
        ["evaluation"],
        ["tracking"],
    ],
    ids=" ".join,
)
def test_a_bench_runs_on_tiny_sizes_and_judges_nothing(arguments, tmp_path):
    finished = run_bench(*arguments, "--quick", folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1].endswith("; sizes too small to be judged")


@pytest.mark.skipif(HAS_PEERS, reason="the peers are installed")
@pytest.mark.parametrize("name", ["loading", "train_step"])
def test_a_bench_without_its_peers_says_how_to_install_them(name, tmp_path):
    finished = run_bench(name, "--quick", folder=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].endswith("`make bench-setup` installs the peers")
    assert "Traceback" not in finished.stderr


def test_an_archive_that_is_not_there_is_told_in_one_line(tmp_path):
    finished = run_bench("preparing", "--quick", "--images", "missing.tar", folder=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr == "error: missing.tar: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repetitions", "0"], "'0' is not a whole number above 0"),
        (["--counts", "100"], r"--counts: [100]: expected two or more, ascending, 10 or more"),
        (["--counts", "9", "20"], r"--counts: [9, 20]: expected two or more, ascending"),
        (["--counts", "20", "20"], r"--counts: [20, 20]: expected two or more, ascending"),
    ],
)
def test_numbers_that_nothing_can_be_measured_with_are_refused(arguments, message, tmp_path):
    finished = run_bench("preparing", *arguments, folder=tmp_path)
    assert finished.returncode == 2
    assert message in finished.stderr


def run_bench(name, *arguments, folder):
    """A bench in a process of its own, from another working folder."""
    return subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
