"""Credentials in URIs and in texts: refused, or shown as ***."""

import pytest

from storage import BadUriError, Store, has_credentials, without_secrets

KEY, SECRET = "AKIAPLANTED000000001", "planted/Secret+0123456789abcdef"


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://{KEY}:{SECRET}@bucket/run",
        f"gs://user:{SECRET}@bucket/run",
        f"https://user:{SECRET}@host/run",
        f"https://host/run?X-Amz-Signature={SECRET}",
        f"abfs://box@account.dfs.core.windows.net/run?sv=1&sig={SECRET}",
        f"ftp://:{SECRET}@host/run",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_shown(uri: str):
    assert has_credentials(uri)
    with pytest.raises(BadUriError, match="must hold no credentials") as raised:
        Store(uri)
    assert SECRET not in str(raised.value)
    assert SECRET not in without_secrets(f"got {uri!r}: no such bucket")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a@b:c",
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/name/a@b",
        "abfs://box@account.dfs.core.windows.net/run",
        "http://host:8080/a@b",
        "/home/me:you@here/run",
        "a b/c?sig=x",
        "file:///a:b@c/run",
    ],
)
def test_ordinary_uris_have_none(uri: str):
    assert not has_credentials(uri)
    assert without_secrets(uri) == uri or uri.endswith("sig=x")


def test_values_of_secret_variables_are_hidden(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:planted-password")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/etc/keys/robot.json")
    monkeypatch.setenv("SHORT_TOKEN", "true")
    text = f"true: {SECRET} and admin:planted-password of /etc/keys/robot.json"
    assert without_secrets(text) == "true: *** and *** of /etc/keys/robot.json"
