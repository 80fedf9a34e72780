"""Places in object stores, and where they are: from options, the environment, and files that programs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmove.errors import ConfigurationError
from fastmove.migrate.bucket import Access, Bucket, parse_bucket
from fastmove.migrate.store_failure import failure


@pytest.mark.parametrize(
    ("text", "bucket"),
    [
        ("s3://archive", Bucket("archive")),
        ("s3://archive/", Bucket("archive")),
        ("s3://my.archive-2/a/b_c", Bucket("my.archive-2", "a/b_c")),
        ("s3://archive/site=north/2026/", Bucket("archive", "site=north/2026")),
    ],
)
def test_place_is_a_bucket_and_a_prefix(text: str, bucket: Bucket) -> None:
    assert parse_bucket(text) == bucket
    assert str(bucket) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    ["s3:/archive", "archive/x", "s3://", "s3://ab", "s3:///x", "s3://a:b@archive", "s3://-archive", "s3://archive?x=y"]
    + [f"s3://archive/{prefix}" for prefix in ("a//b", "../a", "a/..", "./a", "a b", "a?b", "a%2fb", "ä", "a\nb")],
)
def test_place_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is written as|no name of a bucket|no good prefix"):
        parse_bucket(text)


@pytest.mark.parametrize(
    "url",
    ["https://store:9000", "http://localhost:9000", "http://127.0.0.1:9000", "http://127.1.2.3", "http://[::1]:1"],
)
def test_endpoint_by_tls_or_on_this_host_is_taken(url: str) -> None:
    assert Access(url).completed({}).endpoint == url
    assert Access().completed({"AWS_ENDPOINT_URL": url}).endpoint == url


@pytest.mark.parametrize("url", ["http://store:9000", "http://10.0.0.1", "http://localhost.example", "http://127.evil"])
def test_endpoint_without_tls_elsewhere_is_refused_unless_it_is_wished(url: str) -> None:
    for access, environment in ((Access(url), {}), (Access(), {"AWS_ENDPOINT_URL_S3": url})):
        with pytest.raises(ConfigurationError, match="without TLS"):
            access.completed(environment)
        assert access.replace(allow_http=True).completed(environment).plain


@pytest.mark.parametrize("url", ["store:9000", "ftp://store", "https://", "https://a:word@store", "https://store?a=b"])
def test_endpoint_that_cannot_be_meant_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is written as") as caught:
        Access(url).completed({})
    assert "word" not in str(caught.value)


def test_option_goes_before_environment_and_that_before_the_profile(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = north\nendpoint_url = https://profile\nca_bundle = /etc/ca.pem\n")
    files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    found = Access().completed(files)
    assert (found.endpoint, found.region, found.authorities) == ("https://profile", "north", Path("/etc/ca.pem"))
    named = {
        "AWS_ENDPOINT_URL": "https://general",
        "AWS_ENDPOINT_URL_S3": "https://special/",
        "AWS_DEFAULT_REGION": "west",
        "AWS_REGION": "east",
        "AWS_CA_BUNDLE": "/ca.pem",
    }
    found = Access().completed(files | named)
    assert (found.endpoint, found.region, found.authorities) == ("https://special", "east", Path("/ca.pem"))
    found = Access("https://option", "south").completed(files | named)
    assert (found.endpoint, found.region) == ("https://option", "south")


def test_keys_of_a_profile_are_taken_unless_the_environment_has_some(tmp_path: Path) -> None:
    shared, config = tmp_path / "credentials", tmp_path / "config"
    shared.write_text(
        "[default]\naws_access_key_id=AK0\naws_secret_access_key=SK0\n"
        "[pacs]\naws_access_key_id=AK1\naws_secret_access_key=S%K1\naws_session_token=T1\n"
    )
    config.write_text("[profile pacs]\nregion=north\n[profile sso]\nsso_session=x\n")
    files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(shared)}

    def keys(**named: str) -> tuple[str, str, str]:
        found = Access().completed(files | named)
        return found.access_key_id, found.secret_access_key, found.session_token

    assert keys() == ("AK0", "SK0", "")
    assert keys(AWS_PROFILE="pacs") == ("AK1", "S%K1", "T1")
    assert keys(AWS_PROFILE="pacs", AWS_ACCESS_KEY_ID="AK2") == ("", "", "")  # the library has them
    assert Access().completed(files | {"AWS_PROFILE": "pacs"}).region == "north"
    assert "AK1" not in repr(Access().completed(files | {"AWS_PROFILE": "pacs"}))
    with pytest.raises(ConfigurationError, match="no profile 'other'"):
        keys(AWS_PROFILE="other")
    with pytest.raises(ConfigurationError, match="export-credentials"):
        keys(AWS_PROFILE="sso")
    shared.write_text("aws_secret_access_key = SECRET")
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        keys()
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words", "away"),
    [
        ("status code: 403 Forbidden: <Error><Code>AccessDenied</Code>", "access is denied (403 AccessDenied)", False),
        ("status code: 403 Forbidden: ", "access is denied (403)", False),
        ("status code: 503 Slow: <Error><Code>SlowDown</Code>", "fewer requests (503 SlowDown)", True),
        ("status code: 500 Oops: <Error><Code>InternalError</Code>", "the request failed (500 InternalError)", True),
        ("status code: 429 Too Many Requests", "the request failed (429)", True),
        ("kind: Connect, ConnectionRefused", "it cannot be reached (Connect)", True),
        ("kind: Timeout", "it does not answer in time (Timeout)", True),
        ("Error performing PUT http://1.2.3.4/latest/api/token - status code: 403", "there are no credentials", False),
    ],
)
def test_failure_is_told_in_our_words_and_quotes_nothing(text: str, words: str, away: bool) -> None:
    quoted = "<AWSAccessKeyId>AKID</AWSAccessKeyId><StringToSign>https://host/DOE^JANE</StringToSign>"
    found = failure(RuntimeError(f"Generic S3 error: {text}{quoted}"))
    assert words in str(found)
    assert found.away is away
    assert "AKID" not in str(found)
    assert "JANE" not in str(found)
