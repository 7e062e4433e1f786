"""Secrets: random, kept as hashes, encrypted under keys that can be changed."""

import pytest

from project.core.secrets import InvalidToken, decrypt, encrypt, new_token, same, token_hash
from tests.conftest import ChangeSettings

OLD, NEW, OTHER = ("old-secret-key-" + "x" * 20, "new-secret-key-" + "y" * 20, "other-" + "z" * 30)


def test_tokens_say_what_they_are_and_are_never_the_same() -> None:
    tokens = {new_token("ct") for _ in range(200)}

    assert len(tokens) == 200
    assert all(token.startswith("ct_") and len(token) >= 46 for token in tokens)


def test_a_hash_is_always_the_same_and_differs_for_another_token() -> None:
    assert token_hash("ct_one") == token_hash("ct_one")
    assert token_hash("ct_one") != token_hash("ct_two")
    assert len(token_hash("ct_\ud800 \x00 é")) == 32


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("a", "a", True), ("a", "b", False), ("a", "", False), ("é", "é", True), ("a", "aa", False)],
)
def test_secrets_are_compared_whole(one: str, other: str, expected: bool) -> None:
    assert same(one, other) is expected


def test_a_surrogate_from_a_header_is_simply_another_secret() -> None:
    assert not same("\udcff", "secret")


class TestEncryption:
    def test_what_was_encrypted_can_be_read_and_shows_nothing(
        self, change_settings: ChangeSettings
    ) -> None:
        change_settings(secret_keys=(NEW,))

        sealed = encrypt("whsec_Grüße")

        assert decrypt(sealed) == "whsec_Grüße"
        assert b"whsec" not in sealed
        assert encrypt("whsec_Grüße") != sealed

    def test_after_a_change_of_keys_the_old_one_still_reads(
        self, change_settings: ChangeSettings
    ) -> None:
        change_settings(secret_keys=(OLD,))
        sealed = encrypt("text")

        change_settings(secret_keys=(NEW, OLD))

        assert decrypt(sealed) == "text"

    def test_the_first_key_is_the_one_that_writes(self, change_settings: ChangeSettings) -> None:
        change_settings(secret_keys=(NEW, OLD))
        sealed = encrypt("text")

        change_settings(secret_keys=(NEW,))
        assert decrypt(sealed) == "text"

        change_settings(secret_keys=(OLD,))
        with pytest.raises(InvalidToken):
            decrypt(sealed)

    def test_no_other_key_reads(self, change_settings: ChangeSettings) -> None:
        change_settings(secret_keys=(OLD,))
        sealed = encrypt("text")

        change_settings(secret_keys=(NEW, OTHER))

        with pytest.raises(InvalidToken):
            decrypt(sealed)

    def test_what_was_tampered_with_is_not_read(self, change_settings: ChangeSettings) -> None:
        change_settings(secret_keys=(OLD,))
        sealed = encrypt("text")

        with pytest.raises(InvalidToken):
            decrypt(sealed[:-5] + b"AAAA=")

    def test_keys_are_spelled_for_good(self, change_settings: ChangeSettings) -> None:
        """What an earlier version wrote must stay readable: the derivation never changes."""
        change_settings(secret_keys=("a-key-of-the-first-release",))

        assert decrypt(SEALED_BY_THE_FIRST_RELEASE) == "whsec_kept"


SEALED_BY_THE_FIRST_RELEASE = (
    b"gAAAAABrASH_vU2C0gI5ERsM47Tu60_um2tAj2fIw__QwXpFTZ"
    b"sKYUJPBo8qPR2gJJQ-sgBhL32E-rpKk12N5XeKXoHOkws2UQ=="
)
