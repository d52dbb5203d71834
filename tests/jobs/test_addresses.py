"""jobs/addresses.py: which entries of a list are no paths, what they are called, and that none carries a secret."""

from __future__ import annotations

import random

import pytest

from audio_tokenizers.errors import UsageError
from jobs.addresses import check_address, hide_secrets, is_address, is_pipe, place_of, scheme_of


def test_paths_and_addresses() -> None:
    """Only what begins with a scheme, or with `pipe:`, is no path."""
    entries = ("s3://b/a.tar", "https://h/a.tar", "pipe:cat a.tar", "/d/s3://b/a.tar", "d/a.tar", "a:b.tar", "pipes/a.tar")
    assert [entry for entry in entries if is_address(entry)] == list(entries[:3])
    assert [scheme_of(entry) for entry in entries[:4]] == ["s3", "https", None, None]
    assert [entry for entry in entries if is_pipe(entry)] == ["pipe:cat a.tar"]


@pytest.mark.parametrize(
    "entry",
    [
        *(
            "s3://bucket/a/b.tar",
            "https://h:8080/a.tar?download=true&v=2",
            "hf://datasets/o/n@main/a.tar",
            "http://[::1]:80/a.tar",
        ),
        *('pipe:curl -s -H "Authorization: Bearer $HF_TOKEN" https://h/a.tar', "pipe:aws s3 cp s3://b/a.tar - | gunzip"),
        "pipe:curl -n https://h/a.tar?token=$TOKEN",
    ],
)
def test_entries_that_can_be_opened(entry: str) -> None:
    """Addresses of all kinds, and commands that have their secrets from the environment."""
    check_address(entry)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("gs://bucket/a.tar", "gs:// is not read: s3://, https://, http://, hf:// are"),
        ("file:///d/a.tar", "file:// is not read"),
        ("S3://bucket/a.tar", "S3:// is not read"),
        ("s3://bucket", "expected an address of a tar"),
        ("https:///a.tar", "expected an address of a tar"),
        ("https://[h/a.tar", "no address"),
        ("pipe: ", "expected a command"),
    ],
)
def test_entries_that_cannot(entry: str, words: str) -> None:
    """Each is refused with what is read instead."""
    with pytest.raises(UsageError) as caught:
        check_address(entry)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        "https://user:hunter2@h/a.tar",
        "https://hunter2@h/a.tar",
        "s3://KEY:hunter2@bucket/a.tar",
        "https://h/a.tar?X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Signature=hunter2",
        "https://h/a.tar?x=1&sig=hunter2",
        "https://h/a.tar?access_token=hunter2",
        "https://h/a.tar?api-key=hunter2",
        "pipe:curl -s https://h/a.tar?X-Amz-Signature=hunter2",
        "pipe:curl -s https://u:hunter2@h/a.tar",
        "pipe:curl -H 'Authorization: Bearer hunter2' https://h/a.tar",
        "pipe:curl -u me:hunter2 https://h/a.tar",
        "pipe:curl --user=me:hunter2 https://h/a.tar",
    ],
)
def test_secrets(entry: str) -> None:
    """A name that everyone will read in records and logs holds none; what is said of it does not repeat it."""
    with pytest.raises(UsageError, match="stand") as caught:
        check_address(entry)
    assert "hunter2" not in str(caught.value)


def test_what_is_hidden_in_words_of_libraries() -> None:
    """An error may name the signed address that a server has sent on to."""
    said = "404, message='x', url='https://cdn/a?X-Amz-Signature=hunter2&x=1' after http://u:hunter2@h/"
    assert hide_secrets(said) == "404, message='x', url='https://cdn/a?X-Amz-Signature=...&x=1' after http://...@h/"
    assert hide_secrets("s3://b/a.tar?versionId=7") == "s3://b/a.tar?versionId=7"


@pytest.mark.parametrize(
    ("tar", "place"),
    [
        ("/d/a.tar", "/d/a.tar"),
        ("s3://bucket/d/a.tar", "/bucket/d/a.tar"),
        ("s3://bucket/d/a%20b?.tar", "/bucket/d/a%20b?.tar"),
        ("https://h:8080/d/a%20b%2Fc.tar.gz?v=1#x", "/h:8080/d/a b_c.tar.gz"),
        ("https://h/../x//./a%0a.tar", "/h/x/a_.tar"),
        ("hf://datasets/o/n@v1/d/a.tar", "/datasets/o/n@v1/d/a.tar"),
        ("pipe:curl -s 'https://h/d/a.tar?x=1' | cat", "/h/d/a.tar"),
        ("pipe:aws s3 cp s3://b/k.tar.gz -", "/b/k.tar.gz"),
        ("pipe:cat ../d/a.tar", "/d/a.tar"),
        ("pipe:it's unbalanced", "/pipe-7d83d4b4"),
    ],
)
def test_places(tar: str, place: str) -> None:
    """Where the name of an output comes from: the path of the address, as people read it, and never one that leads out."""
    found = str(place_of(tar))
    assert found == place or (place.startswith("/pipe-") and found.startswith("/pipe-") and len(found) == len(place))


def test_any_text() -> None:
    """Whatever stands in a list is taken or refused in words, and its place is one below the run."""
    seeded = random.Random(13)
    pieces = (
        "s3",
        "https",
        "pipe:",
        "://",
        "/",
        "..",
        "@",
        "?",
        "=",
        "&",
        "%2e%2e",
        "%00",
        "\x7f",
        "[",
        "]",
        ":",
        "é",
        "a.tar",
        " ",
        "'",
        "sig",
    )
    for _ in range(4000):
        text = "".join(seeded.choice(pieces) for _ in range(seeded.randrange(1, 14)))
        if not is_address(text):
            continue
        try:
            check_address(text)
        except UsageError:
            continue
        parts = place_of(text).parts
        assert parts[0] == "/"
        assert len(parts) > 1
        assert not {"..", ""} & set(parts)
        assert not any(character in part for part in parts[1:] for character in "\0\n\t/")
