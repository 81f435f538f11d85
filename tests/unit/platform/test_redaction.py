import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.redaction import redact, secret_values

SECRET = "s3cr3tValue"


@pytest.mark.parametrize(
    "text",
    [
        f"api_key={SECRET}",
        f"GET https://host/v1?key={SECRET}&model=m",
        f"password={SECRET}; retrying",
        f"token = '{SECRET} with spaces'",
        f'{{"api_key": "{SECRET}", "model": "m"}}',
        f"{{'OPENAI_API_KEY': '{SECRET}'}}",
        f'body was "{{\\"token\\": \\"{SECRET}\\"}}"',
        f"X-Api-Key: {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"'authorization': 'Bearer {SECRET}'",
        f"Authorization: Basic {SECRET}==",
        f"sent bearer {SECRET} to the server",
        f"Cookie: session={SECRET}",
        f"https://user:{SECRET}@host:8000/v1 refused",
        f"https://:{SECRET}@host refused",
        f"s3://AKIAUSER:{SECRET}@bucket/x",
        f"Incorrect API key provided: {SECRET}.",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"hf token: {SECRET}",
        f"password: {SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\ncut off",
        f"X-Amz-Signature={SECRET}&x=1",
    ],
)
def test_the_secret_is_gone_and_the_rest_is_there(text: str) -> None:
    hidden = redact(text, {})
    assert SECRET not in hidden
    assert "<redacted>" in hidden
    assert redact(hidden, {}) == hidden


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF123456", "hf_abcdefghijklmnop", "ghp_abcdefghijklmnopqrst", "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOi.eyJzdWIiOi.abc-def", "xoxb-1234567890-abc",
    ],
)  # fmt: skip
def test_keys_of_known_form_are_hidden_wherever_they_stand(secret: str) -> None:
    assert redact(f"refused ({secret})", {}) == "refused (<redacted>)"


@pytest.mark.parametrize(
    "text",
    [
        "generator-0 died: out of memory (SIGKILL), exit code -9",
        "https://host:8000/v1/models answered 503",
        "step (0, 3) trains on rl-3/abc, which is answered",
        "4096 tokens wanted, at most 512; key rl-3/17 was asked twice",
        "the basic plan; a token was missing; image 0123456789abcdef is not loaded",
        "mail me@host.example about it",
        "prompt_token_ids: 57 of them, max_new_tokens: 64",
    ],
)
def test_a_cause_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text, {}) == text


def test_values_of_secret_looking_variables_are_hidden() -> None:
    environment = {
        "MY_SERVICE_TOKEN": "plainword", "DB_PASSWORD": "plainword-and-more", "OPENAI_API_KEY": "1", "HOME": "/home/me",
        "RAY_AUTH_MODE": "disabled", "TOKENIZERS_PARALLELISM": "falsefalse", "PWD": "/home/me/work", "MONKEYS": "two",
    }  # fmt: skip
    assert secret_values(environment) == ["plainword-and-more", "plainword"]
    said = redact("plainword, plainword-and-more, /home/me/work, disabled", environment)
    assert said == "<redacted>, <redacted>, /home/me/work, disabled"


def test_the_process_own_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "wherever-it-stands")
    assert redact("said wherever-it-stands") == "said <redacted>"


@given(st.text(alphabet="kepasswordtn=:'\"\\ <>&;,@/.BearerSK-_019\n", max_size=80))
def test_twice_is_once(text: str) -> None:
    once = redact(text, {})
    assert redact(once, {}) == once
