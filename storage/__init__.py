"""Bytes, tables, images, arrays and receipts over fsspec; knows no torch, no prefect and no model.

A stage builds its files in memory (``table_bytes``, ``encode_png``, ``arrays_bytes``) and hands them to
``write_shard``, which writes them to a ``Store`` one by one, each whole or not at all, and the manifest last.
"""

from storage.arrays import arrays_bytes, read_arrays
from storage.errors import (
    BadUriError,
    ConflictError,
    CorruptError,
    HeldError,
    MissingError,
    RefusedError,
    StorageError,
    UnavailableError,
)
from storage.images import (
    EXTENSIONS,
    IMAGE_TYPE,
    ImageFormat,
    decode_image,
    encode_image,
    encode_png,
    encode_preview,
    image_struct,
    shrink_image,
)
from storage.leases import LEASE_FILE, Holder, lease
from storage.listing import FoundFile, iter_files, join_uri, read_file
from storage.manifest import (
    OutputRecord,
    ShardManifest,
    config_hash,
    delete_shard,
    is_done,
    is_intact,
    list_shards,
    read_shard,
    read_shards,
    read_stage,
    remove_shard,
    shard_outputs,
    write_shard,
    write_stage,
)
from storage.retries import impatient, is_client_error, is_transient
from storage.runs import (
    Damage,
    StageState,
    Waste,
    delete_stage,
    delete_waste,
    find_damage,
    find_runs,
    find_waste,
    read_states,
)
from storage.secrets import has_credentials, without_secrets
from storage.sorting import SortedRecords
from storage.store import Store
from storage.tables import read_metadata, read_table, read_tables, stack, table_bytes, vectors
from storage.webdataset import sample_name, tar_bytes

__all__ = [
    "EXTENSIONS",
    "IMAGE_TYPE",
    "BadUriError",
    "ConflictError",
    "CorruptError",
    "Damage",
    "FoundFile",
    "HeldError",
    "Holder",
    "ImageFormat",
    "LEASE_FILE",
    "MissingError",
    "OutputRecord",
    "RefusedError",
    "ShardManifest",
    "SortedRecords",
    "StageState",
    "StorageError",
    "Store",
    "Waste",
    "UnavailableError",
    "arrays_bytes",
    "config_hash",
    "decode_image",
    "delete_shard",
    "delete_stage",
    "delete_waste",
    "encode_image",
    "encode_png",
    "encode_preview",
    "find_damage",
    "find_runs",
    "find_waste",
    "has_credentials",
    "image_struct",
    "impatient",
    "is_client_error",
    "is_transient",
    "is_done",
    "is_intact",
    "list_shards",
    "iter_files",
    "join_uri",
    "lease",
    "read_arrays",
    "read_file",
    "read_stage",
    "read_metadata",
    "read_shard",
    "read_shards",
    "read_states",
    "read_table",
    "read_tables",
    "remove_shard",
    "sample_name",
    "shard_outputs",
    "shrink_image",
    "stack",
    "table_bytes",
    "tar_bytes",
    "vectors",
    "without_secrets",
    "write_stage",
    "write_shard",
]
