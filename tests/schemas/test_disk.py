"""What is asked of a directory before anything is written there."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from curricle.schemas.common.disk import check_writable
from curricle.schemas.common.errors import UsageError


def test_rights_are_looked_at_where_the_directory_would_be_made(tmp_path):
    check_writable(tmp_path / "new" / "deeper")
    (tmp_path / "file").write_text("")
    for directory in ("file", "file/run"):
        with pytest.raises(UsageError, match="is a file"):
            check_writable(tmp_path / directory)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who has no rights here")
def test_somebody_without_rights_is_told():
    closed = Path(tempfile.mkdtemp())
    try:
        closed.chmod(0o755)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setresuid(12345, 12345, 12345)
                check_writable(closed / "run")
            except UsageError as error:
                code = 0 if "cannot be written to" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        shutil.rmtree(closed)
