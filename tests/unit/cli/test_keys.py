"""`residency keys`, run as a user runs it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from residency.platform.cli.keys_command import keys_app
from residency.platform.errors import BadInputError
from residency.platform.serving.key_ring import KeyRing, add_key, key_digest, read_keys, revoke_key

run = CliRunner().invoke


def test_a_key_is_shown_once_and_kept_as_a_digest(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "keys.json"
    made = run(keys_app, ["add", "ward-7", "--file", str(file), "--requests", "60"])
    api_key = made.stdout.strip()
    assert made.exit_code == 0
    assert api_key.startswith("res-")
    assert api_key not in file.read_text()
    assert read_keys(file)[0].sha256 == key_digest(api_key)
    listed = run(keys_app, ["list", "--file", str(file)]).stdout
    assert "ward-7" in listed
    assert "60 requests a minute" in listed
    assert run(keys_app, ["revoke", "ward-7", "--file", str(file)]).exit_code == 0
    assert "revoked" in run(keys_app, ["list", "--file", str(file)]).stdout


def test_a_running_ring_follows_its_file(tmp_path: Path) -> None:
    file, now = tmp_path / "keys.json", [0.0]
    one = add_key(file, "one")
    ring = KeyRing(None, file, clock=lambda: now[0])

    def known(key: str) -> bool:
        now[0] += 2.0
        return ring.find(f"Bearer {key}".encode()) is not None

    assert known(one)
    two = add_key(file, "two")
    assert known(two)
    revoke_key(file, "one")
    assert not known(one)
    file.unlink()
    assert not known(two)


def test_mistakes_are_told(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with pytest.raises(BadInputError, match="does not exist"):
        read_keys(file)
    add_key(file, "one")
    with pytest.raises(BadInputError, match="is taken"):
        add_key(file, "one")
    with pytest.raises(BadInputError, match="the key's id"):
        add_key(file, "no spaces")
    with pytest.raises(BadInputError, match="has no key 'two'"):
        revoke_key(file, "two")
    file.write_text("{}x")
    with pytest.raises(BadInputError, match="is no key file"):
        read_keys(file)
