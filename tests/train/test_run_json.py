"""What a run was started with, also where an earlier version wrote it."""

import copy
import json

import pytest
from curricle.schemas.common.errors import UsageError
from curricle.schemas.contract import tagged
from curricle.schemas.sealed import sealed
from curricle.train.records.run_json import RUN, Description
from curricle.train.settings import HELD_OUT, EvalSettings, RunSettings, identity


@pytest.mark.parametrize("data", [None, "held.parquet"])
def test_a_run_of_an_earlier_version_is_the_same_run(tmp_path, data):
    """It had one held-out table or none, no tuning set and no subset."""

    def description(**more):
        paths = {} if data is None else {HELD_OUT: tmp_path / data}
        settings = RunSettings(data=tmp_path, model="m", output=tmp_path, eval=EvalSettings(rows=8, data=paths), **more)
        about = {"settings": identity(settings), "table": {}, "model": {}, "rendering": {}}
        return Description(settings, json.loads(json.dumps(about)))

    then = copy.deepcopy(description().identity)
    for key in ("tuning", "tuning_rows"):
        del then["settings"]["eval"][key]
    del then["settings"]["subset"]
    then["settings"]["eval"]["data"] = None if data is None else str(tmp_path / data)
    about = {"identity": then, "settings": {}, "finished": 3}
    (tmp_path / RUN).write_text(sealed(json.dumps(tagged("run", about))))
    assert description().before()["finished"] == 3
    with pytest.raises(UsageError, match="subset: 0 there, 4 now"):
        description(subset=4).before()
    then["settings"]["eval"]["data"] = "another.parquet"
    (tmp_path / RUN).write_text(sealed(json.dumps(tagged("run", about))))
    with pytest.raises(UsageError, match=r"another\.parquet"):
        description().before()
