"""`curricle-train compare`: every arm, rate and seed, in this process or in several."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import forking
import pytest
from curricle import train
from curricle.schemas.chat import cards
from curricle.schemas.common.errors import DirectoryLocked, UsageError
from curricle.schemas.sealed import sealed
from curricle.train.cli import main
from curricle.train.comparison.arms import Arm, Trial, arms_of
from curricle.train.comparison.runs import _surroundings
from curricle.train.data.table import open_table
from curricle.train.records.checkpoints import locked
from curricle.train.records.comparison import ComparisonStatus
from curricle.train.records.evaluations import Evaluation, TaskRecord, write_tasks
from curricle.train.settings import CompareSettings, EvalSettings, LoraSettings
from train_tables import write_table


@pytest.fixture
def arguments(command, tmp_path):
    """Of a short comparison."""

    def of(*more, output="compared"):
        base = ["--eval.rows", "8", "--eval.every", "2", "--budget.samples", "24", "--seeds", "2"]
        return ["compare", *command(*base, *more, output=output, without="--curriculum.")[1:]]

    return of


def metrics(run, kind):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_every_arm_has_its_own_rate_and_every_seed(arguments, train_in_fork, tmp_path, capsys):
    arms = "random,hard_to_easy,constant_lr,campus?decisions=3,random_stages?decisions=3"
    done = train_in_fork(arguments("--arms", arms, "--learning-rates", "1e-3,1e-5"))
    assert done.code == 0, done.text
    out = tmp_path / "compared"
    result = json.loads((out / "compare.json").read_text())
    rows = {row["arm"]: row for row in result["rows"]}
    assert list(rows) == arms.split(",")
    for row in rows.values():
        assert min(row["tried"], key=row["tried"].get) == f"{row['learning_rate']:g}" == "0.001"
        assert row["edge"] == "highest" and row["seeds"] == 2
        assert row["spent"]["tuning"]["tokens"] > 0  # the run with the other rate
    runs = [run for run in result["runs"] if run["arm"] == "random"]
    assert [run["seed"] for run in runs] == [0, 1] and runs[0]["loss"] != runs[1]["loss"]
    trained = {str(path.relative_to(out / "random")) for path in (out / "random").glob("*/seed-?")}
    assert trained == {"lr-0.001/seed-0", "lr-1e-05/seed-0", "lr-0.001/seed-1"}
    # 56 rows are left, a tenth of which tune; they are not those that are judged by, and none is trained on
    assert "judged on 5 rows that are held out of those to train on" in done.text
    last = metrics(out / "random" / "lr-0.001" / "seed-0", "eval")[-1]
    assert last["tuning"]["tuning"]["rows"] == 5 and last["sets"]["held_out"]["rows"] == 8
    assert rows["random"]["tried"]["0.001"] == last["tuning"]["tuning"]["loss"] != last["loss"]
    # what `evaluate` leaves beside the checkpoints of the runs that are judged stands in the next page
    for arm, value in (("random", 0.5), ("hard-to-easy", 0.25)):
        for seed in range(2):
            path = out / arm / "lr-0.001" / f"seed-{seed}" / "evaluations" / "step-00000002.json"
            write_tasks(path, [TaskRecord("x", {}, [Evaluation("x", "acc", value + seed / 8, 0.1, 8, 0)])])
    assert train_in_fork(arguments("--arms", arms, "--learning-rates", "1e-3,1e-5")).code == 0
    (line,) = [
        line for line in (out / "compare.md").read_text().splitlines() if "hard_to_easy" in line and "0.31" in line
    ]
    assert "0.3125" in line and "-0.2500, same for every seed" in line
    for path in out.glob("*/*/seed-?/evaluations"):
        shutil.rmtree(path)
    # a constant rate is one, and stages at random have the lengths of CAMPUS's
    rates = {line["lr"] for line in metrics(out / "constant-lr" / "lr-0.001" / "seed-0", "train")}
    assert rates == {1e-3} and len(metrics(out / "random" / "lr-0.001" / "seed-0", "train")) == 3
    assert [f"run {number} of 15" in done.text for number in (1, 10, 15, 16)] == [True, True, True, False]
    table = (out / "compare.md").read_text()
    assert "campus?decisions=3" in table and "The best rate is at the edge" in table
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert [main(["status", str(out), "--json"]), main(["status", str(out)])] == [0, 0]
    assert capsys.readouterr().out == (
        f'{{"directory": "{out}", "state": "done", "runs": 15, "runs_done": 15, "running": [], "seconds_left": null}}\n'
        f"{out}: done, 15 of 15 runs are finished\n"
    )
    # nothing is trained again
    before = {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")}
    again = train_in_fork(arguments("--arms", arms, "--learning-rates", "1e-3,1e-5"))
    assert again.code == 0 and json.loads((out / "compare.json").read_text()) == result
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")}
    (out / "comparison.json").unlink()  # an earlier version wrote none
    assert train.status(out) == ComparisonStatus(str(out), "done", 15, 15)
    (out / "compare.json").unlink()
    assert train.status(out) == ComparisonStatus(str(out), "stopped", None, 15)


def test_several_sets_and_a_subset_for_each_seed(arguments, train_in_fork, tmp_path, write_signed):
    sets = {
        name: write_signed(tmp_path / f"{name}.parquet", rows, seed) for name, rows, seed in (("a", 6, 5), ("b", 9, 6))
    }
    given = ",".join(f"{name}={path}" for name, path in sets.items())
    more = [
        "--eval.data",
        given,
        "--subset",
        "24",
        "--arms",
        "random,easy_to_hard",
        "--average",
        "row",
        "--eval.rows",
        "0",
    ]
    done = train_in_fork(arguments(*more))
    assert done.code == 0, done.text
    result = json.loads((tmp_path / "compared" / "compare.json").read_text())
    for row in result["rows"]:
        assert row["sets"].keys() == {"a", "b"}
        means = [row["sets"][name]["row_loss"]["value"]["mean"] for name in "ab"]
        assert row["loss"]["value"]["mean"] == pytest.approx(sum(means) / 2)
    easy = next(row for row in result["rows"] if row["arm"] == "easy_to_hard")
    assert not easy["loss"]["value"]["same"]  # each seed has other rows
    digests = {
        (arm, seed): json.loads((tmp_path / "compared" / arm / "lr-0.001" / f"seed-{seed}" / "run.json").read_text())[
            "identity"
        ]["table"]["digest"]
        for arm in ("random", "easy-to-hard")
        for seed in (0, 1)
    }
    assert digests["random", 0] == digests["easy-to-hard", 0] != digests["random", 1] == digests["easy-to-hard", 1]
    line = metrics(tmp_path / "compared" / "random" / "lr-0.001" / "seed-0", "eval")[-1]
    tokens, losses = zip(*((of["tokens"], of["loss"]) for of in line["sets"].values()), strict=True)
    assert line["loss"] == pytest.approx(sum(losses) / 2) and line["tokens"] == sum(tokens)
    report = train_in_fork(["report", str(tmp_path / "compared" / "random" / "lr-0.001" / "seed-0")])
    page = (tmp_path / "compared" / "random" / "lr-0.001" / "seed-0" / "report.html").read_text()
    assert report.code == 0 and "the mean of 2 sets" in page and "on a" in page and "held out: b" in page


def test_an_order_that_no_seed_changes_says_so(arguments, train_in_fork, tmp_path):
    done = train_in_fork(arguments("--arms", "random,hard_to_easy", "--budget.samples", "16"))
    assert done.code == 0, done.text
    row = json.loads((tmp_path / "compared" / "compare.json").read_text())["rows"][1]
    assert row["loss"]["value"]["same"] and row["loss"]["value"]["interval"] is None
    assert "same for every seed" in (tmp_path / "compared" / "compare.md").read_text()
    longer = train_in_fork(arguments("--arms", "random,hard_to_easy", "--budget.samples", "24"))
    assert longer.code == 2 and "was begun with the budget" in longer.text  # a run by itself would be extended


def test_another_number_of_steps_is_said_before_and_after(arguments, train_in_fork, tmp_path):
    """Slices of a few rows, none of which fills a batch."""
    short = "campus?probe=sparse&decisions=16&pointer=own&seen=keep"
    done = train_in_fork(arguments("--arms", f"random,{short},random_stages", "--seeds", "1"))
    assert done.code == 0, done.text
    rows = json.loads((tmp_path / "compared" / "compare.json").read_text())["rows"]
    steps = {row["arm"]: int(row["steps"]) for row in rows}
    words = f"{steps[short]} steps against {steps['random']}: not comparable"
    assert f"as expected: random {steps['random']}, {short} " in done.text
    assert done.text.index("not comparable") < done.text.index("run 1 of 3") and f"{short}: {words}" in done.text
    assert f"| {words} |" in (tmp_path / "compared" / "compare.md").read_text()
    assert steps["random_stages"] == steps["random"] < steps[short]


def start(arguments):
    command = [sys.executable, "-P", "-m", "curricle.train.cli", *arguments]
    return forking.Command(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_processes_make_the_same_runs_and_one_that_fails_is_said_with_its_log(arguments, train_in_fork, tmp_path):
    """First the directory of one run is a file."""
    in_the_way = tmp_path / "several" / "easy-to-hard" / "lr-0.001" / "seed-0"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("nothing")
    more = ["--arms", "random,easy_to_hard", "--budget.samples", "16", "--seeds", "1"]
    several = arguments(*more, "--jobs", "2", output="several")
    text, _ = (process := start(several)).communicate(timeout=600)
    assert process.returncode == 1, text
    assert "the run of easy_to_hard, seed 0, learning rate 0.001 ended with code" in text and "seed-0.log" in text
    assert not (tmp_path / "several" / "compare.json").exists()
    in_the_way.unlink()
    text, _ = (process := start(several)).communicate(timeout=600)
    assert process.returncode == 0 and "run 2 of 2" in text, text
    assert "step 2" in in_the_way.with_name("seed-0.log").read_text()
    assert train_in_fork(arguments(*more, output="one")).code == 0
    one, other = (json.loads((tmp_path / name / "compare.json").read_text()) for name in ("one", "several"))
    assert [run["loss"] for run in one["runs"]] == [run["loss"] for run in other["runs"]]


@pytest.mark.parametrize("named", [None, "4, GPU-b", "MIG-a,MIG-b"])
def test_runs_take_gpus_in_turn_by_the_names_that_the_user_gave(named, monkeypatch):
    """Of instances a process sees the first alone, and torch would count one."""
    monkeypatch.setattr(cards, "count", lambda: 1 if named and named.startswith("MIG") else 2)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setenv(cards.VISIBLE, named or "")
    if named is None:
        monkeypatch.delenv(cards.VISIBLE)
    first, second = (named or "0,1").replace(" ", "").split(",")
    assert [_surroundings(slot, jobs=3)[cards.VISIBLE] for slot in range(3)] == [first, second, first]


def test_a_rate_that_diverges_is_out(arguments, train_in_fork, tmp_path):
    """In processes, and again in one that goes on."""
    rates = arguments("--arms", "random", "--seeds", "1", "--learning-rates", "1e-3,1e20")
    text, _ = (process := start([*rates, "--jobs", "2"])).communicate(timeout=600)
    done = train_in_fork(rates)
    assert process.returncode == done.code == 0, text + done.text
    for words in (text, done.text):
        assert "random, seed 0, learning rate 1e+20 is out" in words and "not finite" in words
    (row,) = json.loads((tmp_path / "compared" / "compare.json").read_text())["rows"]
    assert row["tried"]["1e+20"] is None and row["learning_rate"] == 1e-3
    assert row["spent"]["tuning"]["tokens"] > 0
    alone = train_in_fork(arguments("--arms", "random", "--seeds", "1", "--learning-rates", "1e19,1e20", output="none"))
    assert alone.code == 1 and "random: the loss is not finite with any of the learning rates" in alone.text


def test_runs_end_with_the_comparison(arguments, tmp_path):
    """Asked to stop, they save their step; and they do not outlive a comparison that is killed."""
    several = arguments("--arms", "random", "--jobs", "2", "--seeds", "1", "--budget.samples", "400000")
    run = tmp_path / "compared" / "random" / "lr-0.001" / "seed-0"

    def begun():
        return (run / "metrics.jsonl").exists() and metrics(run, "train")

    process = start([*several, "--checkpoint.every", "0"])
    while not begun() and process.poll() is None:
        time.sleep(0.1)
    while (running := train.status(tmp_path / "compared")).state == "running" and not running.running[0].seconds_left:
        time.sleep(0.1)
    assert (running.runs, running.runs_done) == (1, 0) and running.running[0].directory == str(run)
    process.terminate()
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "the same command goes on" in text, text
    assert len(list((run / "checkpoints").glob("step-*"))) == 1 and not locked_by_another(run)
    assert train.status(tmp_path / "compared") == ComparisonStatus(str(tmp_path / "compared"), "stopped", 1, 0)
    process = start(several)
    while "going on after step" not in run.with_name("seed-0.log").read_text() and process.poll() is None:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    for _ in range(600):
        if not locked_by_another(run):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the run goes on")
    assert train.status(tmp_path / "compared").state == "dead"


def locked_by_another(run):
    try:
        with locked(run):
            return False
    except DirectoryLocked:
        return True


def test_without_held_out_rows_it_is_refused(command, train_in_fork, tmp_path):
    done = train_in_fork(["compare", *command(without="--curriculum.")[1:]])
    assert done.code == 2 and "nothing is held out" in done.text
    assert not (tmp_path / "run").exists()


def test_it_refuses_before_anything_is_trained(command, train_in_fork, tmp_path):
    cases = {
        "there is no column 'lost'": ["--arms", "random,sorted?by=lost"],
        "did you mean 'campus'": ["--arms", "random,campsu"],
        "is not NAME?key=value": ["--arms", "random,sorted?loss"],
        "the arms leave out 'random'": ["--arms", "campus"],
        "two arms have the directory 'random'": ["--arms", "random,random"],
        "sets budget.steps": ["--arms", "random,random?budget.steps=3"],
        "optimizer.schedule is 'flat'": ["--arms", "random,random?optimizer.schedule=flat"],
        "--seeds is 0": ["--seeds", "0"],
        "--tuning-seeds 4 of --seeds 3": ["--tuning-seeds", "4"],
        "--learning-rates is 0.0": ["--learning-rates", "1e-3,0"],
        "--subset is 90, and there are 56 rows": ["--subset", "90"],
    }
    for words, more in cases.items():
        done = train_in_fork(["compare", *command("--eval.rows", "8", *more, without="--curriculum.")[1:]])
        assert done.code == 2 and words in done.text, f"{words}: {done.text}"
        assert not (tmp_path / "run").exists()


def settings_of(tmp_path, **more):
    return CompareSettings(data=tmp_path, model="m", output=tmp_path, eval=EvalSettings(rows=4), **more)


def test_rows_that_tune_and_judge_are_reported(command, train_in_fork, tmp_path, write_signed):
    both = str(write_signed(tmp_path / "both.parquet", 6, 5))
    more = ["--eval.data", both, "--eval.tuning", both, "--arms", "random", "--learning-rates", "1e-3", "--seeds", "1"]
    done = train_in_fork(["compare", *command(*more, "--jobs", "2", without="--curriculum.")[1:]])
    assert done.code == 0 and done.text.count("6 of 6 rows of tuning in --eval.tuning stand in --eval.data") == 1, (
        done.text
    )


def test_an_arm_sets_options_of_its_curriculum_and_of_the_trainer(tmp_path):
    settings = settings_of(tmp_path, lora=LoraSettings(alpha=3.0))
    arm = Arm.of("hard_to_easy?by=kind&optimizer.schedule=constant&optimizer.lr=3e-4&lora.rank=2", settings)
    assert arm.curriculum == "sorted" and arm.options == {"direction": "hard_to_easy", "by": "kind"}
    trial = Trial.of(arm, *arm.rates(settings), 2, settings)
    run = trial.settings
    assert (run.optimizer.schedule, run.optimizer.lr, run.lora) == ("constant", 3e-4, LoraSettings(2, 3.0))
    assert run.seed == 2 and run.output.name == "seed-2" and "learning rate 0.0003" in str(trial)
    with pytest.raises(UsageError, match=r"sets optimizer\.lr"):
        Arm.of("random?optimizer.lr=1e-3", settings_of(tmp_path, learning_rates=(1e-3, 1e-4)))


def test_commas_between_values_of_an_option_part_no_arms(tmp_path):
    flag = "random,mixture?temperature=2,mixture?order=random&weights=*a*=3,*=1,multistage?stages=a,b,easy_to_hard"
    arms = arms_of(settings_of(tmp_path, arms=tuple(flag.split(","))))
    assert [arm.text for arm in arms] == [
        "random",
        "mixture?temperature=2",
        "mixture?order=random&weights=*a*=3,*=1",
        "multistage?stages=a,b",
        "easy_to_hard",
    ]
    assert arms[2].options["weights"] == "*a*=3,*=1"
    with pytest.raises(UsageError, match="unknown arm 'smpled'"):
        arms_of(settings_of(tmp_path, arms=("random", "mixture?temperature=2", "smpled")))


def test_random_stages_are_random_rows_in_the_stages_of_campus(tmp_path):
    from curricle.train.curricula import build
    from curricle.train.curricula.course import Course
    from curricle.train.data.table import open_table

    columns = {name: [float((row * step) % 101) for row in range(101)] for name, step in (("loss", 7), ("words", 31))}
    table = open_table(write_table(tmp_path / "table.parquet", columns))
    options = {"perspectives": "loss,words", "decisions": "10"}

    def stages(name, seed=3, **more):
        course = Course(build(name, {**more}), table, seed, 4)
        rows, sizes = [], []
        while len(rows) < 2 * len(table):
            stage = course.next()
            assert stage.choice is None and not stage.outcome
            rows += stage.rows.tolist()
            sizes.append(len(stage.rows))
        return rows, sizes

    rows, sizes = stages("random_stages", **options)
    plain, _ = stages("random")
    assert rows[: len(plain)] == plain[: len(rows)] and sorted(rows[:101]) == list(range(101))
    assert len(sizes) > 10 and max(sizes) > min(sizes)
    assert stages("random_stages", **options) == (rows, sizes) != stages("random_stages", seed=4, **options)


def test_every_run_is_named_by_how_many_there_are(arguments, train_in_fork):
    done = train_in_fork(arguments("--arms", "random", "--seeds", "3", "--budget.samples", "8"))
    assert done.code == 0 and re.findall(r"run \d of \d", done.text) == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]


def test_runs_that_train_on_rows_that_they_are_judged_by_are_not_compared_with_others(tmp_path):
    """An earlier version began them so: a line in run.json says on which rows."""
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(20)]})
    judged = write_table(tmp_path / "judged.parquet", {"loss": [1.0] * 5}, first=17)
    run = tmp_path / "cmp" / "random" / "lr-2e-05" / "seed-0"
    run.mkdir(parents=True)

    def compared(digest: str) -> None:
        about = {"identity": {"table": {"digest": digest}}, "settings": {}}
        (run / "run.json").write_text(sealed(json.dumps(about)))
        train.compare(data, "nowhere", tmp_path / "cmp", eval={"data": judged}, arms=["random"])

    with pytest.raises(UsageError, match="they are left out now"):
        compared(open_table(data).digest)
    with pytest.raises(UsageError, match="nowhere"):  # of other rows: what the run itself refuses
        compared("0" * 32)
