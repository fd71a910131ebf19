"""Orthanc's "PythonScript": loads the script of glionode from the folder plugin/ beside this one.

Orthanc puts this folder first on Python's path, so no file here may have the name of a module of the standard library.
"""

import sys
from pathlib import Path

import orthanc

sys.path.append(str(Path(__file__).resolve().parent.parent))

from plugin.orthanc_script.register import register

register(orthanc, getattr(orthanc, "_glionode", None))  # the node sets it when it runs the script itself
