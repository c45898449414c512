"""Where a row's numbers come from, as bytes that can be found again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files


@dataclass(frozen=True)
class Origin:
    """What a row or a submission was computed from.

    Attributes:
        key: of the row, or see `of_submission`.
        checkpoint: path, as in dvc.yaml.
        checkpoint_md5: of its bytes, as in dvc.lock.
        data: path of the split.
        data_md5: likewise.
        params_sha256: of the entries of params.yaml, the row's and its model's, as canonical JSON.
    """

    key: str
    checkpoint: str
    checkpoint_md5: str
    data: str
    data_md5: str
    params_sha256: str


def of_submission(key: str) -> str:
    """What a submission is called here: a row may have the same key."""
    return f"submission {key}"


def read(
    rows: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Mapping[str, Any]],
    checkpoints: Path,
    data_folder: Path,
) -> list[Origin]:
    """Reads and digests each file once.

    Args:
        rows: and submissions of params.yaml, by key.
        networks: of params.yaml, models and imports by key.
        checkpoints: folder of them.
        data_folder: the folder `data`; rows name their split from where it stands.
    """
    split_md5 = {
        data: files.digest(data_folder.parent / data, "md5")
        for data in dict.fromkeys(row["data"] for row in rows.values())
    }
    checkpoint_md5 = {
        model: files.digest(checkpoints / f"{model}.safetensors", "md5")
        for model in dict.fromkeys(row["model"] for row in rows.values())
    }
    return [
        Origin(
            key=key,
            checkpoint=f"{checkpoints.name}/{row['model']}.safetensors",
            checkpoint_md5=checkpoint_md5[row["model"]],
            data=row["data"],
            data_md5=split_md5[row["data"]],
            params_sha256=files.digest_of_json({"row": row, "model": networks[row["model"]]}),
        )
        for key, row in rows.items()
    ]
