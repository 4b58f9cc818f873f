from __future__ import annotations

import pytest

from steerline.tracking.redact import MASK, Redactor, is_secret_name


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db.passwd",
        "secret",
        "client_secret",
        "api_key",
        "apiKey",
        "OPENAI_API_KEY",
        "Authorization",
        "token",
        "hf_token",
        "authToken",
        "model.hub.access_token",
        "RAY_AUTH_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_PASSWORD",
        "github_pat",
        "credentials",
        "aws_session_token",
        "X-Api-Key",
        "private_key",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "train/tokens_per_s",
        "max_tokens",
        "num_tokens",
        "tokenizer",
        "pad_token",
        "eos_token",
        "data.mask_token",
        "token_mask",
        "loss_on",
        "steering.boost_keys",
        "key_entropy",
        "train/key_entropy/layer_00",
        "top_keys",
        "keep_sign",
        "RAY_AUTH_MODE",
        "AWS_ACCESS_KEY_ID",
        "per_token",
        "steering.token_position",
    ],
)
def test_names_of_this_field_are_not_taken_for_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_secret_fields_are_masked_in_nested_values_and_the_rest_is_kept() -> None:
    tree = {"model": {"hub_token": "abc", "name": "SmolLM2"}, "list": [{"password": "p"}, 3], "pad_token": "<pad>"}
    assert Redactor().tree(tree) == {
        "model": {"hub_token": MASK, "name": "SmolLM2"},
        "list": [{"password": MASK}, 3],
        "pad_token": "<pad>",
    }


def test_the_values_of_secret_environment_variables_are_masked_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct-horse-battery")
    monkeypatch.setenv("MY_SERVICE_MODE", "training-mode")
    redactor = Redactor.from_environment()
    text = redactor.text("GET /x?auth=correct-horse-battery in training-mode")
    assert text == f"GET /x?auth={MASK} in training-mode"
    assert redactor.field("note", "uses correct-horse-battery") == f"uses {MASK}"


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijklmnopqrstuvwx",
        "ghp_0123456789abcdefghij0123456789",
        "sk-proj-abcdefghijklmnop1234",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    ],
)
def test_well_known_shapes_are_masked_in_free_text(secret: str) -> None:
    masked = Redactor().text(f"before {secret} after")
    assert masked == f"before {MASK} after"


def test_credentials_in_addresses_headers_and_diffs_are_masked() -> None:
    redactor = Redactor()
    assert redactor.text("postgresql://user:hunter2@db/mlflow") == f"postgresql://{MASK}@db/mlflow"
    assert redactor.text("Authorization: Bearer abcdefgh12345") == f"Authorization: Bearer {MASK}"
    diff = '+api_key = "0123456789"\n+export DB_PASSWORD=hunter2\n+max_tokens = "1000"\n+STEPS=4000\n'
    assert (
        redactor.text(diff) == f'+api_key = "{MASK}"\n+export DB_PASSWORD={MASK}\n+max_tokens = "1000"\n+STEPS=4000\n'
    )


def test_ordinary_text_passes_unchanged() -> None:
    text = "The token embeddings of layer 3: key entropy 2.31 nats; see https://example.org/a@b?x=1"
    assert Redactor().text(text) == text
