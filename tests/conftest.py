import os

import pytest
import synthetic
import torch

from pipeline.splits import Split

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


@pytest.fixture(scope="session")
def split(tmp_path_factory):
    """Four images of four sizes, each with pixels of its own and some void."""
    path = tmp_path_factory.mktemp("split") / "four.arrow"
    return Split(synthetic.write_split(path, [(33, 33), (21, 30), (40, 25), (50, 61)]))
