"""MLflow, a window on the pipeline and never a source: nothing here can change a number.

The window is a way back as well: `states`, `checkout` and `outs` go from a run through git and DVC
to the files that it shows, and `so_far` asks DVC which results are up to date.

This is the only code that imports MLflow, and no dep of any stage in dvc.yaml. Telemetry is
switched off here, before any module of this package can import MLflow, which reads the setting
when it is imported.
"""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
