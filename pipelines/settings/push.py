"""The options of ``curricle push``."""

import re
from dataclasses import dataclass

from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class PushSettings:
    table: str = option("a finished table", positional=True, path=True)
    repository: str = option("the dataset on the hub, OWNER/NAME; it is made if there is none", positional=True)
    upload: bool = option("do it; left out: say what would be uploaded, and ask nobody", False)
    public: bool = option("if it is made, let everybody see it; one that is there stays as it is", False)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not _REPOSITORY.fullmatch(self.repository):
            raise UsageError(f"{self.repository!r} is no name of a dataset", remedy="name it OWNER/NAME")
