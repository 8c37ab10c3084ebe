from tests.storage.conftest import s3_bucket

__all__ = ["s3_bucket"]
