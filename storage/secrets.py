"""Credentials: where they may stand, and how they are kept out of what people read.

They come from where each client looks for them (``AWS_ACCESS_KEY_ID``, ``~/.aws``, a role; ``fsspec``'s own
configuration), never from a URI: a URI is written into manifests, logs and Prefect's database.
"""

import os
import re

HIDDEN = "***"
SHORTEST = 8  # characters; a shorter value would be found in ordinary words
# Names of variables whose values no text of ours may show.
SECRET_NAMES = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|AUTH_STRING|API_KEY|ACCOUNT_KEY|STORAGE_KEY|ACCESS_KEY|SAS|"
    r"CONNECTION_STRING|CONNECTION_URL"
)
PATHS = re.compile(r"_FILE$|_PATH$|_DIR$|^GOOGLE_APPLICATION_CREDENTIALS$")  # where a secret is, not what it is
# name:secret@ before a host; a secret may hold slashes, but "host:8080/" and "arn:..." are none.
USERINFO = re.compile(r"(?<=://)(?!arn:)[^/\s:@'\"]*:(?!\d{1,5}/)[^\s@'\"]*@")
# Query parameters of signed URLs: S3's, Google's and Azure's, and the names that people give their own.
SIGNED = re.compile(
    r"((?:X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|AWSAccessKeyId|Signature|sig|"
    r"token|access_token|key|secret|password)=)[^&\s'\"]+",
    re.IGNORECASE,
)
QUERIES = ("http", "https")  # elsewhere '?' is a letter of a name


def has_credentials(uri: str) -> bool:
    """Whether a URI holds a user's secret: ``name:secret@`` before its host, or a signature or key in its query."""
    protocol, _, rest = uri.partition("://")
    if not rest:
        return False
    if USERINFO.search(uri):
        return True
    return protocol in (*QUERIES, "s3", "s3a", "gs", "gcs", "abfs", "az") and bool(
        SIGNED.search(rest.partition("?")[2])
    )


def without_secrets(text: str) -> str:
    """The text with ``***`` for credentials in URIs, signatures in queries and the values of secret variables."""
    text = SIGNED.sub(rf"\1{HIDDEN}", USERINFO.sub(f"{HIDDEN}@", text))
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and SECRET_NAMES.search(name.upper()) and not PATHS.search(name.upper()):
            text = text.replace(value, HIDDEN)
    return text
