"""Orthanc's "PythonScript": loads glionode's plugin, which lies in the folder beside this one.

Orthanc puts this folder first on Python's path, so nothing here may be called as a module of the standard library.
"""

import sys
from pathlib import Path

import orthanc

sys.path.append(str(Path(__file__).resolve().parent.parent))

from plugin.orthanc_script.register import register

register(orthanc, getattr(orthanc, "_glionode", None))  # the embedded node names itself so; Orthanc does not
