"""MLflow, a window on the pipeline and never a source: nothing here can change a number.

This is the only code that imports MLflow, and no dep of any stage in dvc.yaml. Telemetry is
switched off here, before any module of this package can import MLflow, which reads it then.
"""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
