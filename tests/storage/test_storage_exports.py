import subprocess
import sys
from pathlib import Path

import storage
from storage import arrays, errors, images, leases, listing, manifest, runs, secrets, sorting, store, tables, webdataset

REPOSITORY = Path(__file__).parents[2]
MODULES = (arrays, errors, images, leases, listing, manifest, runs, secrets, sorting, store, tables, webdataset)
OF_RETRIES = {"impatient", "is_client_error", "is_transient"}  # the others are for the rooms' own use
CONSTANTS = {"EXTENSIONS", "IMAGE_TYPE", "ImageFormat", "LEASE_FILE"}


def test_all_names_what_the_modules_define():
    defined = {
        name
        for module in MODULES
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }
    assert set(storage.__all__) == defined | CONSTANTS | OF_RETRIES


def test_all_names_are_documented():
    assert [name for name in storage.__all__ if name not in CONSTANTS and not getattr(storage, name).__doc__] == []


def test_import_brings_in_neither_torch_nor_prefect():
    script = (
        "import sys, storage;"
        "print(*sorted({'torch', 'prefect', 'pipeline', 'flows', 'kernels'} & {m.split('.')[0] for m in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert found.stdout.split() == []
